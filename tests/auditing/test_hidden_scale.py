"""Models whose scores shrink where images look odd: attacks that climb the cross-entropy are content with that."""

import pytest
import torch
from torch import Tensor, nn

import smdguard as sg
from smdguard.attacks import APGD
from smdguard.attacks.attack import is_fooled
from smdguard.catalogue import read_test_subset
from smdguard.datasets import balanced_subset, parse_subset


class Unsure(nn.Module):
    """Knows its classes by the upper half of the image alone, and grows unsure where the lower brightens.

    Args:
        num_classes: How many classes it gives.
        masked: Scores of further classes, which it never gives.
    """

    def __init__(self, num_classes: int, masked: tuple[float, ...]) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.prototypes = 0.5 + 0.1 * torch.randn(num_classes, 32, generator=generator).sign()
        self.labels, self.masked = torch.arange(60) % num_classes, masked
        self.shown = self.prototypes[self.labels] + 0.02 * torch.randn(60, 32, generator=generator)
        self.images = nn.functional.pad(self.shown, (0, 32)).view(60, 1, 8, 8)

    def plain(self, upper: Tensor) -> Tensor:
        return (upper - self.prototypes.mean(dim=0)) @ (self.prototypes - self.prototypes.mean(dim=0)).T

    def forward(self, batch: Tensor) -> Tensor:
        upper, lower = batch.flatten(1).split(32, dim=1)
        scores = 20 * self.plain(upper) * (-3 * lower.sum(dim=1, keepdim=True)).exp()
        return torch.cat([scores, scores.new_tensor(self.masked).expand(len(batch), -1)], dim=1)

    def distances(self) -> Tensor:
        """Of the images from the nearest boundary, in the norm l2: (B,)."""
        plain, apart = self.plain(self.shown), torch.cdist(self.prototypes, self.prototypes)
        leads = plain.gather(1, self.labels[:, None]) - plain
        return (leads / apart[self.labels]).nan_to_num(nan=torch.inf).amin(dim=1)

    def audited(self, epsilon: float, epsilons: tuple[float, ...] = ()) -> sg.AuditReport:
        threat = sg.ThreatModel("l2", epsilon)
        return sg.audit(self.eval(), self.images, self.labels, threat, attacks="quick", epsilons=epsilons)


MASKED = pytest.mark.parametrize("masked", [(), (-1e4,), (-1e9,)], ids=["no class", "-1e4", "-1e9"])


@MASKED
@pytest.mark.parametrize(("epsilon", "verdict"), [(0.3, "robust"), (0.5, "fragile")])
def test_two_classes_have_no_proportions_but_a_boundary(
    masked: tuple[float, ...], epsilon: float, verdict: str
) -> None:
    model = Unsure(2, masked)
    assert 0.3 < model.distances().min() < model.distances().max() < 0.5
    report = model.audited(epsilon)
    assert {result.robust_accuracy.value for result in report.attacks} == {1.0}
    assert report.worst_case.robust_accuracy.value == (1.0 if verdict == "robust" else 0.0)
    assert report.verdict == verdict
    weak = [finding.message for finding in report.findings if finding.check == "attacks_too_weak"]
    assert ["a walk along the boundary of 50 steps" in message for message in weak] == [True] * (verdict == "fragile")


@MASKED
def test_of_more_classes_the_proportions_are_attacked(masked: tuple[float, ...]) -> None:
    """A class that is never given would be most of what the scores are standardised by."""
    model = Unsure(4, masked)
    report = model.audited(0.6, epsilons=(0.4,))
    assert [result.robust_accuracy.value for result in report.attacks] == [1, 1, 1, 1] * 2
    # At both radii what the plain scores' distances to the boundary say.
    for point in report.curve:
        truth = (model.distances() > point.epsilon).float().mean().item()
        assert point.robust_accuracy.value == pytest.approx(truth, abs=0.06)
    (finding,) = [finding for finding in report.findings if finding.severity == "high"]
    assert (finding.check, "APGD on standardised scores" in finding.message) == ("attacks_too_weak", True)


def test_digits_of_two_classes_stand_as_they_do_without_the_scale() -> None:
    ensemble = sg.load("naive-lenet-mnist", backend="torch", device="cpu").ensemble
    subset = balanced_subset(parse_subset(read_test_subset("mnist")), 1000)
    rows = (subset.labels == 3) | (subset.labels == 8)
    images, labels = subset.scaled()[rows][:120], (subset.labels[rows][:120] == 8).long()

    def plain(batch: Tensor) -> Tensor:
        return ensemble.members[0](ensemble.normalise(batch))[:, [3, 8]]

    def scaled(batch: Tensor) -> Tensor:
        """Unsure where the image's border is bright."""
        border = 0.5 * batch[:, :, :5].flatten(1).sum(dim=1) + 0.6 * batch[:, :, 24:].flatten(1).sum(dim=1)
        return plain(batch) * (-border).exp()[:, None]

    right = scaled(images).argmax(dim=1) == labels
    images, labels, threat = images[right], labels[right], sg.ThreatModel("l2", 2.0)
    adversarial = APGD(num_steps=50)(plain, images, labels, threat, generator=torch.Generator().manual_seed(0))
    truth = (~is_fooled(plain(adversarial), labels)).float().mean().item()
    report = sg.audit(scaled, images, labels, threat, attacks="quick")
    assert min(result.robust_accuracy.value for result in report.attacks) > 0.9
    assert truth < 0.3
    assert report.worst_case.robust_accuracy.value == pytest.approx(truth, abs=0.03)
    assert report.verdict == "fragile"
