"""The command line of training: sweeps, tables and figures, and what is said where something is wrong."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from click.testing import CliRunner, Result

from smdguard.model_folder import AUDIT
from tests.training.finished_runs import finished_run, write_run
from training import sweep
from training.__main__ import main
from training.audits import PARTIAL
from training.commands import run
from training.commands import sweep as sweep_command
from training.data import TrainingData
from training.loop import TrainingDivergedError
from training.recipes import Recipe, recipe_for
from training.start import claim
from training.sweep import Summary

ROOT = Path(__file__).parents[2]
TINY = ["--methods", "naive", "--datasets", "mnist", "--seeds", "0", "--members", "2", "--epochs", "1"]


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    write_run(finished_run("smd-lenet-mnist", white={"FGSM": 0.7, "*": 0.2}, worst=0.05), tmp_path / "runs")
    return tmp_path / "runs"


def test_tables_go_to_standard_output_or_into_a_file(runs: Path, tmp_path: Path) -> None:
    printed = invoke("tables", runs)
    assert printed.exit_code == 0
    assert "| MNIST | SMD | `-` 99.0 (99.3) | `=` 70.0 (70.7) |" in printed.output
    assert invoke("tables", runs, "--output", tmp_path / "tables.md").output == ""
    assert (tmp_path / "tables.md").read_text() == printed.output


def test_figures_go_into_a_folder(runs: Path, tmp_path: Path) -> None:
    result = invoke("figures", runs, "--output", tmp_path / "figures")
    assert (result.exit_code, result.output) == (0, f"12 files are in {tmp_path / 'figures'}\n")
    assert (tmp_path / "figures" / "worst-case-x3.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["sweep", "--output", "{}/runs", "--data-root", "{}/none"], 1, "add --download to fetch it"),
        (["sweep", "--output", "{}/runs", "--methods", "smd,sdm"], 2, "'sdm' is not one of 'naive'"),
        (["sweep", "--output", "{}/runs", "--seeds", "0,-1"], 2, "-1 is not in the range x>=0"),
        (["sweep", "--output", "{}/runs", "--members", "3,9"], 2, "9 is not in the range 2<=x<=8"),
        (["sweep", "--output", "{}/runs", "--parameter", "weight"], 2, "'weight' is not of the form NAME=VALUE"),
        (
            ["sweep", "--output", "{}/runs", "--methods", "smd,naive", "--parameter", "weight=2"],
            1,
            "naive has no parameter 'weight'; it has none",
        ),
        (["sweep"], 2, "Missing option '--output'"),
        (["run", "smd-lenet-mnist", "--output", "{}/run", "--device", "gpu"], 2, "'gpu' is not one of 'auto', 'cpu'"),
        (["run", "smd-lenet-mnist", "--output", "{}/run", "--learning-rate", "nan"], 1, "learning_rate: Input should"),
        (["run", "smd-lenet-mnist", "--output", "{}/smd-lenet-mnist/recipe.json"], 2, "recipe.json' is a file"),
        (["tables", "{}/none"], 2, "does not exist"),
        (["run", "smd", "--architecture", "lenet", "--output", "{}/run", "--download"], 2, "--download is for known"),
        (
            ["tables", "{}", "{}/smd-lenet-mnist"],
            1,
            "smd-lenet-mnist holds no audited run; name the folder that a sweep",
        ),
        (["figures", "{}/smd-lenet-mnist", "--output", "{}/figures"], 1, "smd-lenet-mnist holds no audited run; name"),
        (["tables", "{}", "--output", "/dev/null/x"], 1, "/dev/null/x cannot be written: File exists"),
        (["tables", "{}", "{}/other"], 1, "is a second smd-lenet-mnist; name only one"),
        (["figures", "{}", "{}/other", "--output", "{}/figures"], 1, "is a second smd-lenet-mnist; name only one"),
    ],
)
def test_errors_are_one_line(tmp_path: Path, arguments: list[str], status: int, message: str) -> None:
    for folder in (tmp_path, tmp_path / "other"):
        write_run(finished_run("smd-lenet-mnist"), folder)
    result = invoke(*(argument.format(tmp_path) for argument in arguments))
    assert result.exit_code == status
    assert message in result.output
    assert result.output.count("\n") == 1 or status == 2


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (["naive-lenet-mnist-at", "--adversarial-parameter", "num_steps=0"], "num_steps"),
        (
            ["smd-lenet-mnist", "--init", "smd-lenet-fashion-mnist"],
            "as what is trained, and is not (its own -> wanted): mean (0.286,) -> (0.1307,), std (",
        ),
        (["naive-lenet-mnist", "--init", "gal-lenet-mnist"], "(its own -> wanted): negative_slope 0.1 -> 0.0\n"),
    ],
)
def test_what_is_refused_leaves_no_folder(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: list[str], message: str
) -> None:
    monkeypatch.setattr(run, "load_training_data", lambda *_, **__: data)
    result = invoke("run", *refused, "--output", tmp_path / "new", "--device", "cpu")
    assert result.exit_code == 1
    assert message in result.output
    assert not (tmp_path / "new").exists()


class Begun(NamedTuple):
    """What a training would have been begun with."""

    recipe: Recipe
    data: TrainingData
    folder: Path
    device: torch.device
    evaluate_every: int | None
    origins: dict[str, Path]
    division: object


@pytest.fixture
def begun(data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> list[Begun]:
    """Trainings of `run` that would begin, which are only written down."""
    trainings = []

    def noted(*arguments: Any) -> SimpleNamespace:
        trainings.append(Begun(*arguments))
        return SimpleNamespace(clean_accuracy=0.5)

    monkeypatch.setattr(run, "load_training_data", lambda *_, **__: data)
    monkeypatch.setattr(run, "_train", noted)
    return trainings


def test_models_to_start_from_and_to_attack_are_handed_on(begun: list[Begun], tmp_path: Path) -> None:
    wanted = {"--init": ["naive-lenet-mnist"], "--holdout": ["adp-lenet-mnist", "naive-lenet-mnist-s1"]}
    options = [word for option, models in wanted.items() for model in models for word in (option, model)]
    result = invoke("run", "smd-plus-lenet-mnist-eat", *options, "--output", tmp_path / "new", "--device", "cpu")
    assert result.exit_code == 0, result.output
    (training,) = begun
    names = {origin: folder.name for origin, folder in training.origins.items()}
    assert [names[training.recipe.init]] == wanted["--init"]
    assert [names[holdout] for holdout in training.recipe.holdouts] == wanted["--holdout"]


@pytest.mark.parametrize(("options", "expected"), [([], None), (["--evaluate-every", 3], 3)])
def test_how_often_to_attack_held_out_images_is_handed_on(
    begun: list[Begun], tmp_path: Path, options: list[str], expected: int | None
) -> None:
    assert invoke("run", "naive-lenet-mnist", *options, "--output", tmp_path / "new", "--device", "cpu").exit_code == 0
    assert [training.evaluate_every for training in begun] == [expected]


@pytest.mark.parametrize(("options", "status"), [([], 1), (["--resume"], 0)])
def test_a_folder_with_something_in_it_is_gone_on_with_only_where_that_is_asked_for(
    begun: list[Begun], tmp_path: Path, options: list[str], status: int
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    result = invoke("run", "naive-lenet-mnist", *options, "--output", tmp_path, "--device", "cpu")
    assert result.exit_code == status
    assert [training.folder for training in begun] == ([tmp_path] if options else [])
    assert ("is not empty; add --resume" in result.output) == (not options)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_is_one_line(begun: list[Begun], tmp_path: Path) -> None:
    result = invoke("run", "naive-lenet-mnist", "--output", tmp_path / ("a" * 300), "--device", "cpu")
    assert result.exit_code == 1
    assert result.output.endswith("a/recipe.json cannot be written: File name too long\n")
    assert result.output.count("\n") == 1
    assert begun == []


def test_a_folder_of_another_recipe_is_refused_before_anything_is_trained_into_it(
    begun: list[Begun], tmp_path: Path
) -> None:
    claim(tmp_path, recipe_for("naive-lenet-mnist"))
    result = invoke("run", "smd-plus-lenet-mnist", "--output", tmp_path, "--resume", "--device", "cpu")
    assert result.exit_code == 1
    assert "holds a training of another recipe: method naive -> smd-plus" in result.output
    assert begun == []


def test_a_failure_is_told_and_the_status_is_one(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(*_: Any, **__: Any) -> None:
        raise TrainingDivergedError("the term cross_entropy became nan")

    monkeypatch.setattr(sweep, "load_training_data", lambda *_, **__: data)
    monkeypatch.setattr(sweep, "train", diverge)
    result = invoke("sweep", *TINY, "--device", "cpu", "--output", tmp_path)
    assert result.exit_code == 1
    assert result.output.splitlines()[-2:] == [
        "naive-lenet-mnist-x2: training: the term cross_entropy became nan",
        "0 of 1 runs are trained, 0 of 1 audited, 1 failed",
    ]


def test_a_sweeps_parameters_are_those_of_its_recipes(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[Recipe] = []

    def stop(recipe: Recipe, *_: Any, **__: Any) -> None:
        trained.append(recipe)
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "load_training_data", lambda *_, **__: data)
    monkeypatch.setattr(sweep, "train", stop)
    options = ["--methods", "smd", "--datasets", "mnist", "--parameter", "saliency=logit", "--parameter", "weight=2"]
    invoke("sweep", *options, "--device", "cpu", "--output", tmp_path)
    assert [recipe.parameters for recipe in trained] == [{"weight": 2.0, "saliency": "logit"}]


def test_a_sweep_is_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    result = invoke("sweep", *TINY, "--output", tmp_path)
    assert result.exit_code == 2
    assert "without torchrun" in result.stderr
    assert not any(tmp_path.iterdir())


def test_no_time_is_a_clean_stop(data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "load_training_data", lambda *_, **__: data)
    result = invoke("sweep", *TINY, "--device", "cpu", "--output", tmp_path, "--time-limit", "0")
    assert (result.exit_code, result.output) == (
        0,
        "0 of 1 runs are trained, 0 of 1 audited, 0 failed; the time is up, the same command continues from there\n",
    )


@pytest.mark.parametrize("command", [["run", "naive-lenet-mnist"], ["sweep", *TINY, "--time-limit", "0"]])
def test_gpus_round_nothing_of_32_bits(
    begun: list[Begun], data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setattr(sweep, "load_training_data", lambda *_, **__: data)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert invoke(*command, "--device", "cpu", "--output", tmp_path / "new").exit_code == 0
    assert not torch.backends.cudnn.allow_tf32


def test_a_key_stops_it_with_one_line(data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def press(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "load_training_data", lambda *_, **__: data)
    monkeypatch.setattr(sweep, "train", press)
    result = invoke("sweep", *TINY, "--device", "cpu", "--output", tmp_path)
    assert (result.exit_code, result.output) == (
        1,
        "Error: the sweep was stopped; the same command continues from there\n",
    )


def test_a_key_stops_a_training_with_how_to_go_on(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "load_training_data", lambda *_, **__: data)
    monkeypatch.setattr(run, "train", press)
    result = invoke("run", "naive-lenet-mnist", "--device", "cpu", "--output", tmp_path / "cut")
    assert (result.exit_code, result.output) == (
        1,
        "Error: the training was stopped; the same command with --resume goes on from there\n",
    )


@pytest.mark.slow
def test_a_killed_sweep_goes_on(image_folder: Path, tmp_path: Path) -> None:
    paths = ["--data-root", str(image_folder), "--output", str(tmp_path / "runs")]
    command = [sys.executable, "-m", "training", "sweep", *TINY, "--calibration", "0", "--device", "cpu", *paths]
    settings: dict[str, Any] = {"cwd": ROOT, "env": {**os.environ, "OMP_NUM_THREADS": "1"}, "text": True}
    folder = tmp_path / "runs" / "naive-lenet-mnist-x2"
    process = subprocess.Popen(command, **settings, stderr=subprocess.DEVNULL)
    while not (folder / PARTIAL).is_dir():
        assert process.poll() is None, "the sweep ended before it could be killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / AUDIT).exists()
    again = subprocess.run(command, **settings, capture_output=True, check=False)
    assert (again.returncode, again.stdout) == (0, "1 of 1 runs are trained, 1 of 1 audited, 0 failed\n")
    # What was trained is not trained again.
    assert [line.split(":")[1] for line in again.stderr.splitlines()] == [
        " audited on 32 images, no black-box attacks yet"
    ]
    assert (folder / AUDIT).exists()
    assert not (folder / PARTIAL).exists()


def test_what_is_asked_for_reaches_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class Noted:
        def __init__(self, wanted: list[Recipe], *arguments: Any, **settings: Any) -> None:
            asked.extend([wanted, arguments, settings])

        def run(self) -> Summary:
            return Summary(0, 0, 0, 0, {}, time_is_up=False)

    monkeypatch.setattr(sweep_command, "Sweep", Noted)
    which = [
        "--methods",
        "smd,naive",
        "--datasets",
        "mnist",
        "--seeds",
        "1,0",
        "--members",
        "2",
        "--adversarial",
        "eat",
    ]
    how = ["--epochs", "7", "--schedule", "one-cycle", "--calibration", "9", "--audit-images", "50"]
    places = ["--data-root", tmp_path / "data", "--output", tmp_path, "--device", "cpu", "--download"]
    assert invoke("sweep", *which, *how, *places, "--time-limit", "25").exit_code == 0
    wanted, (folder, root, _, download, device), settings = asked
    names = [f"{method}-lenet-mnist-x2-eat{seed}" for seed in ("-s1", "") for method in ("smd", "naive")]
    assert [recipe.name for recipe in wanted] == names
    trained = {(one.num_epochs, one.learning_rate_schedule, one.num_calibration_images) for one in wanted}
    assert trained == {(7, "one-cycle", 9)}
    assert (folder, root, download, device) == (tmp_path, tmp_path / "data", True, "cpu")
    assert settings == {"num_audit_images": 50, "time_limit": 25 * 60}
