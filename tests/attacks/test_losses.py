"""The attacks' losses against numbers worked out by hand, and what they must not depend on."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from smdguard.attacks.losses import (
    LOSSES,
    LossName,
    cross_entropy_direction,
    difference_of_logits_ratio,
    margin,
    standardised_cross_entropy_direction,
    targeted_difference_of_logits_ratio,
)

FOUR = torch.tensor([[4.0, 1.0, 2.0, 0.0]])


def label(value: int) -> Tensor:
    return torch.tensor([value])


def test_margin_by_hand() -> None:
    assert margin(FOUR, label(0)).item() == 2 - 4
    assert margin(FOUR, label(2)).item() == 4 - 2


def test_difference_of_logits_ratio_by_hand() -> None:
    assert difference_of_logits_ratio(FOUR, label(0)).item() == pytest.approx((2 - 4) / (4 - 1))
    assert difference_of_logits_ratio(FOUR, label(3)).item() == pytest.approx((4 - 0) / (4 - 1))


def test_targeted_difference_of_logits_ratio_by_hand() -> None:
    value = targeted_difference_of_logits_ratio(FOUR, label(0), label(1)).item()
    assert value == pytest.approx((1 - 4) / (4 - (1 + 0) / 2))


@pytest.mark.parametrize(("num_classes", "expected"), [(3, (1 - 4) / (4 - 1)), (2, 1 - 4)])
def test_targeted_ratio_with_few_classes(num_classes: int, expected: float) -> None:
    value = targeted_difference_of_logits_ratio(FOUR[:, :num_classes], label(0), label(1)).item()
    assert value == pytest.approx(expected)


def test_ratio_with_two_classes_is_the_margin() -> None:
    assert difference_of_logits_ratio(FOUR[:, :2], label(0)).item() == -3


def test_standardised_cross_entropy_by_hand() -> None:
    # Of mean 0 and variance (4 + 1 + 1 + 4) / 3.
    logits = torch.tensor([[2.0, 1.0, -1.0, -2.0]])
    first, *others = (value / math.sqrt(10 / 3) for value in (2, 1, -1, -2))
    expected = math.log(sum(map(math.exp, others))) - first
    assert standardised_cross_entropy_direction(logits, label(0)).item() == pytest.approx(expected)
    assert standardised_cross_entropy_direction(1e-30 * logits, label(0)).item() == pytest.approx(expected)


@pytest.mark.parametrize("masked", [-300.0, -1e9, -math.inf])
def test_standardised_cross_entropy_takes_a_masked_class_for_the_lowest_of_the_others(masked: float) -> None:
    logits = torch.tensor([[2.0, 1.0, -1.0, -2.0, masked]], requires_grad=True)
    values = standardised_cross_entropy_direction(logits, label(0))
    lifted = torch.tensor([[2.0, 1.0, -1.0, -2.0, -2.0]], requires_grad=True)
    expected = standardised_cross_entropy_direction(lifted, label(0))
    assert values.item() == expected.item()
    gradient, wanted = (torch.autograd.grad(*pair)[0][0] for pair in ((values, logits), (expected, lifted)))
    assert gradient[:4].tolist() == wanted[:4].tolist()
    assert gradient[4] == 0


def test_standardised_cross_entropy_takes_no_class_for_masked_that_is_near_enough_or_the_true_one() -> None:
    # The first three are 3 apart.
    for lowest, truth in ((-298.0, 0), (-1e6, 3)):
        logits = torch.tensor([[2.0, 1.0, -1.0, lowest]])
        centred = logits - logits.mean()
        scaled = (centred / centred.std())[0].tolist()
        others = [value for index, value in enumerate(scaled) if index != truth]
        expected = math.log(sum(map(math.exp, others))) - scaled[truth]
        assert standardised_cross_entropy_direction(logits, label(truth)).item() == pytest.approx(expected, rel=1e-5)


def test_standardised_cross_entropy_with_two_classes_is_the_plain_one() -> None:
    assert standardised_cross_entropy_direction(FOUR[:, :2], label(0)).item() == -3


@pytest.mark.parametrize("value", [0.0, 1.0, 1e-40])
def test_standardised_cross_entropy_of_equal_logits_leads_where_the_plain_one_does(value: float) -> None:
    logits = torch.full((1, 4), value, requires_grad=True)
    loss = standardised_cross_entropy_direction(logits, label(0))
    assert loss.item() == pytest.approx(math.log(3))
    assert torch.autograd.grad(loss, logits)[0].tolist() == [pytest.approx([-1, 1 / 3, 1 / 3, 1 / 3])]


@given(scale=st.floats(0.01, 100), shift=st.floats(-50, 50), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_scale_free_losses_ignore_shift_and_scale(scale: float, shift: float, seed: int) -> None:
    logits = torch.randn(8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    labels, targets = torch.arange(8) % 5, (torch.arange(8) + 2) % 5
    for loss in (
        lambda values: difference_of_logits_ratio(values, labels),
        lambda values: standardised_cross_entropy_direction(values, labels),
        lambda values: targeted_difference_of_logits_ratio(values, labels, targets),
    ):
        torch.testing.assert_close(loss(scale * logits + shift), loss(logits), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", LOSSES)
def test_log_probabilities_and_logits_give_the_same(name: LossName) -> None:
    logits = 3 * torch.randn(8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(8) % 5
    torch.testing.assert_close(LOSSES[name](logits.log_softmax(-1), labels), LOSSES[name](logits, labels))


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_larger_for_the_wrong_decision(name: LossName) -> None:
    wrong, right = LOSSES[name](FOUR, label(2)), LOSSES[name](FOUR, label(0))
    assert (wrong > right).all()


def test_cross_entropy_direction_is_the_cross_entropys_where_that_has_one() -> None:
    logits = torch.randn(8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.arange(8) % 5
    plain = torch.autograd.grad(functional.cross_entropy(logits, labels, reduction="sum"), logits)[0]
    ours = torch.autograd.grad(cross_entropy_direction(logits, labels).sum(), logits)[0]
    torch.testing.assert_close(functional.normalize(ours), functional.normalize(plain))


def test_cross_entropy_direction_survives_saturation() -> None:
    logits = (1e3 * FOUR).requires_grad_()
    plain = torch.autograd.grad(functional.cross_entropy(logits, label(0)), logits)[0]
    ours = torch.autograd.grad(cross_entropy_direction(logits, label(0)).sum(), logits)[0]
    assert plain.abs().sum() == 0
    assert ours.tolist() == [[-1, 0, 1, 0]]
