"""Batch normalisation whose second derivatives are cheap, for trainings that differentiate an input gradient."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class BatchNormalisation(nn.BatchNorm2d):
    """torch.nn.BatchNorm2d with the derivative of its gradient written out; the third derivative is refused.

    PyTorch's own takes dozens of passes over the features, which change the memory format on the way.

    Args:
        num_features: C.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features)

    def forward(self, input: Tensor) -> Tensor:
        """Features (B, C, H, W) -> the same shape; in training mode each channel by its own statistics."""
        if not self.training:
            return super().forward(input)
        cast(Tensor, self.num_batches_tracked).add_(1)
        running = self.running_mean, self.running_var, True, self.momentum, self.eps
        return _Normalise.apply(input, self.weight, self.bias, running)


class _Normalise(torch.autograd.Function):
    """y = w z + b with z = r (x - mean(x)) and r = 1 / sqrt(variance(x) + eps)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor, running: tuple[Any, ...]) -> Any:
        y, mean, r = torch.ops.aten.native_batch_norm(x, w, b, *running)
        ctx.save_for_backward(x, w, mean, r)
        return y

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        return *_Gradients.apply(*grad_outputs, *ctx.saved_tensors), None


class _Gradients(torch.autograd.Function):
    """Of x, w and b, given g = dL/dy: w r (g - mean(g) - z mean(g z)), sum(g z), sum(g)."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, w: Tensor, mean: Tensor, r: Tensor) -> Any:
        of_x, sum_gz, sum_g = _native_backward(g, x, w, mean, r, [True, True, True])
        ctx.save_for_backward(g, x, w, mean, r, sum_gz, sum_g)
        return of_x, sum_gz, sum_g

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Of g, x and w, given dL/d of the three above: v, u and t."""
        v, u, t = grad_outputs
        g, x, w, mean, r, sum_gz, sum_g = ctx.saved_tensors
        n = g.numel() // len(w)
        _, sum_vz, sum_v = _native_backward(v, x, w, mean, r, [False, True, True])
        vg, vz, gz, v_mean, g_mean = (total / n for total in (_sum_of_product(v, g, w), sum_vz, sum_gz, sum_v, sum_g))
        covariance = vg - v_mean * g_mean
        z_in_g = u - w * r * vz
        of_g = _combined(t - w * r * v_mean - z_in_g * r * mean, (w * r, v), (z_in_g * r, x))
        v_in_x, g_in_x = -w * r.square() * gz, u * r - w * r.square() * vz
        z_in_x = -w * r.square() * (covariance - 3 * vz * gz) - u * r * gz
        offset = -v_in_x * v_mean - g_in_x * g_mean - z_in_x * r * mean
        of_x = _combined(offset, (v_in_x, v), (g_in_x, g), (z_in_x * r, x))
        return of_g, of_x, n * r * (covariance - vz * gz), None, None


def _combined(offset: Tensor, *terms: tuple[Tensor, Tensor]) -> Tensor:
    """Offset + sum of scale x features: offset and scales (C,), features (B, C, H, W)."""
    (scale, features), *others = ((scale.view(-1, 1, 1), features) for scale, features in terms)
    total = torch.addcmul(offset.view(-1, 1, 1), features, scale)
    for scale, features in others:
        total.addcmul_(features, scale)
    return total


def _sum_of_product(features: Tensor, others: Tensor, w: Tensor) -> Tensor:
    """Each channel's sum of products (B, C, H, W) -> (C,), through a kernel that does it in one pass.

    It is the gradient of w, whose values do not count; but the sum has their type, and a GPU's kernel needs them.
    """
    return _native_backward(features, others, w, torch.zeros_like(w), torch.ones_like(w), [False, True, False])[1]


def _native_backward(g: Tensor, x: Tensor, w: Tensor, mean: Tensor, r: Tensor, wanted: list[bool]) -> Any:
    """Of x, w and b, as far as wanted, in one or two passes."""
    return torch.ops.aten.native_batch_norm_backward(g, x, w, None, None, mean, r, True, 0.0, wanted)
