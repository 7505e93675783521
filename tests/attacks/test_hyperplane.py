"""The shortest step onto a hyperplane inside the box, against a solver and a closed form."""

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize
from torch import Tensor

from smdguard.attacks.hyperplane import step_onto_hyperplane
from smdguard.threat import Norm

NORMS: list[Norm] = ["linf", "l2"]
NUM_PIXELS = 6


def shortest_length(image: numpy.ndarray, normal: numpy.ndarray, gap: float, norm: Norm) -> float:
    """By a general solver: least length of d with <normal, d> = gap and image + d in [0, 1]."""
    if norm == "linf":
        # Variables (d, t): minimise t with -t <= d <= t.
        identity, ones = numpy.eye(NUM_PIXELS), numpy.ones((NUM_PIXELS, 1))
        solved = linprog(
            c=[*[0.0] * NUM_PIXELS, 1.0],
            A_ub=numpy.block([[identity, -ones], [-identity, -ones]]),
            b_ub=numpy.zeros(2 * NUM_PIXELS),
            A_eq=[[*normal, 0.0]],
            b_eq=[gap],
            bounds=[*zip(-image, 1 - image, strict=True), (0, None)],
        )
        return solved.fun
    solved = minimize(
        lambda step: step @ step,
        jac=lambda step: 2 * step,
        x0=numpy.zeros(NUM_PIXELS),
        bounds=list(zip(-image, 1 - image, strict=True)),
        constraints={"type": "eq", "fun": lambda step: normal @ step - gap, "jac": lambda _: normal},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert solved.success
    return solved.fun**0.5


def draw(seed: int, num_images: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(num_images, 1, 2, 3, generator=generator, dtype=torch.float64)
    return images, torch.randn(num_images, 1, 2, 3, generator=generator, dtype=torch.float64)


def farthest(images: Tensor, normals: Tensor, sign: int) -> Tensor:
    """The largest gap of this sign that the box allows: (B,)."""
    corner = (normals * sign > 0).to(images)
    return (normals * (corner - images)).sum(dim=(1, 2, 3))


def length(steps: Tensor, norm: Norm) -> Tensor:
    return torch.linalg.vector_norm(steps.flatten(1), ord=float("inf") if norm == "linf" else 2, dim=1)


@pytest.mark.parametrize("norm", NORMS)
@given(seed=st.integers(0, 10_000), share=st.floats(0.01, 0.99), sign=st.sampled_from([-1, 1]))
def test_is_as_short_as_a_solvers_and_lands_on_the_plane(norm: Norm, seed: int, share: float, sign: int) -> None:
    images, normals = draw(seed)
    gaps = share * farthest(images, normals, sign)
    step = step_onto_hyperplane(images, normals, gaps, norm)
    torch.testing.assert_close((normals * step).sum(dim=(1, 2, 3)), gaps)
    assert (images + step).min() >= -1e-12
    assert (images + step).max() <= 1 + 1e-12
    expected = shortest_length(images.flatten().numpy(), normals.flatten().numpy(), gaps.item(), norm)
    assert length(step, norm).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_is_the_closed_form_where_the_box_does_not_bind(norm: Norm) -> None:
    _, normals = draw(0, num_images=20)
    images, gaps = torch.full_like(normals, 0.5), torch.linspace(-0.2, 0.2, 20, dtype=torch.float64)
    dual = torch.linalg.vector_norm(normals.flatten(1), ord=1 if norm == "linf" else 2, dim=1)
    along = normals.sign() if norm == "linf" else normals / dual.view(-1, 1, 1, 1)
    expected = along * (gaps / dual).view(-1, 1, 1, 1)
    torch.testing.assert_close(step_onto_hyperplane(images, normals, gaps, norm), expected)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("sign", [-1, 1])
def test_goes_into_the_corner_where_the_plane_lies_outside(norm: Norm, sign: int) -> None:
    images, normals = draw(1, num_images=20)
    step = step_onto_hyperplane(images, normals, 1.5 * farthest(images, normals, sign), norm)
    torch.testing.assert_close(images + step, (normals * sign > 0).to(images))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("gap", [0.0, 1.0])
def test_without_a_direction_there_is_no_step(norm: Norm, gap: float) -> None:
    images, normals = draw(2)
    step = step_onto_hyperplane(images, torch.zeros_like(normals), torch.tensor([gap]).double(), norm)
    assert step.abs().max() == 0


@pytest.mark.parametrize("norm", NORMS)
def test_tiny_normals_of_float32_lead_as_far_as_large_ones(norm: Norm) -> None:
    images, normals = (values.float() for values in draw(3, num_images=20))
    gaps = 0.5 * farthest(images, normals, 1)
    tiny = step_onto_hyperplane(images, 1e-30 * normals, 1e-30 * gaps, norm)
    torch.testing.assert_close(tiny, step_onto_hyperplane(images, normals, gaps, norm))
