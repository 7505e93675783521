"""What the zoo keeps of a sweep's runs."""

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from smdguard.report import Exhibits
from tests.training.finished_runs import finished_run, write_run
from zoo import kept_runs
from zoo.__main__ import main
from zoo.kept_runs import read_kept_runs, read_trials


@pytest.fixture(autouse=True)
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(kept_runs, "zoo_folder", lambda: tmp_path / "zoo")
    return tmp_path / "zoo"


def keep(folder: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["keep", str(folder), *options])


def test_everything_but_weights_and_exhibits_is_kept(zoo: Path, tmp_path: Path) -> None:
    run = finished_run("smd-lenet-mnist", num_members=5, white={"*": 0.25})
    shown = Exhibits(gallery=(), saliency=(), disagreement=None)
    write_run(replace(run, report=replace(run.report, exhibits=shown)), tmp_path / "sweep")
    (tmp_path / "sweep" / run.recipe.name / "model.safetensors").touch()
    assert keep(tmp_path / "sweep").output == "smd-lenet-mnist-x5\n"
    assert read_kept_runs() == [run]
    files = {path.name for path in (zoo / "runs" / "smd-lenet-mnist-x5").iterdir()}
    assert files == {"recipe.json", "config.json", "audit.json"}


def test_a_second_run_of_a_model_of_the_zoo_is_kept_as_a_trial_alone(zoo: Path, tmp_path: Path) -> None:
    run = finished_run("smd-lenet-mnist")
    write_run(run, tmp_path / "sweep")
    refused = keep(tmp_path / "sweep")
    assert refused.exit_code == 1
    assert "Error: smd-lenet-mnist is a model of the zoo already; name the --trial" in refused.output
    assert not zoo.exists()
    assert keep(tmp_path / "sweep", "--trial", "again").exit_code == 0
    assert read_trials() == {"again": [run]}


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "A"])
def test_a_trial_is_one_folder(zoo: Path, tmp_path: Path, name: str) -> None:
    write_run(finished_run("smd-lenet-mnist"), tmp_path / "sweep")
    refused = keep(tmp_path / "sweep", "--trial", name)
    assert refused.output == f"Error: a trial's name has small letters, digits, dots and dashes only, unlike {name!r}\n"
    assert not zoo.exists()


def test_the_same_run_with_another_audit_replaces_what_is_kept(tmp_path: Path) -> None:
    for share in (0.25, 0.5):
        run = finished_run("smd-lenet-mnist", num_members=5, white={"*": share})
        write_run(run, tmp_path / "sweep")
        assert keep(tmp_path / "sweep").exit_code == 0
    assert read_kept_runs() == [run]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"num_epochs": 7}, "is of another training (num_epochs 50 -> 7); remove it first"),
        ({"seed": 1, "batch_size": 64}, "were trained differently (batch_size 128 -> 64)"),
    ],
)
def test_a_run_that_was_trained_otherwise_is_not_kept(tmp_path: Path, changes: dict[str, int], told: str) -> None:
    for folder, settings in (("first", {}), ("second", changes)):
        write_run(finished_run("smd-lenet-mnist", num_members=5, **settings), tmp_path / folder)
    assert keep(tmp_path / "first").exit_code == 0
    (before,) = read_kept_runs()
    assert told in keep(tmp_path / "second").output
    assert read_kept_runs() == [before]
