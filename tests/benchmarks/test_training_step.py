"""A training step of each method against the naive one, and against a plain loop over the members."""

from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import nn

from smdguard.backends.torch import build_ensemble
from smdguard.datasets import LabelledImages
from smdguard.ensemble import Ensemble
from smdguard.manifest import Architecture, Input, Precision
from tests.benchmarks.plain import PlainLeNet
from training.checkpoint import Progress
from training.loop import _train_one_epoch
from training.recipes import recipe_for
from training.step import Stepper

BATCH_SIZE, NUM_STEPS = 128, 10
# The first rounds of a process wait for memory that the later ones find at hand.
ROUNDS = {"rounds": 10, "warmup_rounds": 3}


@pytest.fixture(scope="module")
def data() -> LabelledImages:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (BATCH_SIZE * NUM_STEPS, 1, 28, 28), dtype=torch.uint8, generator=generator)
    return LabelledImages(images, torch.randint(10, (len(images),), generator=generator))


@pytest.fixture(scope="module")
def photographs() -> LabelledImages:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (BATCH_SIZE, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return LabelledImages(images, torch.randint(10, (BATCH_SIZE,), generator=generator))


def fresh_ensemble() -> Ensemble:
    architecture = Architecture(name="lenet", num_members=3, num_classes=10)
    return build_ensemble(architecture, Input(channels=1, height=28, width=28, mean=(0.13,), std=(0.31,)))


def fresh_residual_ensemble() -> Ensemble:
    architecture = Architecture(name="resnet20", num_members=3, num_classes=10)
    return build_ensemble(architecture, Input(channels=3, height=32, width=32, mean=(0.5,) * 3, std=(0.25,) * 3))


@pytest.mark.benchmark(group=f"{NUM_STEPS} training steps, LeNet-5 x 3, batch {BATCH_SIZE}")
@pytest.mark.parametrize("method", ["naive", "smd", "gal", "adp"])
def test_step(benchmark, method: str, data: LabelledImages, tmp_path: Path) -> None:
    recipe = recipe_for(f"{method}-lenet-mnist")
    stepper = Stepper(recipe, fresh_ensemble(), [])
    arguments = recipe, stepper, data, tmp_path, Progress(""), lambda *_: None
    benchmark.pedantic(_train_one_epoch, args=arguments, **ROUNDS)


@pytest.mark.benchmark(group=f"{NUM_STEPS} training steps, LeNet-5 x 3, batch {BATCH_SIZE}")
def test_plain_loop(benchmark, data: LabelledImages) -> None:
    members = [PlainLeNet() for _ in range(3)]
    optimizer = torch.optim.Adam([weight for member in members for weight in member.parameters()], weight_decay=1e-4)

    def train() -> None:
        for images, labels in zip(data.images.split(BATCH_SIZE), data.labels.split(BATCH_SIZE), strict=True):
            normalised = (images.float() / 255 - 0.13) / 0.31
            optimizer.zero_grad()
            for member in members:
                nn.functional.cross_entropy(member(normalised), labels).backward()
            optimizer.step()

    benchmark.pedantic(train, **ROUNDS)


@pytest.mark.benchmark(group=f"a training step, ResNet-20 x 3, batch {BATCH_SIZE}")
@pytest.mark.parametrize("precision", get_args(Precision))
@pytest.mark.parametrize("method", ["naive", "smd"])
def test_residual_step(
    benchmark, method: str, precision: Precision, photographs: LabelledImages, tmp_path: Path
) -> None:
    recipe = recipe_for(f"{method}-resnet20-cifar10", precision=precision)
    stepper = Stepper(recipe, fresh_residual_ensemble(), [])
    arguments = recipe, stepper, photographs, tmp_path, Progress(""), lambda *_: None
    benchmark.pedantic(_train_one_epoch, args=arguments, rounds=5, warmup_rounds=1)
