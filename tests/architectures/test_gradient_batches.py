"""Batches of gradients: had at once, and refused where their own derivatives would be left out."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from smdguard.architectures.max_pooling import max_pool
from smdguard.architectures.narrow_convolution import _convolved, _Geometry

WEIGHTS = torch.rand(3, 1, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
FUNCTIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "convolution": (
        lambda images: _convolved(images, WEIGHTS, None, _Geometry(size=5, padding=2, groups=3, block=4)),
        lambda images: functional.conv2d(images, WEIGHTS, padding=2, groups=3),
    ),
    "pooling": (max_pool, lambda images: functional.max_pool2d(images, 2)),
}


def gradient_of(function: Callable[[Tensor], Tensor], order: int, images: Tensor) -> Tensor:
    """That of a function that is not linear in the images, differentiated some times."""
    value = function(images.sin())
    for _ in range(order):
        (value,) = torch.autograd.grad(value.sin().sum(), images, create_graph=True)
    return value


@pytest.fixture
def images() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(2, 3, 8, 8, dtype=torch.float64, generator=generator)
    return images.contiguous(memory_format=torch.channels_last).requires_grad_()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_batch_of_first_derivatives_is_had_at_once(name: str, images: Tensor) -> None:
    gradients = []
    for function in FUNCTIONS[name]:
        value = function(images.sin())
        batch = torch.stack([torch.ones_like(value), value.detach()])
        gradients.append(torch.autograd.grad(value, images, batch, is_grads_batched=True))
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_batch_with_a_graph_is_refused_at_every_order(name: str, order: int, images: Tensor) -> None:
    ours = gradient_of(FUNCTIONS[name][0], order, images)
    with pytest.raises(RuntimeError, match=r"use torch\.func\.vmap"):
        torch.autograd.grad(ours, images, ours.detach()[None], is_grads_batched=True, create_graph=True)
