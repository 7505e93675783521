"""The log of a loss's terms: means over an epoch's steps, wherever in it a training goes on."""

import pytest
import torch

from training.checkpoint import Progress
from training.terms import TermLog


@pytest.mark.parametrize(
    ("before", "steps"),
    [
        (Progress(""), [(1.0, -2.0), (3.0, 2.0), (8.0, 6.0)]),
        (Progress("", num_steps=2, sums={"first": 4.0, "second": 0.0}), [(8.0, 6.0)]),
    ],
    ids=["from the start", "after two steps"],
)
def test_each_term_has_its_mean_over_all_steps_of_the_epoch(before: Progress, steps: list[tuple[float, float]]) -> None:
    log = TermLog(before)
    for first, second in steps:
        log.add({"first": torch.tensor(first), "second": torch.tensor(second)})
    assert log.means() == {"first": 4.0, "second": 2.0}
    assert log.sums() == {"first": 12.0, "second": 6.0}
