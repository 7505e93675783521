"""The networks that members can be. A builder takes what LayeredNetwork does."""

from smdguard.architectures.layered import LayeredNetwork
from smdguard.architectures.lenet import LeNet5
from smdguard.architectures.lenet_wide import WideLeNet5
from smdguard.architectures.registry import ARCHITECTURES
from smdguard.architectures.resnet import ResNet20
from smdguard.architectures.side_by_side import SideBySide

__all__ = ["ARCHITECTURES", "LayeredNetwork", "LeNet5", "ResNet20", "SideBySide", "WideLeNet5"]
