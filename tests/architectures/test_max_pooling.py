"""Maximum pooling against PyTorch's own, for every order in memory."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from smdguard.architectures.max_pooling import max_pool

ORDERS = [torch.channels_last, torch.contiguous_format]


def features(order: torch.memory_format, *, size: tuple[int, int] = (6, 8)) -> Tensor:
    """Few different values, so that some windows have two largest."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(4, (2, 3, *size), generator=generator, dtype=torch.float64)
    return values.contiguous(memory_format=order)


@pytest.mark.parametrize("size", [(6, 8), (7, 9), (2, 3)])
@pytest.mark.parametrize("order", ORDERS, ids=["channels last", "channels first"])
def test_values_and_derivatives_are_those_of_pytorch(order: torch.memory_format, size: tuple[int, int]) -> None:
    plain, leaf = features(order, size=size), features(order, size=size).requires_grad_()
    assert torch.equal(max_pool(plain), functional.max_pool2d(plain, 2))
    results = []
    for pool in (max_pool, lambda values: functional.max_pool2d(values, 2)):
        pooled = pool(leaf)
        (first,) = torch.autograd.grad(pooled.pow(3).sum(), leaf, create_graph=True)
        (second,) = torch.autograd.grad(first.pow(3).sum(), leaf, create_graph=True)
        results.append([pooled, first, second, *torch.autograd.grad(second.pow(3).sum(), leaf)])
    torch.testing.assert_close(*results, rtol=0, atol=0)


def test_what_is_not_a_number_is_passed_on() -> None:
    values = features(torch.channels_last)
    values[0, 1, 2, 3] = torch.nan
    expected = functional.max_pool2d(values, 2)
    assert torch.isnan(expected).sum() == 1
    torch.testing.assert_close(max_pool(values), expected, equal_nan=True, rtol=0, atol=0)


def test_second_derivatives_keep_the_order_in_memory() -> None:
    leaf = features(torch.channels_last).requires_grad_()
    pooled = max_pool(leaf)
    cotangent = torch.ones_like(pooled).requires_grad_()
    (gradient,) = torch.autograd.grad(pooled, leaf, cotangent, create_graph=True)
    (second,) = torch.autograd.grad(gradient, cotangent, torch.ones_like(gradient))
    assert all(tensor.is_contiguous(memory_format=torch.channels_last) for tensor in (pooled, gradient, second))
