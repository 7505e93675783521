"""LeNet-5, the small convolutional network for digits."""

from collections.abc import Iterator
from typing import Any, ClassVar

from torch import Tensor

from smdguard.architectures.layered import GroupedLinear, LayeredNetwork
from smdguard.architectures.max_pooling import max_pool
from smdguard.architectures.narrow_convolution import NarrowConvolution
from smdguard.errors import InvalidInputError


class LeNet5(LayeredNetwork):
    """Two 5 x 5 convolutions (6 and 16 channels) and three linear layers (120, 84, K).

    61,706 weights for one channel of 28 x 28 pixels and ten classes.

    Args:
        image_shape: Channels, height and width; height and width at least 12.
        num_classes: K.
        **settings: See LayeredNetwork.

    Raises:
        InvalidInputError: The images are smaller.

    Reference:
        LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition", 1998, with
        rectifiers and maximum pooling in place of squashing functions and trained averages.
    """

    num_layers: ClassVar[int] = 5
    is_narrow: ClassVar[bool] = True

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int, **settings: Any) -> None:
        super().__init__(image_shape, num_classes, **settings)
        channels, height, width = image_shape
        if min(height, width) < 12:
            raise InvalidInputError(f"LeNet-5 takes images of at least 12 x 12 pixels, not {height} x {width}")
        groups = self.num_members
        self.conv1 = NarrowConvolution(groups * channels, groups * 6, kernel_size=5, padding=2, groups=groups)
        self.conv2 = NarrowConvolution(groups * 6, groups * 16, kernel_size=5, groups=groups)
        self.fc1 = GroupedLinear(16 * _pooled(height) * _pooled(width), 120, groups=groups)
        self.fc2 = GroupedLinear(120, 84, groups=groups)
        self.fc3 = GroupedLinear(84, num_classes, groups=groups)

    def layers(self, images: Tensor) -> Iterator[Tensor]:
        """See LayeredNetwork."""
        # The rectifier and the maximum commute; in this order the rectifier sees a quarter of the values.
        yield (features := self.conv1(images))
        yield (features := self.conv2(self.activation(max_pool(features))))
        yield (features := self.fc1(self.activation(max_pool(features)).flatten(1)))
        yield (features := self.fc2(self.activation(features)))
        yield self.fc3(self.activation(features))


def _pooled(length: int) -> int:
    """Length of a side after both convolutions and both poolings."""
    return (length // 2 - 4) // 2
