"""What is measured between epochs: right by another way of computing it, and without a trace in the training."""

import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest
import torch
from torch import nn

from smdguard.attacks import PGD
from smdguard.datasets import LabelledImages
from smdguard.ensemble import Ensemble
from smdguard.threat import ThreatModel
from tests.training.conftest import random_images
from training.data import TrainingData
from training.loop import train
from training.monitor import Monitor
from training.recipes import recipe_for

EVERY_EPOCH = ["learning_rate", "images_per_second", "saliency_cosine"]
NOW_AND_THEN = ["held_out_accuracy", "held_out_pgd10_accuracy_at_0.1", "held_out_pgd10_accuracy_at_0.3"]


@pytest.fixture
def watched() -> Iterator[Ensemble]:
    """Members with batch normalisation and dropout, in training mode, whose last layer has strong opinions."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        members = [
            nn.Sequential(
                nn.Conv2d(1, 4, 5, stride=3),
                nn.BatchNorm2d(4),
                nn.ReLU(),
                nn.Flatten(),
                nn.Dropout(),
                nn.Linear(256, 10),
            )
            for _ in range(3)
        ]
        yield Ensemble(members, mean=[0.3], std=[0.3]).train()


def test_the_keys_of_each_epoch(watched: Ensemble, data: TrainingData) -> None:
    def keys(num_epochs: int, evaluate_every: int | None = None) -> list[list[str]]:
        monitor = Monitor(recipe_for("smd-lenet-mnist", num_epochs=num_epochs), data, evaluate_every=evaluate_every)
        return [list(monitor(watched, epoch, 1.0)) for epoch in range(1, num_epochs + 1)]

    full, short = EVERY_EPOCH + NOW_AND_THEN, EVERY_EPOCH
    assert keys(3) == [full, full, full]
    assert keys(5, evaluate_every=2) == [short, full, short, full, full]
    assert [len(line) == len(full) for line in keys(12)] == [epoch % 2 == 0 for epoch in range(1, 13)]


def test_rate_and_speed(watched: Ensemble, data: TrainingData) -> None:
    recipe = recipe_for("smd-lenet-mnist", num_epochs=4, batch_size=100, learning_rate_schedule="one-cycle")
    monitor = Monitor(recipe, data, evaluate_every=4)
    measured = [monitor(watched, epoch, 0.5) for epoch in (1, 4)]
    assert [line["learning_rate"] for line in measured] == pytest.approx([1e-3 * 0.25 / 0.3, 0.0])
    # Two batches of 100 of the 256 images.
    assert [line["images_per_second"] for line in measured] == [400, 400]


def test_cosine_and_accuracies_are_those_of_a_plain_computation(watched: Ensemble, data: TrainingData) -> None:
    measured = Monitor(recipe_for("smd-lenet-mnist", num_epochs=1), data)(watched, 1, 1.0)
    watched.eval()
    images, labels = data.calibration.scaled(), data.calibration.labels
    saliencies = []
    for member in watched.members:
        leaf = images.clone().requires_grad_()
        probability = member(watched.normalise(leaf)).double().softmax(dim=1)[range(len(labels)), labels]
        saliencies.append(torch.autograd.grad(probability.sum(), leaf)[0].flatten(1))
    cosines = [nn.functional.cosine_similarity(first, second) for first, second in combinations(saliencies, 2)]
    assert measured["saliency_cosine"] == pytest.approx(torch.stack(cosines).mean().item(), abs=1e-5)
    assert measured["held_out_accuracy"] == (watched(images).argmax(dim=1) == labels).double().mean().item()
    attack, generator = PGD(num_steps=10, step_ratio=0.25), torch.Generator().manual_seed(0)
    adversarial = attack(watched, images, labels, ThreatModel("linf", 0.3), generator=generator)
    standing = (watched(adversarial).argmax(dim=1) == labels).double().mean().item()
    assert measured["held_out_pgd10_accuracy_at_0.3"] == standing


def test_the_ensemble_and_the_generators_stay_as_they_were(watched: Ensemble, data: TrainingData) -> None:
    before = {name: tensor.clone() for name, tensor in watched.state_dict().items()}
    state = torch.get_rng_state()
    Monitor(recipe_for("smd-lenet-mnist", num_epochs=1), data)(watched, 1, 1.0)
    torch.testing.assert_close(watched.state_dict(), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in watched.modules())
    assert all(weight.grad is None for weight in watched.parameters())


def test_a_watched_training_ends_with_the_same_bits(data: TrainingData, tmp_path: Path) -> None:
    recipe = recipe_for("smd-lenet-mnist", num_epochs=2, batch_size=64, num_calibration_images=32, num_members=2)
    device = torch.device("cpu")
    alone = train(recipe, data, tmp_path / "alone", device=device)
    assert train(recipe, data, tmp_path / "watched", device=device, measure=Monitor(recipe, data)) == alone
    lines = [json.loads(line) for line in (tmp_path / "watched" / "metrics.jsonl").read_text().splitlines()]
    assert all(set(EVERY_EPOCH + NOW_AND_THEN) <= line.keys() for line in lines)
    assert lines[-1]["clean_accuracy"] == alone.clean_accuracy


def test_images_come_from_the_calibration_split_or_evenly_from_the_test_split(watched: Ensemble) -> None:
    """The test split is ordered by class, as a folder of images is; one class is always right, the other never."""
    labels = torch.arange(10).repeat_interleave(150)
    test = LabelledImages(random_images(1500, 3).images, labels)
    nothing = LabelledImages(test.images[:0], labels[:0])
    recipe = recipe_for("smd-lenet-mnist", num_epochs=1, num_calibration_images=0)
    with torch.no_grad():
        for member in watched.members:
            member.get_parameter("5.weight").zero_()
            member.get_parameter("5.bias").copy_(torch.eye(10)[9])
    measured = Monitor(recipe, TrainingData(random_images(64, 0), nothing, test))(watched, 1, 1.0)
    assert measured["held_out_accuracy"] == pytest.approx(0.1, abs=0.002)
    ninth = LabelledImages(test.images[-10:], labels[-10:])
    measured = Monitor(recipe, TrainingData(random_images(64, 0), ninth, test))(watched, 1, 1.0)
    assert measured["held_out_accuracy"] == 1
