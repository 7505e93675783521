"""Which gradients an attack can follow."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from smdguard.attacks import APGD, FGSM
from smdguard.auditing import audit
from smdguard.auditing.batching import Batching
from smdguard.auditing.gradients import gradient_health
from smdguard.catalogue import read_test_subset
from smdguard.datasets import balanced_subset, parse_subset
from smdguard.guard import load
from smdguard.threat import ThreatModel
from tests.auditing.planted_outcomes import USABLE
from tests.auditing.stripes import InPlace, checks, stripes, stripes_model, trained_model

NEAR = ThreatModel("linf", 0.05)


@pytest.mark.parametrize(
    ("share", "limit"), [("zero", 0.01), ("not_finite", 0.01), ("random", 0.01), ("misleading", 0.05)]
)
def test_gradients_are_broken_where_more_than_so_many_cannot_be_followed(share: str, limit: float) -> None:
    assert not dataclasses.replace(USABLE, **{share: limit}).broken
    assert dataclasses.replace(USABLE, **{share: limit + 0.001}).broken


def test_images_whose_scores_come_without_a_graph_have_no_gradient_to_follow() -> None:
    images, labels, _ = stripes()

    def classify(each: Tensor) -> Tensor:
        scores = stripes_model()(each)
        return scores if len(each) == 2 or each.mean() > 0.45 else scores.detach()

    dark = images - 0.1
    model = Batching(len(images)).wrap(classify)
    assert gradient_health(model, [images, dark], [labels, labels], ThreatModel("linf", 0)).zero == 0.5
    # A model that gives some images no gradient is attacked to the end.
    report = audit(classify, dark, labels, NEAR, attacks=[APGD(num_steps=5), FGSM()])
    assert "gradient_masking" in checks(report)
    assert report.verdict == "unreliable"


class StraightThrough(nn.Module):
    """Rounds its input to 8 bits, with the gradient of no rounding."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images + ((images * 255).round() / 255 - images).detach())


class Rounded(nn.Module):
    """Rounds its scores with the gradient of no rounding: to tenths, as half precision does from 16 on, or coarser."""

    def __init__(self, model: nn.Module, levels: int = 10) -> None:
        super().__init__()
        self.model, self.levels = model, levels

    def forward(self, images: Tensor) -> Tensor:
        scores = self.model(images)
        return scores + ((self.levels * scores).round() / self.levels - scores).detach()


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_what_was_computed_in_half_precision_is_not_misled(kind: torch.dtype) -> None:
    """Scores of 16 and more, whose rounding also lowers what a short step raises, of a model that hardly rises."""
    ensemble = load("naive-lenet-wide-mnist-at", backend="torch", device="cpu").ensemble
    subset = balanced_subset(parse_subset(read_test_subset("mnist")), 100)

    def model(images: Tensor) -> Tensor:
        scores = ensemble.members[0](ensemble.normalise(images)) + 16
        return scores + (scores.to(kind).float() - scores).detach()

    assert gradient_health(model, [subset.scaled()], [subset.labels], NEAR).misleading < 0.05


@pytest.mark.parametrize("levels", [10, 3])
def test_a_step_that_drowns_in_the_rounding_of_the_scores_is_not_misled(levels: int) -> None:
    images, labels, _ = stripes()
    assert gradient_health(Rounded(stripes_model(), levels), [images], [labels], NEAR).misleading < 0.02


def test_rounded_scores_that_fall_along_the_gradient_are_misleading() -> None:
    images, labels, _ = stripes()

    def turned(each: Tensor) -> Tensor:
        scores = Rounded(stripes_model(), 3)(each)
        return 2 * scores.detach() - scores

    assert gradient_health(turned, [images], [labels], NEAR).misleading > 0.9


@pytest.mark.parametrize("defence", [nn.Sequential, StraightThrough, InPlace])
def test_gradients_that_can_be_followed_raise_no_alarm(defence: type[nn.Module]) -> None:
    images, labels, _ = stripes()
    model = defence(trained_model())
    health = gradient_health(lambda each: model(each.clone()), [images], [labels], NEAR)
    assert health.misleading < 0.02
    assert not health.broken


class MisleadsBetween(nn.Module):
    """Turns the gradient round at points whose distance from the nearest clean image lies between two radii."""

    def __init__(self, model: nn.Module, clean: Tensor, inner: float, outer: float) -> None:
        super().__init__()
        self.model, self.clean, self.inner, self.outer = model, clean, inner, outer

    def forward(self, images: Tensor) -> Tensor:
        logits = self.model(images)
        distance = (images.detach().flatten(1)[:, None] - self.clean.flatten(1)).abs().amax(dim=2).amin(dim=1)
        turned = logits.detach() - (logits - logits.detach())
        return torch.where(((self.inner <= distance) & (distance <= self.outer))[:, None], turned, logits)


@pytest.mark.parametrize(("epsilon", "misleading"), [(0.005, 1.0), (0.02, 1.0), (0.05, 0.4), (0.1, 0.2)])
def test_gradients_are_looked_at_on_the_whole_way_that_the_adversary_may_go(epsilon: float, misleading: float) -> None:
    images, labels, _ = stripes()
    model = MisleadsBetween(stripes_model(), images, 0, 0.02)
    health = gradient_health(model, [images], [labels], ThreatModel("linf", epsilon))
    assert health.misleading == pytest.approx(misleading, abs=0.1)


def test_gradients_are_looked_at_where_attacks_end() -> None:
    images, labels, _ = stripes()
    model = MisleadsBetween(stripes_model(), images, 0.09, 0.1)
    assert gradient_health(model, [images], [labels], ThreatModel("linf", 0.1)).misleading > 0.9


def test_logits_near_zero_are_not_taken_for_misleading_ones() -> None:
    images, labels, _ = stripes()
    model = trained_model()

    def classify(each: Tensor) -> Tensor:
        return 1e-7 * nn.functional.pad(model(each), (0, 1))

    assert gradient_health(classify, [images], [labels], NEAR).misleading < 0.02
