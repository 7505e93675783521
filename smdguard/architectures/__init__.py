"""The networks that members can be. Each builder takes the image's shape and the number of classes."""

from collections.abc import Callable

from torch import nn

from smdguard.architectures.lenet import LeNet5
from smdguard.architectures.resnet import ResNet20

ARCHITECTURES: dict[str, Callable[[tuple[int, int, int], int], nn.Module]] = {
    "lenet": LeNet5,
    "resnet20": ResNet20,
}

__all__ = ["ARCHITECTURES", "LeNet5", "ResNet20"]
