"""Audits on the command line that are killed, stopped, failing or judged by --fail-under."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.halves_module import arguments
from tests.cli.runners import OneLine, Run


def figures(document: str) -> dict[str, Any]:
    return {**json.loads(document), "seconds": 0, "command": ""}


def num_calls() -> int:
    return sys.modules["halves"].CALLS


def test_a_killed_audit_goes_on_with_the_identical_result(smdguard: Run, halves: Path) -> None:
    expected = smdguard(*arguments(output="whole"))
    needed = num_calls()
    killed = subprocess.run(
        [sys.executable, "-m", "smdguard", *map(str, arguments(output="killed"))],
        env={**os.environ, "STOP_AT": str(3 * needed // 4), "STOP_BY": str(int(signal.SIGKILL))},
        capture_output=True,
    )
    assert killed.returncode == -signal.SIGKILL
    assert list((halves / "killed" / "partial").iterdir())
    assert not (halves / "killed" / "report.json").exists()
    del sys.modules["halves"]
    again = smdguard(*arguments(output="killed"))
    assert num_calls() < needed
    assert figures(again.stdout) == figures(expected.stdout)
    assert not (halves / "killed" / "partial").exists()


def test_what_another_audit_has_finished_is_kept_and_told_of(smdguard: Run, halves: Path) -> None:
    told = "out/partial keeps what another audit has finished"
    assert told not in smdguard(*arguments(output="out")).stderr
    other = halves / "out" / "partial" / "another"
    other.parent.mkdir()
    other.write_text("its results")
    assert told in smdguard(*arguments(output="out")).stderr
    assert told not in smdguard(*arguments(output="out"), "--quiet").stderr
    assert other.read_text() == "its results"


@pytest.fixture
def keyboard() -> Iterator[None]:
    """Ctrl-C interrupts, also where the tests run in processes that leave it to another."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("keyboard")
def test_ctrl_c_leaves_a_partial_report_and_one_line(
    smdguard: Run, halves: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = smdguard(*arguments())
    with monkeypatch.context() as patch:
        patch.setenv("STOP_AT", str(2 * num_calls()))
        patch.setenv("STOP_BY", str(int(signal.SIGINT)))
        sys.modules["halves"].CALLS = num_calls() + 15  # type: ignore[attr-defined]
        stopped = smdguard(*arguments(output="stopped"), "--quiet", status=1)
    assert stopped.stderr == (
        "Error: the audit was stopped; the report covers what was finished, and the same command continues from there\n"
    )
    document = json.loads((halves / "stopped" / "report.json").read_text())
    assert document["partial"] is True
    assert document == json.loads(stopped.stdout)
    again = smdguard(*arguments(output="stopped"))
    assert figures(again.stdout) == figures(expected.stdout)


def test_fail_under_is_for_pipelines(smdguard: Run, halves: Path) -> None:
    worst = json.loads(smdguard(*arguments(), "--fail-under", 0.2).stdout)["worst_case"]["robust_accuracy"]["value"]
    result = smdguard(*arguments(), "--fail-under", 0.9, "--quiet", status=1)
    assert result.stderr == f"Error: the worst case of {worst:.4g} is below --fail-under 0.9\n"
    assert json.loads(result.stdout)["worst_case"]["robust_accuracy"]["value"] == worst


def test_a_stranger_s_folder_beside_partial_results_keeps_nothing_from_being_judged(
    smdguard: Run, halves: Path
) -> None:
    (halves / "out" / "partial" / ".ipynb_checkpoints").mkdir(parents=True)
    result = smdguard(*arguments(output="out"), "--fail-under", 0.9, status=1)
    assert "is below --fail-under 0.9" in result.stderr
    assert "keeps what another audit has finished" not in result.stderr


def test_fail_under_what_is_no_number_is_not_satisfied(smdguard: Run, halves: Path) -> None:
    assert "below --fail-under nan" in smdguard(*arguments(), "--fail-under", "nan", "--quiet", status=1).stderr


def test_a_model_that_fails_in_the_middle_is_one_clear_line(one_line: OneLine, halves: Path) -> None:
    line = one_line(*arguments("failing"), "--quiet")
    assert line == "the audit of halves:failing failed: ValueError: no more of this; see smdguard --debug"


def test_fail_under_is_not_satisfied_by_a_model_that_exits(one_line: OneLine, halves: Path) -> None:
    assert one_line(*arguments("exiting"), "--fail-under", 0.1) == "halves:exiting cannot be made: SystemExit"


def test_fail_under_is_not_satisfied_by_what_is_unreliable(smdguard: Run, halves: Path) -> None:
    model = ["--model", "halves:blind", "--data", "images"]
    options = ["--preset", "quick", "--epsilon", 0.002, "--device", "cpu", "--json", "--quiet"]
    result = smdguard("audit", *model, *options, "--fail-under", 0.5, status=1)
    assert json.loads(result.stdout)["verdict"] == "unreliable"
    assert "unreliable does not satisfy --fail-under" in result.stderr
