"""The networks of this package by name."""

from smdguard.architectures.layered import LayeredNetwork
from smdguard.architectures.lenet import LeNet5
from smdguard.architectures.lenet_wide import WideLeNet5
from smdguard.architectures.resnet import ResNet20

ARCHITECTURES: dict[str, type[LayeredNetwork]] = {
    "lenet": LeNet5,
    "lenet-wide": WideLeNet5,
    "resnet20": ResNet20,
}
