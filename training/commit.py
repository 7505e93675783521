"""The commit of the code that trains."""

import subprocess
from pathlib import Path

# The folder within the checkout, what has changed in the checkout, and its commit.
_QUESTIONS = ("rev-parse", "--show-prefix"), ("status", "--porcelain"), ("rev-parse", "HEAD")


def checkout_commit() -> str | None:
    """The commit that this code is of.

    None where it runs from no checkout of its own, as from a copy within another project, or from one with changes.
    """
    here = Path(__file__).parent
    try:
        place, changes, commit = (_git(here, *words) for words in _QUESTIONS)
    except (OSError, subprocess.CalledProcessError):  # There is no git, or no checkout.
        return None
    return commit if place == f"{here.name}/" and not changes else None


def _git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
