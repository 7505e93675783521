"""ResNet-20 in the form for 32 x 32 images."""

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from smdguard.architectures.batch_normalisation import BatchNormalisation
from smdguard.architectures.layered import GroupedLinear, LayeredNetwork, normalised
from smdguard.architectures.narrow_convolution import NarrowConvolution


class ResNet20(LayeredNetwork):
    """Three stages of three residual blocks with 16, 32 and 64 channels; short-cuts without weights (option A).

    269,722 weights for three channels and ten classes.

    Args:
        image_shape: Channels, height and width.
        num_classes: K.
        **settings: See LayeredNetwork.

    Reference:
        He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", 2016, section 4.2.
    """

    num_layers: ClassVar[int] = 20

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int, **settings: Any) -> None:
        super().__init__(image_shape, num_classes, **settings)
        groups, channels = self.num_members, image_shape[0]
        self.conv = NarrowConvolution(
            groups * channels, groups * 16, kernel_size=3, padding=1, groups=groups, bias=False
        )
        self.norm = BatchNormalisation(groups * 16)
        widths = [(16, 16, 1), (16, 32, 2), (32, 64, 2)]
        self.stages = nn.Sequential(*(self._stage(*width, num_blocks=3) for width in widths))
        self.classifier = GroupedLinear(64, num_classes, groups=groups)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def _stage(self, in_channels: int, out_channels: int, stride: int, *, num_blocks: int) -> nn.Sequential:
        def block(in_channels: int, stride: int) -> _ResidualBlock:
            return _ResidualBlock(in_channels, out_channels, stride, self.activation, groups=self.num_members)

        return nn.Sequential(block(in_channels, stride), *(block(out_channels, 1) for _ in range(num_blocks - 1)))

    def layers(self, images: Tensor) -> Iterator[Tensor]:
        """See LayeredNetwork."""
        yield (features := normalised(self.conv, self.norm, images))
        for block in self.stages.modules():
            if isinstance(block, _ResidualBlock):
                hidden = self.activation(features)
                for features in block.layers(hidden):
                    yield features
        yield self.classifier(self.activation(features).mean(dim=(2, 3)))


class _ResidualBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, stride: int, activation: nn.Module, *, groups: int) -> None:
        super().__init__()
        self.conv1 = _convolution(in_channels, out_channels, stride, groups)
        self.norm1 = BatchNormalisation(groups * out_channels)
        self.conv2 = _convolution(out_channels, out_channels, 1, groups)
        self.norm2 = BatchNormalisation(groups * out_channels)
        self.activation = activation
        self.stride = stride
        self.groups = groups
        self.new_channels = out_channels - in_channels

    def layers(self, images: Tensor) -> Iterator[Tensor]:
        """Features before the inner activation, and before the one that follows the block."""
        yield (features := normalised(self.conv1, self.norm1, images))
        features = normalised(self.conv2, self.norm2, self.activation(features))
        yield features + self._shortcut(images)

    def _shortcut(self, images: Tensor) -> Tensor:
        """The input at the block's stride, with zeros for the channels that the block adds."""
        if not self.new_channels:
            return images
        # Pooling of single pixels, because the gradient of a slice is laid out otherwise than that of a convolution.
        subsampled = functional.avg_pool2d(images, kernel_size=1, stride=self.stride)
        half = self.new_channels // 2
        padding = (0, 0, 0, 0, half, self.new_channels - half)
        return torch.cat([functional.pad(member, padding) for member in subsampled.chunk(self.groups, dim=1)], dim=1)


def _convolution(in_channels: int, out_channels: int, stride: int, groups: int) -> nn.Conv2d:
    return nn.Conv2d(
        groups * in_channels, groups * out_channels, 3, stride=stride, padding=1, groups=groups, bias=False
    )
