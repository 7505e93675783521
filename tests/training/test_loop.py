"""The training loop: cut off anywhere it ends with the same weights, and it refuses what it cannot do right."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from smdguard.architectures import LeNet5
from smdguard.ensemble import Ensemble
from smdguard.errors import IntegrityError, InvalidInputError
from smdguard.hub import CONFIG, WEIGHTS
from smdguard.manifest import ModelConfig
from training.checkpoint import FILE_NAME, restore_checkpoint, save_checkpoint
from training.data import TrainingData, load_training_data
from training.loop import TrainingDivergedError, train
from training.objectives import OBJECTIVES
from training.recipes import Recipe, recipe_for

CPU = torch.device("cpu")
SHORT: dict[str, Any] = {"num_epochs": 2, "batch_size": 64, "num_calibration_images": 32, "num_members": 2}
# Crafting takes most of the time, and three of its ten steps show as much.
CRAFTED: dict[str, dict[str, Any]] = {
    "dverge-lenet-mnist": {"parameters": {"num_steps": 3}},
    "smd-plus-lenet-mnist": {"parameters": {"num_steps": 3}},
    "smd-lenet-mnist-at": {"adversary_parameters": {"num_steps": 3}},
    "dverge-lenet-mnist-eat": {"parameters": {"num_steps": 3}, "adversary_parameters": {"num_steps": 3}},
}
VARIANTS = [f"{method}-lenet-mnist" for method in OBJECTIVES] + ["smd-lenet-mnist-at", "dverge-lenet-mnist-eat"]


class Interruption(Exception):
    """Stands for whatever stops a training."""


def interrupt(epoch: int, step: int, *_: object) -> None:
    if epoch == 1:
        raise Interruption


@pytest.fixture(scope="session")
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


def assert_equal_bits(first: Path, second: Path) -> None:
    assert (first / WEIGHTS).read_bytes() == (second / WEIGHTS).read_bytes()


@pytest.mark.parametrize("name", VARIANTS)
def test_resumed_training_ends_with_the_same_bits(
    name: str, data: TrainingData, origins: dict[str, Path], tmp_path: Path
) -> None:
    recipe = recipe_for(name, **SHORT, **CRAFTED.get(name, {}))
    whole = train(recipe, data, tmp_path / "whole", device=CPU, origins=origins)
    with pytest.raises(Interruption):
        train(recipe, data, tmp_path / "cut", device=CPU, report=interrupt, origins=origins)
    assert (tmp_path / "cut" / FILE_NAME).exists()
    resumed = train(recipe, data, tmp_path / "cut", device=CPU, origins=origins)
    assert_equal_bits(tmp_path / "whole", tmp_path / "cut")
    assert resumed == whole
    assert not (tmp_path / "cut" / FILE_NAME).exists()
    lines = [json.loads(line) for line in (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]


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


def test_initial_weights_are_where_the_training_starts(
    data: TrainingData, origins: dict[str, Path], tmp_path: Path
) -> None:
    recipe = recipe_for("naive-lenet-mnist", **SHORT, init="naive", learning_rate=1e-12, weight_decay=0.0)
    train(recipe, data, tmp_path, device=CPU, origins=origins)
    torch.testing.assert_close(weights(tmp_path), weights(origins["naive-s0"]))


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
    with pytest.raises(InvalidInputError, match=r"parameters .*1\.0.* -> .*2\.0.*, seed 0 -> 3"):
        train(changed, data, tmp_path, device=CPU)


def test_a_finished_training_is_left_as_it_is(data: TrainingData, tmp_path: Path) -> None:
    recipe = recipe_for("naive-lenet-mnist", **SHORT)
    config = train(recipe, data, tmp_path, device=CPU)
    before = (tmp_path / WEIGHTS).stat().st_mtime_ns
    assert train(recipe, data, tmp_path, device=CPU) == config
    assert (tmp_path / WEIGHTS).stat().st_mtime_ns == before


def test_a_damaged_checkpoint_is_named(data: TrainingData, tmp_path: Path) -> None:
    recipe = recipe_for("naive-lenet-mnist", **SHORT)
    with pytest.raises(Interruption):
        train(recipe, data, tmp_path, device=CPU, report=interrupt)
    (tmp_path / FILE_NAME).write_bytes(b"not safetensors")
    with pytest.raises(IntegrityError, match=FILE_NAME):
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
    save_checkpoint(tmp_path, ensembles[0], optimizers[0], [])
    restore_checkpoint(tmp_path, ensembles[1], optimizers[1], CPU)
    step(0)
    step(1)
    torch.testing.assert_close(ensembles[1].state_dict(), ensembles[0].state_dict(), rtol=0, atol=0)


def test_a_loss_that_is_not_finite_stops_with_the_term(data: TrainingData, tmp_path: Path) -> None:
    recipe = recipe_for("smd-lenet-mnist", **SHORT, learning_rate=1e30)
    with pytest.raises(TrainingDivergedError, match=r"the term cross_entropy became .* in epoch 1"):
        train(recipe, data, tmp_path, device=CPU)


@pytest.fixture
def image_folder(data: TrainingData, tmp_path: Path) -> Path:
    """The random images as PNG files, where a data set is looked for."""
    for half, part in (("train", data.train), ("test", data.test)):
        for index, (image, label) in enumerate(zip(*part, strict=True)):
            folder = tmp_path / "data" / half / str(label.item())
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[0].numpy()).save(folder / f"{index}.png")
    return tmp_path / "data"


def test_a_killed_process_loses_nothing(image_folder: Path, tmp_path: Path) -> None:
    recipe = Recipe.model_validate(
        recipe_for("smd-lenet-mnist").model_dump() | {"num_epochs": 8, "num_calibration_images": 0}
    )
    options = ["--data-root", str(image_folder), "--output", str(tmp_path / "cut")]
    command = [sys.executable, "-m", "training", "run", "smd-lenet-mnist", "--epochs", "8", "--calibration", "0"]
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [*command, *options], cwd=root, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL
    )
    while not (tmp_path / "cut" / FILE_NAME).exists():
        assert process.poll() is None, "the training ended before it could be killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "cut" / CONFIG).exists()

    data = load_training_data("mnist", image_folder, num_calibration_images=0, download=False)
    train(recipe, data, tmp_path / "cut", device=CPU)
    train(recipe, data, tmp_path / "whole", device=CPU)
    assert_equal_bits(tmp_path / "whole", tmp_path / "cut")
