"""The wider LeNet-5 that libraries for adversarial robustness train on digits."""

from collections.abc import Iterator
from typing import Any, ClassVar

from torch import Tensor, nn

from smdguard.architectures.layered import GroupedLinear, LayeredNetwork
from smdguard.architectures.max_pooling import max_pool
from smdguard.architectures.narrow_convolution import NarrowConvolution
from smdguard.errors import InvalidInputError


class WideLeNet5(LayeredNetwork):
    """Two 3 x 3 convolutions (32 and 64 channels) and two linear layers (200, K).

    648,226 weights for one channel of 28 x 28 pixels and ten classes.

    Args:
        image_shape: Channels, height and width; height and width at least 4.
        num_classes: K.
        **settings: See LayeredNetwork.

    Raises:
        InvalidInputError: The images are smaller.

    Reference:
        Ding, Wang, Jin, "AdverTorch v0.1: An Adversarial Robustness Toolbox based on PyTorch", 2019.
    """

    num_layers: ClassVar[int] = 4

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int, **settings: Any) -> None:
        super().__init__(image_shape, num_classes, **settings)
        channels, height, width = image_shape
        if min(height, width) < 4:
            raise InvalidInputError(f"the wide LeNet-5 takes images of at least 4 x 4 pixels, not {height} x {width}")
        groups = self.num_members
        self.conv1 = NarrowConvolution(groups * channels, groups * 32, kernel_size=3, padding=1, groups=groups)
        self.conv2 = nn.Conv2d(groups * 32, groups * 64, kernel_size=3, padding=1, groups=groups)
        self.fc1 = GroupedLinear(64 * (height // 4) * (width // 4), 200, groups=groups)
        self.fc2 = GroupedLinear(200, num_classes, groups=groups)

    def layers(self, images: Tensor) -> Iterator[Tensor]:
        """See LayeredNetwork."""
        yield (features := self.conv1(images))
        yield (features := self.conv2(self.activation(max_pool(features))))
        yield (features := self.fc1(self.activation(max_pool(features)).flatten(1)))
        yield self.fc2(self.activation(features))
