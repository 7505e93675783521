"""What several attacks left, put together and put into words."""

import dataclasses
import math

import pytest
import torch

from smdguard.attacks import FGSM, PGD, Square
from smdguard.auditing.outcomes import comparison, is_gap, is_wide, p_value, worst_case
from tests.auditing.planted_outcomes import outcome


def test_an_attack_on_what_others_left_is_not_credited_with_what_they_did() -> None:
    others = outcome(PGD(), 100)
    assert (
        comparison(outcome(FGSM(), 80), others)
        == "FGSM leaves 40.0 % standing, the best white-box gradient attack 50.0 %"
    )
    assert comparison(outcome(Square(), 80, pursued=True), others) == (
        "white-box gradient attacks leave 50.0 % standing, and Square, run on those, leaves 40.0 %"
    )


def test_what_fell_in_a_smaller_ball_has_fallen_in_a_larger_one_and_not_the_other_way_round() -> None:
    small, large = (
        dataclasses.replace(outcome(PGD(), 0), epsilon=radius, standing=torch.arange(4) != fallen)
        for radius, fallen in ((0.05, 0), (0.1, 1))
    )
    clean = torch.arange(4) != 3
    assert worst_case([large, small], clean, 0.1).tolist() == [False, False, True, False]
    assert worst_case([large, small], clean, 0.05).tolist() == [False, True, True, False]
    assert worst_case([large, small], clean, 0.01).tolist() == [True, True, True, False]


def test_five_points_are_wide_whichever_they_are() -> None:
    for num_standing in range(10, 201):
        rival, other = torch.arange(200) < num_standing - 10, torch.arange(200) < num_standing
        assert is_gap(rival, other)
        assert not is_wide(torch.arange(200) < num_standing - 9, other)


def test_images_that_only_the_other_attack_fools_speak_against_a_gap() -> None:
    rival, other = torch.ones(2, 200, dtype=torch.bool)
    rival[:30], other[100:115] = False, False
    assert is_wide(rival, other)
    # At least 30 heads of 45 tosses.
    assert p_value(rival, other) == pytest.approx(sum(math.comb(45, k) for k in range(30, 46)) / 2**45)
    assert not is_gap(rival, other)
