"""Batch normalisation against PyTorch's, and its derivatives against finite differences."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

from smdguard.architectures.batch_normalisation import BatchNormalisation, _sum_of_product

ROUNDING = {"rtol": 1e-12, "atol": 1e-12}


@pytest.fixture
def features() -> Tensor:
    """Channels of unlike means and spreads."""
    features = torch.randn(4, 3, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return features * torch.tensor([0.1, 1, 5]).view(-1, 1, 1) + torch.tensor([-3, 0, 2]).view(-1, 1, 1)


def with_weights(layer: nn.BatchNorm2d) -> nn.BatchNorm2d:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        layer.weight.copy_(torch.rand(3, generator=generator) + 0.5)
        layer.bias.copy_(torch.randn(3, generator=generator))
    return layer.double()


@pytest.fixture
def ours() -> nn.BatchNorm2d:
    return with_weights(BatchNormalisation(3))


@pytest.fixture
def theirs() -> nn.BatchNorm2d:
    return with_weights(nn.BatchNorm2d(3))


@pytest.mark.parametrize("training", [True, False])
def test_outputs_and_running_statistics_are_pytorchs(ours, theirs, features, training):
    for _ in range(2):
        expected = theirs.train(training)(features)
        torch.testing.assert_close(ours.train(training)(features), expected, **ROUNDING)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), **ROUNDING)
    assert ours.state_dict()["num_batches_tracked"] == 2 * training


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_gradient_of_a_gradients_function_is_pytorchs(ours, theirs, features, order):
    def derivatives(layer: nn.BatchNorm2d) -> tuple[Tensor, ...]:
        leaf = features.to(memory_format=order).requires_grad_()
        gradient = torch.autograd.grad(layer(leaf).sin().sum(), leaf, create_graph=True)[0]
        return torch.autograd.grad(gradient.cos().sum(), (leaf, layer.weight, layer.bias))

    torch.testing.assert_close(derivatives(ours), derivatives(theirs), **ROUNDING)


def test_derivatives_are_the_limits_of_differences(ours, features):
    inputs = tuple(tensor.clone().requires_grad_() for tensor in (features, ours.weight, ours.bias))

    def normalised(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return functional_call(ours, {"weight": weight, "bias": bias}, (features,))

    assert gradcheck(normalised, inputs)
    assert gradgradcheck(normalised, inputs)


def test_third_derivatives_are_refused(ours, features):
    leaf = features.requires_grad_()
    first = torch.autograd.grad(ours(leaf).sin().sum(), leaf, create_graph=True)[0]
    second = torch.autograd.grad(first.cos().sum(), leaf, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        second.sum().backward()


class GradientKernelCalls(TorchDispatchMode):
    """Keeps what the kernel of the gradients is called with."""

    def __init__(self) -> None:
        super().__init__()
        self.arguments: list[tuple[Any, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.native_batch_norm_backward.default:
            self.arguments.append(args)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_kernels_are_called_as_those_of_a_gpu_need_it(precision):
    """Unlike a CPU's they refuse to go without weights, features of two types, and statistics of few bits."""
    layer = with_weights(BatchNormalisation(3)).float()
    leaf = torch.randn(4, 3, 2, 3, generator=torch.Generator().manual_seed(0)).to(precision).requires_grad_()
    with GradientKernelCalls() as calls:
        gradient = torch.autograd.grad(layer(leaf).sin().sum(), leaf, create_graph=True)[0]
        gradient.cos().sum().backward()
    assert len(calls.arguments) == 4  # One for each of the gradients of y, and two for those of the gradients.
    for gradients, features, weights, _, _, mean, deviation, *_ in calls.arguments:
        assert {gradients.dtype, features.dtype} == {precision}
        assert {each.dtype for each in (weights, mean, deviation)} == {torch.float32}


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_sums_of_products_of_few_bits_have_32(order):
    first, second = torch.randn(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    exact = (first.double() * second.double()).sum(dim=(0, 2, 3))
    total = _sum_of_product(first.contiguous(memory_format=order), second, torch.full((3,), 7.0))
    torch.testing.assert_close(total, exact.float(), rtol=1e-5, atol=1e-5)
