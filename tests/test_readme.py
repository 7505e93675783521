"""The README's blocks run as they stand, and its table is the manifest's."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from smdguard.catalogue import read_manifest
from zoo.table import zoo_table

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
# What follows the set-up section, whose two commands make environments and are run by the continuous integration.
AFTER_SET_UP = README.partition("## What comes out")[2]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", AFTER_SET_UP, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The checkout as a stranger sees it, where commands may write."""
    for name in ("smdguard", "training", "zoo"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def run(command: list[str], folder: Path) -> str:
    scripts = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(command, cwd=folder, env={**os.environ, "PATH": scripts}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_are_blocks_to_run() -> None:
    assert len(blocks("bash")) >= 3
    assert len(blocks("python")) >= 2


@pytest.mark.parametrize("block", blocks("bash"))
def test_shell_block(block: str, checkout: Path) -> None:
    run(["bash", "-euo", "pipefail", "-c", block], checkout)


@pytest.mark.parametrize("block", blocks("python"))
def test_python_block(block: str, checkout: Path) -> None:
    assert run([sys.executable, "-W", "error", "-c", block], checkout)


def test_table_is_the_manifests() -> None:
    assert zoo_table(read_manifest()) in README


def test_pictures_exist() -> None:
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert pictures
    assert all((ROOT / picture).is_file() for picture in pictures)
