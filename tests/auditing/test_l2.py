"""Audits in the Euclidean norm of a model whose robustness is known."""

import pytest
import torch

from smdguard.attacks import APGD, BIM
from smdguard.auditing import audit
from smdguard.errors import InvalidInputError
from smdguard.threat import ThreatModel
from tests.auditing.stripes import Wandering, checks, stripes, stripes_model


def test_curve_of_a_linear_model_is_exact_in_l2() -> None:
    images, labels, radius = stripes()
    report = audit(stripes_model(), images, labels, ThreatModel("l2", 0.6), attacks=[BIM(), APGD()], epsilons=[0.3])
    for point in report.curve:
        # All 36 pixels have to change by the radius in linf.
        expected = (6 * radius > point.epsilon).double().mean().item()
        assert point.robust_accuracy.value == pytest.approx(expected, abs=0.01)


def test_an_attack_that_cheats_in_l2_is_refused() -> None:
    images, labels, _ = stripes()
    with pytest.raises(InvalidInputError, match="left the threat model"):
        audit(stripes_model(), images, labels, ThreatModel("l2", 0.6), attacks=[Wandering(0.101)])  # type: ignore[list-item]


def test_a_model_that_takes_long_ways_in_l2_raises_no_alarm() -> None:
    side = torch.tensor([0.4, -0.4]).repeat(100).view(-1, 1, 1, 1)
    images = torch.cat([0.5 + side.expand(-1, 1, 6, 3), 0.5 - side.expand(-1, 1, 6, 3)], dim=3)
    report = audit(stripes_model(), images, torch.arange(200) % 2, ThreatModel("l2", 0.5), attacks=[APGD()])
    # It stands up to 6 x 0.4.
    assert report.worst_case.robust_accuracy.value == 1
    assert checks(report) == []
    assert report.verdict == "robust"
