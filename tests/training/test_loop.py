"""The training loop: cut off anywhere it ends with the same weights, and it refuses what it cannot do right."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

from smdguard.architectures import LeNet5
from smdguard.datasets import LabelledImages
from smdguard.ensemble import Ensemble
from smdguard.errors import IntegrityError, InvalidInputError, SmdguardError
from smdguard.manifest import ModelConfig
from smdguard.model_folder import CONFIG, WEIGHTS
from tests.training.trainings import CPU, SHORT, Interruption, assert_equal_bits, interrupt
from training import loop
from training.checkpoint import FILE_NAME, Progress, restore_checkpoint, save_checkpoint
from training.data import TrainingData, load_training_data
from training.loop import train
from training.objectives import OBJECTIVES
from training.recipes import Recipe, recipe_for

# Crafting takes most of the time, and three of its ten steps show as much.
CRAFTED: dict[str, dict[str, Any]] = {
    "dverge-lenet-mnist": {"parameters": {"num_steps": 3}},
    "smd-plus-lenet-mnist": {"parameters": {"num_steps": 3}},
    "smd-lenet-mnist-at": {"adversary_parameters": {"num_steps": 3}},
    "dverge-lenet-mnist-eat": {"parameters": {"num_steps": 3}, "adversary_parameters": {"num_steps": 3}},
}
VARIANTS = [f"{method}-lenet-mnist" for method in OBJECTIVES] + ["smd-lenet-mnist-at", "dverge-lenet-mnist-eat"]


@pytest.fixture(scope="module")
def origins(data: TrainingData, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The naive ensembles that the variants start from or are attacked by."""
    folder = tmp_path_factory.mktemp("origins")
    needed = {
        name: recipe for variant in VARIANTS for name, recipe in recipe_for(variant, **SHORT).prerequisites().items()
    }
    for name, recipe in needed.items():
        train(recipe, data, folder / name, device=CPU)
    return {name: folder / name for name in needed}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / WEIGHTS)


def metrics(folder: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl, without the time that the epochs took."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def test_resumed_training_ends_with_the_same_bits(data: TrainingData, tmp_path: Path) -> None:
    recipe = recipe_for("smd-lenet-mnist", **SHORT)
    whole = train(recipe, data, tmp_path / "whole", device=CPU)
    with pytest.raises(Interruption):
        train(recipe, data, tmp_path / "cut", device=CPU, report=interrupt)
    assert (tmp_path / "cut" / FILE_NAME).exists()
    resumed = train(recipe, data, tmp_path / "cut", device=CPU)
    assert_equal_bits(tmp_path / "whole", tmp_path / "cut")
    assert resumed == whole
    assert not (tmp_path / "cut" / FILE_NAME).exists()
    assert [line["epoch"] for line in metrics(tmp_path / "cut")] == [1, 2]


@pytest.mark.parametrize("name", VARIANTS)
def test_a_training_cut_within_epochs_ends_with_the_same_bits(
    name: str, data: TrainingData, origins: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint after each of the eight steps, and a stop after every third."""
    monkeypatch.setattr(loop, "_STEPS_BETWEEN_REPORTS", 1)
    recipe = recipe_for(name, **SHORT, **CRAFTED.get(name, {}))
    train(recipe, data, tmp_path / "whole", device=CPU, origins=origins)
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    num_stops = 0
    while not (tmp_path / "cut" / CONFIG).exists():
        steps = iter((False, False, False, True))

        def stop(*_: object, steps: Iterator[bool] = steps) -> None:
            if next(steps):
                raise Interruption

        with suppress(Interruption):
            train(recipe, data, tmp_path / "cut", device=CPU, report=stop, origins=origins)
            continue
        num_stops += 1
    assert num_stops == 2
    assert_equal_bits(tmp_path / "whole", tmp_path / "cut")
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "cut")


def test_the_configuration_says_how_the_model_came_about(
    data: TrainingData, origins: dict[str, Path], tmp_path: Path
) -> None:
    recipe = recipe_for("dverge-lenet-mnist-eat", **SHORT, **CRAFTED["dverge-lenet-mnist-eat"])
    config = train(recipe, data, tmp_path, device=CPU, origins=origins)
    assert config == ModelConfig.model_validate_json((tmp_path / CONFIG).read_bytes())
    assert config.name == "dverge-lenet-mnist-x2-eat"
    assert config.objective.model_dump() == {
        "name": "dverge",
        "parameters": {"epsilon": 0.35, "num_steps": 3, "step_ratio": 0.1, "init": "naive-s0"},
        "adversarial_training": {
            "adversary": "eat",
            "epsilon": 0.1,
            "num_steps": 3,
            "step_ratio": 0.1,
            "holdouts": "naive-s101 naive-s102 naive-s103",
        },
    }
    assert config.suspicion is not None
    assert (config.suspicion.quantile, config.suspicion.num_images) == (0.99, 99)


def test_initial_weights_are_where_the_training_starts(
    data: TrainingData, origins: dict[str, Path], tmp_path: Path
) -> None:
    recipe = recipe_for("naive-lenet-mnist", **SHORT, init="naive", learning_rate=1e-12, weight_decay=0.0)
    train(recipe, data, tmp_path, device=CPU, origins=origins)
    torch.testing.assert_close(weights(tmp_path), weights(origins["naive-s0"]))


def test_a_one_cycle_has_its_peak_at_three_tenths_and_no_step_in_vain(data: TrainingData, tmp_path: Path) -> None:
    changes = {"num_epochs": 3, "batch_size": len(data.train.images) // 3, "learning_rate_schedule": "one-cycle"}
    recipe = recipe_for("naive-lenet-mnist", **SHORT | changes, learning_rate=0.021)
    rates: list[float] = []
    with register_optimizer_step_pre_hook(lambda adam, *_: rates.append(adam.param_groups[0]["lr"])):
        train(recipe, data, tmp_path, device=CPU)
    assert rates == pytest.approx([0.007, 0.014, 0.021, 0.018, 0.015, 0.012, 0.009, 0.006, 0.003])


def test_an_origin_of_another_size_is_refused(data: TrainingData, origins: dict[str, Path], tmp_path: Path) -> None:
    recipe = recipe_for("dverge-lenet-mnist", **{**SHORT, "num_members": 3})
    with pytest.raises(InvalidInputError, match="naive-s0 holds 2 lenet members"):
        train(recipe, data, tmp_path, device=CPU, origins=origins)


def test_gal_has_leaky_members(data: TrainingData, tmp_path: Path) -> None:
    config = train(recipe_for("gal-lenet-mnist", **SHORT), data, tmp_path, device=CPU)
    assert config.architecture.negative_slope == 0.1


def test_a_changed_recipe_is_refused_with_what_differs(data: TrainingData, tmp_path: Path) -> None:
    with pytest.raises(Interruption):
        train(recipe_for("smd-lenet-mnist", **SHORT), data, tmp_path, device=CPU, report=interrupt)
    changed = recipe_for("smd-lenet-mnist", **{**SHORT, "seed": 3, "parameters": {"weight": 2.0}})
    difference = r"another recipe: parameters\.weight 1\.0 -> 2\.0, seed 0 -> 3; give the settings and the images that"
    with pytest.raises(InvalidInputError, match=difference):
        train(changed, data, tmp_path, device=CPU)


def test_a_finished_training_is_left_as_it_is(data: TrainingData, tmp_path: Path) -> None:
    recipe = recipe_for("naive-lenet-mnist", **SHORT)
    config = train(recipe, data, tmp_path, device=CPU)
    before = (tmp_path / WEIGHTS).stat().st_mtime_ns
    # What a kill between the model and the end of the training leaves behind.
    (tmp_path / FILE_NAME).write_bytes(b"checkpoint")
    assert train(recipe, data, tmp_path, device=CPU) == config
    assert (tmp_path / WEIGHTS).stat().st_mtime_ns == before
    assert not (tmp_path / FILE_NAME).exists()


def test_a_training_does_not_go_on_with_other_images(data: TrainingData, tmp_path: Path) -> None:
    """The images are the same, but others of them are held out."""
    recipe = recipe_for("naive-lenet-mnist", **SHORT)
    with pytest.raises(Interruption):
        train(recipe, data, tmp_path, device=CPU, report=interrupt)
    turned = data._replace(train=LabelledImages(data.train.images.flip(0), data.train.labels.flip(0)))
    with pytest.raises(InvalidInputError, match=r"trained on other images or .*; continue with the same --data-root"):
        train(recipe, turned, tmp_path, device=CPU)
    assert train(recipe, data, tmp_path, device=CPU).name == "naive-lenet-mnist-x2"


def test_the_commit_is_that_at_the_start(data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commits = iter(["first", "second"])
    monkeypatch.setattr(loop, "checkout_commit", lambda: next(commits))
    moving_on = train(recipe_for("naive-lenet-mnist", **SHORT), data, tmp_path, device=CPU)
    assert moving_on.training.commit == "first"


@pytest.mark.parametrize(
    ("commits", "expected"),
    [(["one", "one"], "one"), (["one", "other"], None), (["one", "other", "other"], None), ([None, "one"], None)],
)
def test_the_commit_is_that_of_all_epochs_or_none(
    data: TrainingData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    commits: list[str | None],
    expected: str | None,
) -> None:
    recipe = recipe_for("naive-lenet-mnist", **{**SHORT, "num_epochs": len(commits)})
    for num_epochs, commit in enumerate(commits, start=1):

        def stop(epoch: int, *_: object, num_epochs: int = num_epochs) -> None:
            if epoch == num_epochs:
                raise Interruption

        monkeypatch.setattr(loop, "checkout_commit", lambda commit=commit: commit)
        with suppress(Interruption):
            assert train(recipe, data, tmp_path, device=CPU, report=stop).training.commit == expected
    assert (tmp_path / CONFIG).exists()


def test_a_damaged_checkpoint_is_named(data: TrainingData, tmp_path: Path) -> None:
    recipe = recipe_for("naive-lenet-mnist", **SHORT)
    with pytest.raises(Interruption):
        train(recipe, data, tmp_path, device=CPU, report=interrupt)
    (tmp_path / FILE_NAME).write_bytes(b"not safetensors")
    with pytest.raises(IntegrityError, match=FILE_NAME):
        train(recipe, data, tmp_path, device=CPU)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda tensors: {name: each for name, each in tensors.items() if not name.startswith("optimizer.3.")},
            "19 of 20 w",
        ),
        (lambda tensors: {**tensors, "optimizer.99.step": torch.zeros(())}, "list index out of range"),
    ],
    ids=["part-of-the-optimiser", "a-weight-too-many"],
)
def test_a_checkpoint_of_something_else_is_one_line(
    data: TrainingData, tmp_path: Path, change: Callable[..., dict[str, Tensor]], message: str
) -> None:
    recipe = recipe_for("naive-lenet-mnist", **SHORT)
    with pytest.raises(Interruption):
        train(recipe, data, tmp_path, device=CPU, report=interrupt)
    with safe_open(tmp_path / FILE_NAME, framework="pt") as file:
        header = file.metadata()
    save_file(change(load_file(tmp_path / FILE_NAME)), tmp_path / FILE_NAME, header)
    with pytest.raises(IntegrityError, match=f"is not a checkpoint of this training: .*{message}.*; remove it"):
        train(recipe, data, tmp_path, device=CPU)


def test_a_checkpoint_that_cannot_be_read_is_one_line(data: TrainingData, tmp_path: Path) -> None:
    recipe = recipe_for("naive-lenet-mnist", **SHORT)
    with pytest.raises(Interruption):
        train(recipe, data, tmp_path, device=CPU, report=interrupt)
    (tmp_path / FILE_NAME).unlink()
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(SmdguardError, match=f"{FILE_NAME} cannot be read: Is a directory"):
        train(recipe, data, tmp_path, device=CPU)


def test_random_numbers_of_another_device_are_told(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_for("naive-lenet-mnist", **SHORT)
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    monkeypatch.setattr(loop, "_STEPS_BETWEEN_REPORTS", 1)

    def stop(epoch: int, step: int, *_: object) -> None:
        if (epoch, step) == (1, 2):
            raise Interruption

    with pytest.raises(Interruption):
        train(recipe, data, tmp_path, device=CPU, report=stop)
    with safe_open(tmp_path / FILE_NAME, framework="pt") as file:
        header = file.metadata()
    tensors = load_file(tmp_path / FILE_NAME)
    tensors["generator.0"] = torch.zeros(16, dtype=torch.uint8)  # As large as a GPU's.
    save_file(tensors, tmp_path / FILE_NAME, {**header, "device": "cuda"})
    with pytest.raises(InvalidInputError, match=r"left within an epoch on cuda, .* go on with --device cuda$"):
        train(recipe, data, tmp_path, device=CPU)


def test_a_checkpoint_fits_weights_in_any_memory_layout(tmp_path: Path) -> None:
    ensembles, optimizers = [], []
    for _ in range(2):
        torch.manual_seed(0)
        members = [LeNet5((1, 28, 28), 10) for _ in range(2)]
        ensemble = Ensemble(members, mean=[0.0], std=[1.0]).to(memory_format=torch.channels_last)
        ensembles.append(ensemble)
        optimizers.append(torch.optim.Adam(ensemble.parameters(), fused=True))

    def step(index: int) -> None:
        optimizers[index].zero_grad()
        ensembles[index](torch.linspace(0, 1, 784).view(1, 1, 28, 28))[:, 3].sum().backward()
        optimizers[index].step()

    step(0)
    save_checkpoint(tmp_path, ensembles[0], optimizers[0], Progress("data"))
    restore_checkpoint(tmp_path, ensembles[1], optimizers[1], "data")
    step(0)
    step(1)
    torch.testing.assert_close(ensembles[1].state_dict(), ensembles[0].state_dict(), rtol=0, atol=0)


def test_a_killed_process_loses_nothing(image_folder: Path, tmp_path: Path) -> None:
    recipe = Recipe.model_validate(
        recipe_for("smd-lenet-mnist").model_dump() | {"num_epochs": 8, "num_calibration_images": 0}
    )
    options = ["--device", "cpu", "--data-root", str(image_folder), "--output", str(tmp_path / "cut")]
    command = [sys.executable, "-m", "training", "run", "smd-lenet-mnist", "--epochs", "8", "--calibration", "0"]
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [*command, *options], cwd=root, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL
    )
    while not (tmp_path / "cut" / FILE_NAME).exists():
        assert process.poll() is None, "the training ended before it could be killed"
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert not (tmp_path / "cut" / CONFIG).exists()

    data = load_training_data("mnist", image_folder, num_calibration_images=0, download=False)
    train(recipe, data, tmp_path / "cut", device=CPU)
    train(recipe, data, tmp_path / "whole", device=CPU)
    assert_equal_bits(tmp_path / "whole", tmp_path / "cut")
