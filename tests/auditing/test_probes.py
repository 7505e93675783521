"""What the long run says of the attacks, on planted traces."""

import torch
from torch import Tensor

from smdguard.auditing.probes import (
    FEW_STEPS,
    MANY_STEPS,
    _loss_still_rising,
    _more_steps_do_worse,
    _success_lost_on_the_way,
    _too_few_steps,
    _Trace,
)
from smdguard.report import Finding
from tests.auditing.planted_outcomes import NUM_IMAGES


def trace(right: Tensor, loss: Tensor | None = None) -> _Trace:
    """Of a planted history: (steps + 1, B)."""
    planted = _Trace(lambda images: images, torch.zeros(right.shape[1], 2), torch.zeros(right.shape[1]))
    planted.right, planted.loss = list(right), list(torch.zeros(right.shape) if loss is None else loss)
    return planted


def history(*spans: tuple[int, int, int]) -> Tensor:
    """All right but the first `count` images from one step to before another."""
    right = torch.ones(MANY_STEPS + 1, NUM_IMAGES, dtype=torch.bool)
    for count, start, stop in spans:
        right[start:stop, :count] = False
    return right


def only(found: list[Finding]) -> Finding:
    (finding,) = found
    return finding


def test_too_few_steps_are_a_note_with_both_numbers() -> None:
    finding = only(list(_too_few_steps(trace(history((100, FEW_STEPS + 1, MANY_STEPS + 1))))))
    assert (finding.severity, finding.evidence) == ("note", {"few_steps": 1.0, "many_steps": 0.5})
    assert not list(_too_few_steps(trace(history((100, FEW_STEPS, MANY_STEPS + 1)))))


def test_more_steps_that_do_worse_are_found() -> None:
    finding = only(list(_more_steps_do_worse(trace(history((100, 5, 20))))))
    assert (finding.severity, finding.evidence) == ("high", {"few_steps": 0.5, "many_steps": 1.0})
    assert not list(_more_steps_do_worse(trace(history((100, 5, MANY_STEPS + 1)))))


def test_success_that_is_not_returned_is_found() -> None:
    assert only(list(_success_lost_on_the_way(trace(history((50, 3, 6)))))).evidence == {"share": 0.25}
    assert not list(_success_lost_on_the_way(trace(history((50, 3, FEW_STEPS + 1)))))


def test_loss_that_still_rises_is_found() -> None:
    steps = torch.arange(MANY_STEPS + 1.0)[:, None].expand(-1, NUM_IMAGES)
    assert only(list(_loss_still_rising(trace(history((50, 1, 5)), steps)))).evidence == {"share": 0.75}
    assert not list(_loss_still_rising(trace(history(), steps.clamp_max(20))))
    assert not list(_loss_still_rising(trace(history((NUM_IMAGES, 5, 6)), steps)))
