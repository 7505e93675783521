"""Confidence bounds and the paired test against published and hand-computed numbers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smdguard.auditing.statistics import area_under_roc, paired_p_value, wilson_interval


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_bounds_are_the_published_ones(successes: int, trials: int, low: float, high: float) -> None:
    interval = wilson_interval(successes, trials)
    assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_bounds_enclose_the_share_and_mirror(counts: tuple[int, int]) -> None:
    successes, trials = counts
    interval, mirrored = wilson_interval(successes, trials), wilson_interval(trials - successes, trials)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1
    assert interval.low == pytest.approx(1 - mirrored.high, abs=1e-12)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [(0, 0, 1.0), (5, 0, 1 / 32), (4, 1, 6 / 32), (0, 5, 1.0), (2, 2, 11 / 16)],
)
def test_paired_p_value_counts_coin_flips(first: int, second: int, expected: float) -> None:
    assert paired_p_value(first, second) == expected


def test_paired_p_value_of_ten_thousand_images() -> None:
    # 5,100 of 10,000: a normal approximation with continuity correction is good to four digits here.
    z = (5100 - 0.5 - 5000) / math.sqrt(2500)
    assert paired_p_value(5100, 4900) == pytest.approx(0.5 * math.erfc(z / math.sqrt(2)), rel=1e-3)


def test_area_under_roc_of_two_normal_distributions() -> None:
    # Of means 0 and d and unit variance: Phi(d / sqrt 2).
    quantiles = torch.distributions.Normal(0.0, 1.0).icdf((torch.arange(2000) + 0.5) / 2000)
    expected = 0.5 * math.erfc(-1.0 / 2)
    assert area_under_roc(quantiles + 1, quantiles) == pytest.approx(expected, abs=1e-3)


def test_area_under_roc_counts_ties_half() -> None:
    assert area_under_roc(torch.ones(3), torch.ones(5)) == 0.5
    assert area_under_roc(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 1.0])) == 0.875
    assert area_under_roc(torch.zeros(2), torch.ones(2)) == 0
