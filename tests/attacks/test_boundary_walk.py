"""The walk along the boundary, on models whose smallest perturbation is known."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from smdguard.attacks import BoundaryWalk
from smdguard.attacks.attack import is_fooled
from smdguard.threat import Norm, ThreatModel

NORMS: list[Norm] = ["linf", "l2"]
NEARLY = 1.01


def walk(model: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, threat: ThreatModel) -> Tensor:
    return BoundaryWalk()(model, images, labels, threat, generator=torch.Generator())


def halves(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """The weight of a linear model of two classes in the middle of the box, and images with the classes it gives."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(1, 4, 4, generator=generator, dtype=torch.float64)
    images = 0.5 + 0.1 * torch.randn(20, 1, 4, 4, generator=generator, dtype=torch.float64)
    return weight, images, (lead(weight, images) < 0).long()


def lead(weight: Tensor, images: Tensor) -> Tensor:
    return ((images - 0.5) * weight).sum(dim=(1, 2, 3))


def scores(leads: Tensor) -> Tensor:
    return torch.stack([leads, -leads], dim=1)


SCALES: dict[str, Callable[[Tensor], Tensor]] = {
    "one": lambda images: images.new_ones(len(images)),
    "tiny": lambda images: images.new_full((len(images),), 1e-20),
    "falling steeply": lambda images: (-40 * images.mean(dim=(1, 2, 3))).exp(),
}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scale", SCALES)
def test_finds_the_smallest_perturbation_whatever_the_scores_are_multiplied_by(norm: Norm, scale: str) -> None:
    weight, images, labels = halves()

    def model(batch: Tensor) -> Tensor:
        return scores(lead(weight, batch) * SCALES[scale](batch))

    dual = weight.abs().sum() if norm == "linf" else weight.square().sum().sqrt()
    smallest = lead(weight, images).abs() / dual
    for radius in smallest.quantile(torch.tensor([0.3, 0.7], dtype=torch.float64)).tolist():
        fooled = is_fooled(model(walk(model, images, labels, ThreatModel(norm, radius))), labels)
        assert not fooled[smallest > radius].any()
        assert fooled[NEARLY * smallest < radius].all()


@pytest.mark.parametrize("norm", NORMS)
def test_what_is_not_reached_is_returned_as_it_is(norm: Norm) -> None:
    weight, images, labels = halves()
    adversarial = walk(lambda batch: scores(lead(weight, batch)), images, labels, ThreatModel(norm, 1e-6))
    assert torch.equal(adversarial, images)


def test_an_image_whose_negative_alone_is_of_another_class_has_a_start() -> None:
    weight, images, labels = halves()
    one, truth = images[:1], labels[:1]
    adversarial = walk(lambda batch: scores(lead(weight, batch)), one, truth, ThreatModel("l2", 5.0))
    assert is_fooled(scores(lead(weight, adversarial)), truth)


def test_a_model_of_one_answer_is_given_up_on() -> None:
    _, images, _ = halves()
    labels = torch.zeros(len(images), dtype=torch.long)
    calls: list[int] = []

    def model(batch: Tensor) -> Tensor:
        calls.append(len(batch))
        return nn.functional.one_hot(batch.flatten(1).sum(dim=1).long() * 0, 2).double()

    assert torch.equal(walk(model, images, labels, ThreatModel("l2", 1.0)), images)
    assert sum(calls) <= 20 * len(images)
