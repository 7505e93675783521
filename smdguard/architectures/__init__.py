"""The networks that members can be. Each builder takes the image's shape, the number of classes and negative_slope."""

from collections.abc import Callable

from torch import nn

from smdguard.architectures.layered import LayeredNetwork
from smdguard.architectures.lenet import LeNet5
from smdguard.architectures.lenet_wide import WideLeNet5
from smdguard.architectures.resnet import ResNet20

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "lenet": LeNet5,
    "lenet-wide": WideLeNet5,
    "resnet20": ResNet20,
}

__all__ = ["ARCHITECTURES", "LayeredNetwork", "LeNet5", "ResNet20", "WideLeNet5"]
