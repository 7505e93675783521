"""The networks that members can be. A builder takes what LayeredNetwork does."""

from collections.abc import Callable

from torch import nn

from smdguard.architectures.layered import LayeredNetwork
from smdguard.architectures.lenet import LeNet5
from smdguard.architectures.lenet_wide import WideLeNet5
from smdguard.architectures.resnet import ResNet20
from smdguard.architectures.side_by_side import SideBySide

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "lenet": LeNet5,
    "lenet-wide": WideLeNet5,
    "resnet20": ResNet20,
}

__all__ = ["ARCHITECTURES", "LayeredNetwork", "LeNet5", "ResNet20", "SideBySide", "WideLeNet5"]
