"""Batches of gradients: had at once, and refused where their own derivatives would be left out."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from smdguard.architectures.max_pooling import _Gathered, _Spread, max_pool
from smdguard.architectures.narrow_convolution import _convolved, _Geometry, _GradientOfImages, _GradientOfWeights

GENERATOR = torch.Generator().manual_seed(0)
GEOMETRY = _Geometry(size=5, padding=2, groups=3, block=4)
WEIGHTS = torch.rand(3, 1, 5, 5, dtype=torch.float64, generator=GENERATOR)
IMAGES = torch.rand(2, 3, 8, 8, dtype=torch.float64, generator=GENERATOR).to(memory_format=torch.channels_last)
POOLED, PIXELS = functional.max_pool2d_with_indices(IMAGES, 2)

Function = Callable[[Tensor], Tensor]
OURS_AND_PYTORCHS: dict[str, tuple[Function, Function, Tensor]] = {
    "convolution, by images": (
        lambda images: _convolved(images, WEIGHTS, None, GEOMETRY),
        lambda images: functional.conv2d(images, WEIGHTS, padding=2, groups=3),
        IMAGES,
    ),
    "convolution, by weights": (
        lambda weights: _convolved(IMAGES, weights, None, GEOMETRY),
        lambda weights: functional.conv2d(IMAGES, weights, padding=2, groups=3),
        WEIGHTS,
    ),
    "pooling": (max_pool, lambda images: functional.max_pool2d(images, 2), IMAGES),
}
OUR_GRADIENTS: dict[str, tuple[Function, Tensor]] = {
    "of images, by the output's": (lambda g: _GradientOfImages.apply(g, WEIGHTS, GEOMETRY), IMAGES),
    "of images, by weights": (lambda weights: _GradientOfImages.apply(IMAGES, weights, GEOMETRY), WEIGHTS),
    "of weights, by the output's": (lambda g: _GradientOfWeights.apply(g, IMAGES, GEOMETRY), IMAGES),
    "of weights, by images": (lambda images: _GradientOfWeights.apply(IMAGES, images, GEOMETRY), IMAGES),
    "of pooling": (lambda values: _Spread.apply(values, IMAGES, PIXELS), POOLED),
    "of the gradient of pooling": (lambda values: _Gathered.apply(values, IMAGES, PIXELS), IMAGES),
}
ALL = OUR_GRADIENTS | {name: (ours, leaf) for name, (ours, _, leaf) in OURS_AND_PYTORCHS.items()}


@pytest.mark.parametrize("name", OURS_AND_PYTORCHS)
def test_a_batch_is_had_at_once(name: str) -> None:
    *functions, values = OURS_AND_PYTORCHS[name]
    leaf, gradients = values.clone().requires_grad_(), []
    for function in functions:
        output = function(leaf.sin())
        batch = torch.stack([torch.ones_like(output), output.detach()])
        gradients.append(torch.autograd.grad(output, leaf, batch, is_grads_batched=True))
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ALL)
def test_a_batch_with_a_graph_is_refused(name: str) -> None:
    function, values = ALL[name]
    output = function(leaf := values.clone().requires_grad_())
    with pytest.raises(RuntimeError, match=r"use torch\.func\.vmap"):
        torch.autograd.grad(output, leaf, output.detach()[None], is_grads_batched=True, create_graph=True)
