"""A training step of each method against the naive one, and against a plain loop over the members."""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import get_args

import torch
from torch import nn

from smdguard.backends.torch import build_ensemble
from smdguard.datasets import LabelledImages
from smdguard.ensemble import Ensemble
from smdguard.manifest import Architecture, Input, Precision
from tests.benchmarks.conftest import Compare
from tests.benchmarks.plain import PlainLeNet
from training.checkpoint import Progress
from training.loop import _train_one_epoch
from training.recipes import Recipe, recipe_for
from training.step import Stepper

BATCH_SIZE = 128
# Of LeNet's epochs, whose own part a step of a few milliseconds would feel.
NUM_STEPS = 4


def data_of(image_shape: tuple[int, int, int], num_steps: int) -> LabelledImages:
    """So many batches of noise."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (num_steps * BATCH_SIZE, *image_shape), dtype=torch.uint8, generator=generator)
    return LabelledImages(images, torch.randint(10, (len(images),), generator=generator))


def fresh_ensemble() -> Ensemble:
    architecture = Architecture(name="lenet", num_members=3, num_classes=10)
    return build_ensemble(architecture, Input(channels=1, height=28, width=28, mean=(0.13,), std=(0.31,)))


def fresh_residual_ensemble() -> Ensemble:
    architecture = Architecture(name="resnet20", num_members=3, num_classes=10)
    return build_ensemble(architecture, Input(channels=3, height=32, width=32, mean=(0.5,) * 3, std=(0.25,) * 3))


def epoch_of(recipe: Recipe, ensemble: Ensemble, data: LabelledImages, folder: Path) -> Callable[[], object]:
    """An epoch of that data."""
    stepper = Stepper(recipe, ensemble, [])
    return lambda: _train_one_epoch(recipe, stepper, data, folder, Progress(""), lambda *_: None)


def plain_epoch_of(data: LabelledImages) -> Callable[[], None]:
    """An epoch of a loop over three members."""
    members = [PlainLeNet() for _ in range(3)]
    optimizer = torch.optim.Adam([weight for member in members for weight in member.parameters()], weight_decay=1e-4)

    def train() -> None:
        for images, labels in zip(data.images.split(BATCH_SIZE), data.labels.split(BATCH_SIZE), strict=True):
            normalised = (images.float() / 255 - 0.13) / 0.31
            optimizer.zero_grad()
            for member in members:
                nn.functional.cross_entropy(member(normalised), labels).backward()
            optimizer.step()

    return train


def test_step(compare: Compare, tmp_path: Path) -> None:
    data = data_of((1, 28, 28), NUM_STEPS)
    epochs = {
        method: epoch_of(recipe_for(f"{method}-lenet-mnist"), fresh_ensemble(), data, tmp_path)
        for method in ("naive", "smd", "gal", "adp")
    }
    cases = epochs | {"naive, plain loop over the members": plain_epoch_of(data)}
    compare(f"{NUM_STEPS} training steps, LeNet-5 x 3, batch {BATCH_SIZE}", cases, 20)


def test_residual_step(compare: Compare, tmp_path: Path) -> None:
    data = data_of((3, 32, 32), 1)

    def step(method: str, precision: Precision) -> Callable[[], object]:
        recipe = recipe_for(f"{method}-resnet20-cifar10", precision=precision)
        return epoch_of(recipe, fresh_residual_ensemble(), data, tmp_path)

    choices = product(("naive", "smd"), get_args(Precision))
    cases = {", ".join(choice): step(*choice) for choice in choices}
    compare(f"A training step, ResNet-20 x 3, batch {BATCH_SIZE}", cases, 5)
