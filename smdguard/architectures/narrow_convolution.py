"""A convolution of few channels a member, with gradients that a CPU computes several times faster."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.autograd import Function
from torch.nn import functional
from torch.nn.grad import conv2d_weight

from smdguard.architectures.gradient_batches import require_recordable

_MOST_CHANNELS = 24
"""What a CPU's kernels compute at once: three vectors of 8 numbers, or two of 16."""


class NarrowConvolution(nn.Conv2d):
    """A convolution with few channels a group, which takes one image for all groups as well as one for each.

    Its gradients can be differentiated as often as one likes, but not in forward mode, nor where autograd is given a
    batch of them at once, for which there is torch.func.vmap. Its settings are those of torch.nn.Conv2d, but for
    `padding_mode`, which is zeros.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """(B, C, H, W) for all groups, or (B, groups x C, H, W) -> (B, output channels, ...)."""
        groups, block = self._num_groups(input), self._block(input)
        if block == 1:
            return functional.conv2d(input, weight, bias, self.stride, self.padding, self.dilation, groups)
        (size, _), (padding, _) = self.kernel_size, self.padding
        return _convolved(input, weight, bias, _Geometry(size, int(padding), groups, block))

    def _num_groups(self, features: Tensor) -> int:
        """How many of them are in the features: all, or one for all.

        Raises:
            RuntimeError: Neither.
        """
        # One group first: a trace of a network of one member would warn of any comparison of shapes.
        if self.groups == 1 or features.shape[1] == self.in_channels:
            return self.groups
        if features.shape[1] != self._channels:
            raise RuntimeError(
                f"expected features of {self.in_channels} channels, or of {self._channels} for all groups, not of "
                f"{features.shape[1]}"
            )
        return 1

    def _block(self, features: Tensor) -> int:
        """Side of the blocks of pixels that a gradient of these is best computed in; 1 for pixel by pixel."""
        is_plain = features.dtype == torch.float32 and not torch.is_autocast_enabled(features.device.type)
        is_recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
        is_wanted = features.requires_grad and not is_recorded
        if not (is_wanted and features.device.type == "cpu" and is_plain and self._has_geometry()):
            return 1
        height, width = features.shape[-2:]
        fitting = (size for size in (4, 2) if self._channels * size**2 <= _MOST_CHANNELS)
        return next((size for size in fitting if height % size == 0 and width % size == 0), 1)

    def _has_geometry(self) -> bool:
        """Whether _Geometry can say what this convolution is, and PyTorch's own way is not as fast."""
        size = self.kernel_size[0]
        is_padded_less = self.padding in [(padding, padding) for padding in range(size)]
        is_plain = self.kernel_size == (size, size) and is_padded_less and self.stride == self.dilation == (1, 1)
        # Laid at the four places of a block, a kernel of 3 x 3 weights becomes one of 4 x 4, one of 5 x 5 of 6 x 6.
        return is_plain and (size >= 5 or self._channels < 3)

    @property
    def _channels(self) -> int:
        """Of one group."""
        return self.in_channels // self.groups


class _Geometry(NamedTuple):
    """Of a convolution with square kernels, less padding than they are wide, and a stride of one."""

    size: int
    padding: int
    groups: int
    block: int


def _convolved(x: Tensor, w: Tensor, b: Tensor | None, geometry: _Geometry) -> Tensor:
    """x * w + b, with a function for each gradient, as autograd leaves out what nobody wants by whole functions.

    The tensor that a function does not give the gradient of is in a tuple, where autograd does not look for a way.
    """
    y = _ByWeights.apply((x,), w, b, geometry)
    return _Both.apply(y, _ByImages.apply(x, (w, y), geometry))


def _without_copies(x: Tensor, groups: int) -> tuple[Tensor, int]:
    """The images and how many groups they are: one group for all members where all see the same, as in training.

    The comparison takes a small part of a convolution's time, and ends early where they differ.
    """
    if not is_functorch_wrapped_tensor(x):
        first, *others = x.chunk(groups, dim=1)
        if all(torch.equal(first, other) for other in others):
            return first, 1
    return x, groups


def _plain_conv2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, **settings: int) -> Tensor:
    """PyTorch's, in the tensors' own type also where a backward pass runs under autocast."""
    with torch.autocast("cpu", enabled=False):
        return functional.conv2d(input, weight, bias, **settings)


class _ByWeights(Function):
    """x * w + b as a function of w and b."""

    generate_vmap_rule = True

    @staticmethod
    def forward(images: tuple[Tensor], w: Tensor, b: Tensor | None, geometry: _Geometry) -> Any:
        x, groups = _without_copies(*images, geometry.groups)
        return _plain_conv2d(_channels_last(x), w, b, padding=geometry.padding, groups=groups)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        images, *_, ctx.geometry = inputs
        ctx.save_for_backward(*images)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        g, (x,) = require_recordable(*grad_outputs), ctx.saved_tensors
        _, of_w, of_b, _ = ctx.needs_input_grad
        return (
            None,
            _GradientOfWeights.apply(g, x, ctx.geometry) if of_w else None,
            g.sum(dim=(0, 2, 3)) if of_b else None,
            None,
        )


class _ByImages(Function):
    """x * w as a function of x, but for its value, which is elsewhere: zeros that take no memory.

    They are made of x * w + b, so that vmap sees as many of them as of it, also where all weights share one x.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, others: tuple[Tensor, Tensor], geometry: _Geometry) -> Any:
        _, y = others
        return y.new_zeros(()).expand_as(y)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        _, (w, _), ctx.geometry = inputs
        ctx.save_for_backward(w)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        return _GradientOfImages.apply(require_recordable(*grad_outputs), *ctx.saved_tensors, ctx.geometry), None, None


class _Both(Function):
    """The sum of a value and zeros, without the pass over memory.

    Detached, as autograd lets nobody change a view that such a function gives, which a rectifier in place does.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, zeros: Tensor) -> Any:
        return value.detach()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        return *grad_outputs, *grad_outputs


class _GradientOfImages(Function):
    """The convolution of g with the kernels turned round, for a block of pixels at once.

    There are as many outputs as an image has channels, one for grey images, which leave most of a vector's lanes
    empty. So the pixels of a block become channels: the kernels are laid at every place of a block.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(g: Tensor, w: Tensor, geometry: _Geometry) -> Any:
        size, padding, groups, block = geometry
        turned = w.unflatten(0, (groups, -1)).transpose(1, 2).flip(-2, -1)
        places = [(row, column) for row in range(block) for column in range(block)]
        laid = [functional.pad(turned, (column, block - 1 - column, row, block - 1 - row)) for row, column in places]
        kernels = torch.stack(laid, dim=2).flatten(0, 2)
        blocks = _plain_conv2d(_channels_last(g), kernels, stride=block, padding=size - 1 - padding, groups=groups)
        return functional.pixel_shuffle(blocks, block)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        g, w, ctx.geometry = inputs
        ctx.save_for_backward(g, w)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        x, (g, w) = require_recordable(*grad_outputs), ctx.saved_tensors
        of_g, of_w, _ = ctx.needs_input_grad
        return (
            _convolved(x, w, None, ctx.geometry) if of_g else None,
            _GradientOfWeights.apply(g, x, ctx.geometry) if of_w else None,
            None,
        )


class _GradientOfWeights(Function):
    """Each kernel's place by place products of g and x, summed.

    Where three channels go in, in all or for each of several members, a CPU's library chooses a slow kernel that is
    made for colours; a channel of zeros avoids it.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(g: Tensor, x: Tensor, geometry: _Geometry) -> Any:
        size, padding, *_ = geometry
        x, groups = _without_copies(x, geometry.groups)
        channels = x.shape[1] // groups
        if is_slow := groups > 1 and 3 in (channels, x.shape[1]):
            x = functional.pad(x.unflatten(1, (groups, channels)), (0, 0, 0, 0, 0, 1)).flatten(1, 2)
        shape = (g.shape[1], channels + is_slow, size, size)
        return conv2d_weight(_channels_last(x), shape, g, padding=padding, groups=groups).narrow(1, 0, channels)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        g, x, ctx.geometry = inputs
        ctx.save_for_backward(g, x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        w, (g, x) = require_recordable(*grad_outputs), ctx.saved_tensors
        of_g, of_x, _ = ctx.needs_input_grad
        return (
            _convolved(x, w, None, ctx.geometry) if of_g else None,
            _GradientOfImages.apply(g, w, ctx.geometry) if of_x else None,
            None,
        )


def _channels_last(tensor: Tensor) -> Tensor:
    """The order in memory that these kernels are fast in, which a single channel otherwise leaves open."""
    last = tensor.movedim(1, -1)
    last = last.contiguous() if last.shape[-1] > 1 else last.clone(memory_format=torch.contiguous_format)
    return last.movedim(-1, 1)
