"""The commit of the code that trains."""

import subprocess
from pathlib import Path


def checkout_commit() -> str | None:
    """The commit that this code is of; None where it runs from no checkout, or from one with changes."""
    try:
        changes, commit = (_git(*words) for words in (("status", "--porcelain"), ("rev-parse", "HEAD")))
    except (OSError, subprocess.CalledProcessError):  # There is no git, or no checkout.
        return None
    return None if changes else commit


def _git(*words: str) -> str:
    here = Path(__file__).parent
    return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()
