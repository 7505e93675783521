"""The commit that a model was trained with: one only where the code is what the commit says."""

from pathlib import Path

import pytest

from training import commit as commits
from training.commit import checkout_commit


@pytest.mark.parametrize(("changes", "commit"), [("", "0123abc"), ("M training/loop.py", None)])
def test_code_that_was_changed_is_of_no_commit(
    changes: str, commit: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"status": changes, "rev-parse": "0123abc"}
    monkeypatch.setattr(commits, "_git", lambda command, *_: answers[command])
    assert checkout_commit() == commit


def test_code_outside_of_a_checkout_is_of_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits, "__file__", str(tmp_path / "commit.py"))
    assert checkout_commit() is None
