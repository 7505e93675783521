"""Maximum pooling for features whose channels lie beside each other in memory, which PyTorch's is slow at on a CPU."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from smdguard.architectures.gradient_batches import require_recordable


def max_pool(features: Tensor) -> Tensor:
    """The largest of each 2 x 2 pixels: (B, C, H, W) -> (B, C, H // 2, W // 2).

    Its gradients can be differentiated as often as one likes, but not in forward mode, nor where autograd is given a
    batch of them at once, for which there is torch.func.vmap.
    """
    is_channels_last = features.stride(1) == 1 and features.device.type == "cpu"
    is_recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
    if not is_channels_last or is_recorded:
        return functional.max_pool2d(features, 2)
    if features.requires_grad:
        return _Largest.apply(features)[0]
    height, width = (length // 2 * 2 for length in features.shape[-2:])
    rows = torch.maximum(features[..., 0:height:2, :], features[..., 1:height:2, :])
    return torch.maximum(rows[..., 0:width:2], rows[..., 1:width:2])


class _Largest(Function):
    """The largest features, and their pixels' numbers."""

    generate_vmap_rule = True

    @staticmethod
    def forward(features: Tensor) -> Any:
        return functional.max_pool2d_with_indices(features, (2, 2))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        (features,), (_, pixels) = inputs, output
        ctx.mark_non_differentiable(pixels)
        ctx.save_for_backward(features, pixels)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        features, pixels = ctx.saved_tensors
        return _Spread.apply(require_recordable(grad_outputs[0]), features.detach(), pixels)


class _Spread(Function):
    """Each value at its pixel, and zeros elsewhere."""

    generate_vmap_rule = True

    @staticmethod
    def forward(values: Tensor, features: Tensor, pixels: Tensor) -> Any:
        window = [2, 2], [2, 2], [0, 0], [1, 1], False
        return torch.ops.aten.max_pool2d_with_indices_backward(values, features, *window, pixels)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        return _Gathered.apply(require_recordable(*grad_outputs), *ctx.saved_tensors), None, None


class _Gathered(Function):
    """The values at those pixels, in the features' order in memory, which PyTorch's own does not keep."""

    generate_vmap_rule = True

    @staticmethod
    def forward(values: Tensor, features: Tensor, pixels: Tensor) -> Any:
        all_pixels, chosen = (tensor.permute(0, 2, 3, 1).flatten(1, 2) for tensor in (values, pixels))
        return all_pixels.gather(1, chosen).unflatten(1, pixels.shape[-2:]).permute(0, 3, 1, 2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        return _Spread.apply(require_recordable(*grad_outputs), *ctx.saved_tensors), None, None
