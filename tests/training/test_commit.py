"""The commit that a model was trained with: one only where the code is what the commit says."""

import subprocess
from pathlib import Path

import pytest

from training import commit as commits
from training.commit import checkout_commit


def git(folder: Path, *words: str) -> str:
    author = ("-c", "user.name=someone", "-c", "user.email=someone@example.org", "-c", "commit.gpgsign=false")
    command = ["git", *author, *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of which the code is."""
    code = tmp_path / "training" / "commit.py"
    code.parent.mkdir()
    code.write_text("")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "First")
    monkeypatch.setattr(commits, "__file__", str(code))
    return tmp_path


def test_code_is_of_the_commit_that_is_checked_out(checkout: Path) -> None:
    assert checkout_commit() == git(checkout, "rev-parse", "HEAD")


def test_code_that_was_changed_is_of_no_commit(checkout: Path) -> None:
    (checkout / "training" / "loop.py").write_text("")
    assert checkout_commit() is None


def test_code_within_another_project_is_not_of_its_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = checkout / "vendor" / "smdguard" / "training" / "commit.py"
    copy.parent.mkdir(parents=True)
    copy.write_text("")
    git(checkout, "add", ".")
    git(checkout, "commit", "-m", "Second")
    monkeypatch.setattr(commits, "__file__", str(copy))
    assert checkout_commit() is None


def test_code_outside_of_a_checkout_is_of_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits, "__file__", str(tmp_path / "commit.py"))
    assert checkout_commit() is None
