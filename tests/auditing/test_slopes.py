"""Whether gradients are those of the scores."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from smdguard.attacks import FGSM, PGD
from smdguard.auditing import audit
from smdguard.auditing.gradients import points_in_ball
from smdguard.auditing.slopes import probe_slopes, slope_agreement
from smdguard.catalogue import read_test_subset
from smdguard.datasets import balanced_subset, dataset_of, parse_subset
from smdguard.guard import load
from smdguard.threat import ThreatModel
from tests.auditing.stripes import checks, stripes, stripes_model, trained_model
from tests.auditing.test_gradients import MisleadsBetween, Rounded, StraightThrough
from tests.auditing.test_planted_defects import Noisy

FAR = ThreatModel("linf", 0.1)


class Sparse(nn.Module):
    """Decides as the model does but sends back the gradient of some pixels alone."""

    def __init__(self, model: nn.Module, num_pixels: int) -> None:
        super().__init__()
        self.model, self.num_pixels = model, num_pixels

    def forward(self, images: Tensor) -> Tensor:
        passed = torch.arange(images[0].numel()).view_as(images[0]) < self.num_pixels
        return self.model(torch.where(passed, images, images.detach()))


class Scaled(nn.Module):
    """Gives scores in another unit."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, scores: Tensor) -> Tensor:
        return self.factor * scores


def found(model: Callable[[Tensor], Tensor], threat: ThreatModel = FAR) -> list[str]:
    images, labels, _ = stripes()
    return [finding.check for finding in probe_slopes(model, images, labels, threat)]


@pytest.mark.parametrize("num_pixels", [1, 4, 9, 36])
def test_the_agreement_is_the_root_of_the_share_of_the_gradient_that_is_sent_back(num_pixels: int) -> None:
    images, labels, _ = stripes(3000)
    model, generator = Sparse(stripes_model().double(), num_pixels), torch.Generator().manual_seed(1)
    agreement, num_steady = slope_agreement(model, images.double(), labels, generator)
    assert agreement == pytest.approx(math.sqrt(num_pixels / 36), abs=0.05)  # Three deviations.
    # A sum of 36 random signs is zero for one image in eight, which has no slope to compare.
    assert num_steady == pytest.approx(3000 * (1 - math.comb(36, 18) / 2**36), abs=60)


def test_gradients_of_the_scores_agree_whatever_the_unit() -> None:
    images, labels, _ = stripes()
    model, generator = trained_model().double(), torch.Generator().manual_seed(1)
    for unit in (1e-20, 1, 1e4):
        in_unit = nn.Sequential(model, Scaled(unit))
        assert slope_agreement(in_unit, images.double(), labels, generator)[0] > 0.98


@pytest.mark.parametrize("name", ["smd-lenet-mnist", "smd-lenet-wide-mnist-at", "smd-resnet20-cifar10-preview"])
def test_gradients_of_the_zoo_agree(name: str) -> None:
    guard = load(name, backend="torch", device="cpu")
    dataset = dataset_of(guard.config)
    images = balanced_subset(parse_subset(read_test_subset(dataset.name)), 60)
    generator, threat = torch.Generator().manual_seed(0), ThreatModel("linf", dataset.epsilon)
    for points in points_in_ball(images.scaled(), threat, generator):
        agreement, num_steady = slope_agreement(guard.ensemble, points, images.labels, generator)
        assert agreement > 0.95
        assert num_steady > 30


@pytest.mark.parametrize("defence", [nn.Sequential, StraightThrough, Rounded, Noisy])
def test_gradients_of_the_scores_and_what_only_rounding_and_noise_hide_raise_no_alarm(
    defence: Callable[[nn.Module], nn.Module],
) -> None:
    assert found(defence(trained_model())) == []
    assert found(defence(trained_model(adversarial=True))) == []


def test_half_precision_raises_no_alarm() -> None:
    model = trained_model().bfloat16()
    assert found(lambda each: model(each.bfloat16()).float()) == []


def test_too_few_images_tell_nothing() -> None:
    images, labels, _ = stripes(19)
    agreement = slope_agreement(Sparse(stripes_model(), 1), images, labels, torch.Generator().manual_seed(1))
    assert agreement == (1.0, pytest.approx(17, abs=2))


def test_scores_that_are_no_numbers_count_for_nothing() -> None:
    images, labels, _ = stripes()
    model = Sparse(stripes_model(), 4)

    def classify(each: Tensor) -> Tensor:
        return torch.where(each[:, 0, 0, :1] > 0.5, torch.nan, model(each))

    agreement, num_steady = slope_agreement(classify, images, labels, torch.Generator().manual_seed(1))
    assert agreement == pytest.approx(1 / 3, abs=0.2)
    assert 100 < num_steady < 170


@pytest.mark.parametrize(("inner", "outer"), [(0, 0.08), (0.09, 0.1)])
def test_gradients_are_looked_at_on_the_way_and_at_the_end(inner: float, outer: float) -> None:
    assert found(MisleadsBetween(stripes_model(), stripes()[0], inner, outer)) == ["approximate_gradients"]


@pytest.mark.usefixtures("without_walk")
def test_a_model_whose_gradients_are_mostly_missing_is_not_called_robust() -> None:
    images, labels, radius = stripes()
    model = Sparse(stripes_model(), 2).eval()
    report = audit(model, images, labels, ThreatModel("linf", 0.05), attacks=[FGSM(), PGD()])
    assert "approximate_gradients" in checks(report)
    assert report.worst_case.robust_accuracy.value > (radius > 0.05).double().mean() + 0.1
    assert report.verdict == "unreliable"
