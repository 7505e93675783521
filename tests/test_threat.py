"""The mathematics of norms: projections, random starts and directions of ascent."""

from fractions import Fraction
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smdguard.errors import InvalidInputError
from smdguard.threat import ThreatModel, unit

threats = st.builds(
    ThreatModel, norm=st.sampled_from(["linf", "l2"]), epsilon=st.floats(0, 1).filter(lambda e: e == 0 or e > 1e-3)
)
seeds = st.integers(0, 2**32)
TOLERANCE = 1e-6


def pair(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(3, 2, 4, 5, generator=generator)
    return images, images + torch.randn(images.shape, generator=generator)


@given(threats, seeds)
def test_projection_stays_in_ball_and_box(threat: ThreatModel, seed: int) -> None:
    images, candidates = pair(seed)
    projected = threat.project(images, candidates)
    assert (threat.distance(images, projected) <= threat.epsilon + TOLERANCE).all()
    assert projected.min() >= 0
    assert projected.max() <= 1


@given(threats, seeds)
def test_projection_is_idempotent(threat: ThreatModel, seed: int) -> None:
    images, candidates = pair(seed)
    once = threat.project(images, candidates)
    torch.testing.assert_close(threat.project(images, once), once, atol=TOLERANCE, rtol=0)


@given(threats, seeds)
def test_projection_leaves_what_is_inside(threat: ThreatModel, seed: int) -> None:
    images, candidates = pair(seed)
    inside = threat.project(images, images + 0.5 * (threat.project(images, candidates) - images))
    torch.testing.assert_close(threat.project(images, inside), inside, atol=TOLERANCE, rtol=0)


def test_l2_projection_is_the_nearest_point_of_the_ball() -> None:
    images = torch.full((1, 1, 1, 2), 0.5)
    candidate = images + torch.tensor([0.3, 0.4])
    projected = ThreatModel(norm="l2", epsilon=0.25).project(images, candidate)
    torch.testing.assert_close(projected - images, torch.tensor([[[[0.15, 0.2]]]]))


@given(threats, seeds)
def test_random_start_stays_in_ball_and_box_and_repeats(threat: ThreatModel, seed: int) -> None:
    images, _ = pair(seed)
    start = threat.random_start(images, torch.Generator().manual_seed(seed))
    assert (threat.distance(images, start) <= threat.epsilon + TOLERANCE).all()
    assert start.min() >= 0
    assert start.max() <= 1
    assert torch.equal(start, threat.random_start(images, torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_start_fills_the_ball_evenly(norm: str) -> None:
    # In d dimensions the radius r of a uniform point has P(r <= t epsilon) = t^d.
    images = torch.full((20_000, 1, 1, 2), 0.5)
    threat = ThreatModel(norm=norm, epsilon=0.2)  # type: ignore[arg-type]
    radius = threat.distance(images, threat.random_start(images, torch.Generator().manual_seed(0))) / 0.2
    for share in (0.25, 0.5, 0.9):
        assert (radius <= share).double().mean().item() == pytest.approx(share**2, abs=0.015)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_start_favours_no_direction(norm: str) -> None:
    images = torch.full((20_000, 1, 1, 2), 0.5)
    threat = ThreatModel(norm=norm, epsilon=0.2)  # type: ignore[arg-type]
    offset = (threat.random_start(images, torch.Generator().manual_seed(0)) - images).flatten(1) / threat.epsilon
    assert offset.mean(dim=0).abs().max() < 0.02
    spread = offset.T @ offset / offset.square().sum() * 2
    torch.testing.assert_close(spread, torch.eye(2), atol=0.03, rtol=0)


@given(threats, seeds)
def test_ascent_direction_climbs_at_least_as_fast_as_any_other(threat: ThreatModel, seed: int) -> None:
    gradient = pair(seed)[1]
    direction = threat.ascent_direction(gradient)
    other = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(seed + 1))
    other = other / threat.distance(torch.zeros_like(other), other).view(-1, 1, 1, 1)
    slope, other_slope = ((gradient * way).flatten(1).sum(dim=1) for way in (direction, other))
    assert (slope >= other_slope - TOLERANCE).all()


def test_unit_keeps_gradients_that_are_almost_zero() -> None:
    gradient = torch.tensor([[3.0, -4.0], [0.0, 0.0]]) * torch.tensor([[1e-38], [1.0]])
    torch.testing.assert_close(unit(gradient, order=2), torch.tensor([[0.6, -0.8], [0.0, 0.0]]))
    torch.testing.assert_close(unit(gradient, order=1), torch.tensor([[3 / 7, -4 / 7], [0.0, 0.0]]))


@pytest.mark.parametrize("epsilon", [-0.1, 1.1, float("nan"), float("inf"), "0.1", None, True])
def test_radius_outside_the_scale_is_refused(epsilon: Any) -> None:
    with pytest.raises(
        InvalidInputError, match=f"^epsilon must lie between 0 and 1 for the norm linf, not {epsilon!r}$"
    ):
        ThreatModel(norm="linf", epsilon=epsilon)


@pytest.mark.parametrize("epsilon", [Fraction(8, 255), numpy.float32(0.5), 1])
def test_radius_of_any_kind_of_number_becomes_a_float(epsilon: Any) -> None:
    threat = ThreatModel(norm="linf", epsilon=epsilon)
    assert type(threat.epsilon) is float
    assert threat.epsilon == float(epsilon)


@pytest.mark.parametrize("epsilon", [-0.1, float("nan"), float("inf"), "0.1"])
def test_l2_radius_that_no_change_can_have_is_refused(epsilon: Any) -> None:
    message = f"^epsilon must be finite and at least 0 for the norm l2, not {epsilon!r}$"
    with pytest.raises(InvalidInputError, match=message):
        ThreatModel(norm="l2", epsilon=epsilon)


def test_unknown_norm_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="l1"):
        ThreatModel(norm="l1", epsilon=0.1)  # type: ignore[arg-type]


def test_l2_radius_may_exceed_one() -> None:
    assert ThreatModel(norm="l2", epsilon=2.0).epsilon == 2.0


@pytest.mark.parametrize("half", [{"norm": "l2"}, {"epsilon": 0.3}])
def test_neither_norm_nor_radius_is_guessed(half: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        ThreatModel(**half)
