"""Scores: closed forms, the same in numpy and torch, finite where everything saturates."""

import math
from collections.abc import Callable

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from smdguard.scores import agreement, average_log_probabilities, disagreement, log_odds, of_class

SCORES: list[Callable] = [average_log_probabilities, agreement, disagreement]
SURE = -1e4  # Log-probability of what cannot be: its exponential is exactly zero.


def random_log_probabilities(scale: float, seed: int = 0) -> Tensor:
    """(B, M, K) = (50, 4, 7) in float64."""
    logits = scale * torch.randn(50, 4, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return logits.log_softmax(-1)


def one_hot(classes: list[int], num_classes: int) -> Tensor:
    """Members that are each sure of one class: (1, M, K)."""
    log_probabilities = torch.full((1, len(classes), num_classes), SURE)
    log_probabilities[0, range(len(classes)), classes] = 0
    return log_probabilities


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("scale", [0.1, 3, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numpy_and_torch_give_the_same(score: Callable, scale: float, dtype: torch.dtype) -> None:
    log_probabilities = random_log_probabilities(scale).to(dtype)
    from_torch, from_numpy = score(log_probabilities), score(log_probabilities.numpy())
    assert isinstance(from_torch, Tensor)
    assert isinstance(from_numpy, numpy.ndarray)
    assert from_torch.numpy() == pytest.approx(from_numpy, rel=1e-5, abs=1e-6)


def test_average_is_the_logarithm_of_the_mean_probability() -> None:
    log_probabilities = random_log_probabilities(3)
    expected = log_probabilities.exp().mean(1).log()
    assert average_log_probabilities(log_probabilities).numpy() == pytest.approx(expected.numpy(), rel=1e-12)


def test_average_stays_finite_and_keeps_its_gradient_where_members_saturate() -> None:
    log_probabilities = one_hot([0, 0], 3).requires_grad_()
    average = average_log_probabilities(log_probabilities)
    assert average[0].tolist() == pytest.approx([0, SURE, SURE])
    average[0, 1].backward()
    assert log_probabilities.grad is not None
    assert log_probabilities.grad[0, :, 1].tolist() == pytest.approx([0.5, 0.5])


def test_the_gradient_of_a_member_that_hardly_counts_is_its_share() -> None:
    log_probabilities = torch.tensor([[[0.0], [-20.0]]], requires_grad=True)
    average_log_probabilities(log_probabilities).backward()
    assert log_probabilities.grad is not None
    assert log_probabilities.grad.flatten().tolist() == pytest.approx([1, math.exp(-20)], rel=1e-6)


@pytest.mark.parametrize("as_array", [numpy.asarray, torch.as_tensor], ids=["numpy", "torch"])
def test_a_class_that_no_member_thinks_possible_has_probability_zero(as_array: Callable) -> None:
    """Some networks mask classes, with logits of -inf."""
    members = as_array([[[0.5, 0.5, 0.0], [0.25, 0.75, 0.0]], [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]])
    with numpy.errstate(divide="ignore"):
        members = numpy.log(members) if isinstance(members, numpy.ndarray) else members.log()
    with numpy.errstate(all="raise"):
        average = average_log_probabilities(members)
        entropies = disagreement(members)
    assert numpy.exp(numpy.asarray(average)) == pytest.approx(numpy.array([[0.375, 0.625, 0], [0, 0.5, 0.5]]))
    # Of the mean (0.375, 0.625), less the mean of those of (0.5, 0.5) and (0.25, 0.75); and of two who are sure.
    assert entropies.tolist() == pytest.approx([0.0338217, math.log(2)], abs=1e-6)


@pytest.mark.parametrize("as_array", [numpy.asarray, torch.as_tensor], ids=["numpy", "torch"])
def test_what_is_not_a_number_stays_none(as_array: Callable) -> None:
    average = average_log_probabilities(as_array([[[-1.0, math.nan], [-1.0, -math.inf]]]))
    assert average.tolist() == [[-1.0, pytest.approx(math.nan, nan_ok=True)]]


@pytest.mark.parametrize(
    ("classes", "share"),
    [([0, 0, 0], 1), ([2, 2, 0], 2 / 3), ([1, 0, 0, 0, 2], 3 / 5), ([4], 1)],
)
def test_agreement_is_the_share_of_members_that_decide_as_the_ensemble(classes: list[int], share: float) -> None:
    assert agreement(one_hot(classes, 5)).item() == pytest.approx(share)


def test_agreement_is_zero_where_the_average_decides_for_what_no_member_does() -> None:
    members = torch.tensor([[[0.6, 0.0, 0.4], [0.0, 0.6, 0.4]]]).log().clamp_min(SURE)
    assert average_log_probabilities(members).argmax(-1).tolist() == [2]
    assert agreement(members).item() == 0


@pytest.mark.parametrize("num_members", [1, 2, 3, 7])
def test_identical_members_do_not_disagree(num_members: int) -> None:
    one = random_log_probabilities(2)[:, :1]
    assert disagreement(one.expand(-1, num_members, -1)).abs().max().item() < 1e-12


@pytest.mark.parametrize("num_members", [1, 2, 3, 7])
def test_members_sure_of_different_classes_disagree_by_log_m(num_members: int) -> None:
    members = one_hot(list(range(num_members)), num_classes=7)
    assert disagreement(members).item() == pytest.approx(math.log(num_members), abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(scale=st.floats(0, 1000), seed=st.integers(0, 10_000))
def test_disagreement_lies_between_zero_and_log_m(scale: float, seed: int) -> None:
    scores = disagreement(random_log_probabilities(scale, seed))
    assert scores.min().item() >= -1e-12
    assert scores.max().item() <= math.log(4) + 1e-12


def test_disagreement_does_not_depend_on_the_members_order() -> None:
    log_probabilities = random_log_probabilities(2)
    shuffled = log_probabilities[:, torch.tensor([2, 0, 3, 1])]
    assert disagreement(shuffled).numpy() == pytest.approx(disagreement(log_probabilities).numpy(), rel=1e-9)


LABELS = torch.arange(50) % 7


def test_of_class_picks_the_score_of_each_images_class() -> None:
    logits = torch.arange(4 * 50 * 7).view(4, 50, 7)
    expected = [[(member * 50 + image) * 7 + image % 7 for image in range(50)] for member in range(4)]
    assert of_class(logits, LABELS).tolist() == expected
    assert of_class(logits[0], LABELS).tolist() == expected[0]


@pytest.mark.parametrize("scale", [0.1, 1, 30, 1000])
def test_log_odds_against_numpy_in_double_precision(scale: float) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = scale * torch.randn(4, 50, 7, generator=generator)
    z = logits.double().numpy()
    true = numpy.take_along_axis(z, numpy.broadcast_to(LABELS.numpy(), (4, 50))[..., None], -1)[..., 0]
    others = numpy.where(numpy.arange(7) == LABELS.numpy()[:, None], -numpy.inf, z)
    expected = true - numpy.logaddexp.reduce(others, axis=-1)
    assert log_odds(logits, LABELS).numpy() == pytest.approx(expected, rel=1e-5, abs=1e-4 * scale)
    # Log-probabilities are logits too.
    again = log_odds(logits.double().log_softmax(-1), LABELS)
    assert again.numpy() == pytest.approx(expected, rel=1e-5, abs=1e-4 * scale)


def gradient(function: Callable[[Tensor], Tensor], logits: Tensor) -> Tensor:
    leaf = logits.clone().requires_grad_()
    return torch.autograd.grad(function(leaf).sum(), leaf)[0]


@pytest.mark.parametrize("scale", [0.1, 1, 5])
def test_log_odds_rise_where_the_cross_entropy_falls(scale: float) -> None:
    logits = scale * torch.randn(50, 7, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    of_odds = gradient(lambda z: log_odds(z, LABELS), logits)
    of_loss = gradient(lambda z: torch.nn.functional.cross_entropy(z, LABELS, reduction="none"), logits)
    assert torch.cosine_similarity(of_odds, -of_loss).min().item() == pytest.approx(1)


def test_gradient_of_log_odds_survives_where_that_of_the_cross_entropy_is_zero() -> None:
    logits = torch.zeros(1, 7)
    logits[0, 0] = 1000
    label = torch.tensor([0])
    assert not gradient(lambda z: torch.nn.functional.cross_entropy(z, label), logits).any()
    expected = [1, *[-1 / 6] * 6]
    assert gradient(lambda z: log_odds(z, label), logits)[0].tolist() == pytest.approx(expected)
