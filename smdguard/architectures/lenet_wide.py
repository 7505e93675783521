"""The wider LeNet-5 that libraries for adversarial robustness train on digits."""

from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from smdguard.architectures.layered import LayeredNetwork, rectifier


class WideLeNet5(LayeredNetwork):
    """Two 3 x 3 convolutions (32 and 64 channels) and two linear layers (200, K).

    648,226 weights for one channel of 28 x 28 pixels and ten classes.

    Args:
        image_shape: Channels, height and width; height and width at least 4.
        num_classes: K.
        negative_slope: Slope of the rectifiers below zero.

    Reference:
        Ding, Wang, Jin, "AdverTorch v0.1: An Adversarial Robustness Toolbox based on PyTorch", 2019.
    """

    num_layers: ClassVar[int] = 4

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int, *, negative_slope: float = 0.0) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.conv1 = nn.Conv2d(channels, 32, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, kernel_size=3, padding=1)
        self.fc1 = nn.Linear(64 * (height // 4) * (width // 4), 200)
        self.fc2 = nn.Linear(200, num_classes)
        self.activation = rectifier(negative_slope)

    def layers(self, images: Tensor) -> Iterator[Tensor]:
        """See LayeredNetwork."""
        yield (features := self.conv1(images))
        yield (features := self.conv2(self.activation(functional.max_pool2d(features, 2))))
        yield (features := self.fc1(self.activation(functional.max_pool2d(features, 2)).flatten(1)))
        yield self.fc2(self.activation(features))
