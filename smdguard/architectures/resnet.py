"""ResNet-20 in the form for 32 x 32 images."""

from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from smdguard.architectures.layered import LayeredNetwork, rectifier


class ResNet20(LayeredNetwork):
    """Three stages of three residual blocks with 16, 32 and 64 channels; short-cuts without weights (option A).

    269,722 weights for three channels and ten classes.

    Args:
        image_shape: Channels, height and width.
        num_classes: K.
        negative_slope: Slope of the rectifiers below zero.

    Reference:
        He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", 2016, section 4.2.
    """

    num_layers: ClassVar[int] = 20

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int, *, negative_slope: float = 0.0) -> None:
        super().__init__()
        self.conv = _convolution(image_shape[0], 16, stride=1)
        self.norm = nn.BatchNorm2d(16)
        self.activation = rectifier(negative_slope)
        widths = [(16, 16, 1), (16, 32, 2), (32, 64, 2)]
        self.stages = nn.Sequential(*(_stage(*width, self.activation, num_blocks=3) for width in widths))
        self.classifier = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def layers(self, images: Tensor) -> Iterator[Tensor]:
        """See LayeredNetwork."""
        yield (features := self.norm(self.conv(images)))
        for block in self.stages.modules():
            if isinstance(block, _ResidualBlock):
                hidden = self.activation(features)
                for features in block.layers(hidden):
                    yield features
        yield self.classifier(self.activation(features).mean(dim=(2, 3)))


class _ResidualBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, stride: int, activation: nn.Module) -> None:
        super().__init__()
        self.conv1 = _convolution(in_channels, out_channels, stride)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = _convolution(out_channels, out_channels, stride=1)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.activation = activation
        self.stride = stride
        self.new_channels = out_channels - in_channels

    def layers(self, images: Tensor) -> Iterator[Tensor]:
        """Features before the inner activation, and before the one that follows the block."""
        yield (features := self.norm1(self.conv1(images)))
        features = self.norm2(self.conv2(self.activation(features)))
        shortcut = images[:, :, :: self.stride, :: self.stride]
        half = self.new_channels // 2
        yield features + functional.pad(shortcut, (0, 0, 0, 0, half, self.new_channels - half))


def _stage(
    in_channels: int, out_channels: int, stride: int, activation: nn.Module, *, num_blocks: int
) -> nn.Sequential:
    first = _ResidualBlock(in_channels, out_channels, stride, activation)
    return nn.Sequential(
        first, *(_ResidualBlock(out_channels, out_channels, 1, activation) for _ in range(num_blocks - 1))
    )


def _convolution(in_channels: int, out_channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)
