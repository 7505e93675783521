"""On a GPU, simulated where there is none, a training is computed there, and comes to the same weights."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from smdguard.backends.torch import build_ensemble
from smdguard.datasets import LabelledImages, find_dataset
from smdguard.ensemble import Ensemble
from smdguard.manifest import Architecture, Input
from smdguard.model_folder import WEIGHTS
from tests.simulated_gpu import GPU, simulated_gpu
from training.checkpoint import Progress
from training.data import TrainingData
from training.loop import _train_one_epoch, train
from training.monitor import Monitor
from training.recipes import Recipe, recipe_for
from training.step import Stepper

BATCH_SIZE = 8
# Of the terms of the loss, after the first and the last step of a short epoch.
NUM_REPORTS = 2


def noise(num_images: int, image_shape: tuple[int, int, int]) -> LabelledImages:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (num_images, *image_shape), dtype=torch.uint8, generator=generator)
    return LabelledImages(images, torch.randint(10, (num_images,), generator=generator))


def trained(recipe: Recipe, folder: Path, device: str) -> dict[str, torch.Tensor]:
    parts = (noise(num_images, (1, 28, 28)) for num_images in (3 * BATCH_SIZE, 16, 16))
    train(recipe, data := TrainingData(*parts), folder, device=torch.device(device), measure=Monitor(recipe, data))
    return load_file(folder / WEIGHTS)


@pytest.mark.parametrize("method", ["naive", "adp", "gal", "smd"])
def test_a_training_comes_to_the_same_weights(method: str, tmp_path: Path) -> None:
    recipe = recipe_for(f"{method}-lenet-mnist", num_epochs=1, batch_size=BATCH_SIZE, num_calibration_images=16)
    here = trained(recipe, tmp_path / "cpu", "cpu")
    with simulated_gpu() as traffic:
        there = trained(recipe, tmp_path / "cuda", "cuda")
        assert traffic.num_to_cpu > 0
    # Where a gradient is nearly zero, rounding may turn a step of Adam's, which is of 0.001: so the mean over all.
    gaps = torch.cat([(there[name] - weights).abs().flatten() for name, weights in here.items()])
    assert gaps.mean() < 1e-6


def ensemble_of(recipe: Recipe) -> Ensemble:
    dataset = find_dataset(recipe.dataset)
    channels, height, width = dataset.image_shape
    architecture = Architecture(
        name=recipe.architecture, num_members=3, num_classes=10, negative_slope=recipe.negative_slope
    )
    shown = Input(channels=channels, height=height, width=width, mean=dataset.mean, std=dataset.std)
    return build_ensemble(architecture, shown).to(GPU)


@pytest.mark.parametrize(
    ("name", "num_fetched"),
    [
        ("naive-lenet-mnist", 0),
        ("adp-lenet-mnist", 0),
        ("gal-lenet-mnist", 0),
        ("dverge-lenet-mnist", 0),
        ("smd-lenet-mnist", 0),
        ("smd-plus-lenet-mnist", 0),
        ("smd-lenet-wide-mnist-at", 0),
        # Which of the hold-out ensembles is attacked.
        ("naive-lenet-mnist-eat", 3),
        ("smd-resnet20-cifar10", 0),
    ],
)
def test_steps_fetch_nothing_from_the_gpu(name: str, num_fetched: int, tmp_path: Path) -> None:
    recipe = recipe_for(name, batch_size=BATCH_SIZE)
    with simulated_gpu() as traffic:
        holdouts = [ensemble_of(recipe) for _ in range(3)] if recipe.adversary == "eat" else []
        stepper = Stepper(recipe, ensemble_of(recipe), holdouts)
        data = noise(3 * BATCH_SIZE, find_dataset(recipe.dataset).image_shape)
        data = LabelledImages(data.images.to(GPU), data.labels.to(GPU))
        before = traffic.num_to_cpu
        _train_one_epoch(recipe, stepper, data, tmp_path, Progress(""), lambda *_: None)
        assert traffic.num_to_cpu - before == num_fetched + NUM_REPORTS
