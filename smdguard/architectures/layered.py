"""What all networks here have in common: they can be looked into layer by layer, and hold one member or several."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import islice
from typing import ClassVar

import torch
from torch import Tensor, nn


class LayeredNetwork(nn.Module, ABC):
    """A network that is described once, as the sequence of its layers; its output is the last of them.

    One's own needs `layers` and `num_layers` alone. With `num_members` above one, which those of ARCHITECTURES can do,
    it is that many networks side by side: the channels of the first, then those of the second, and so on. Each of its
    weights is the members' weights of that name, one after another along the first axis. The input is one image for all
    members, or as many images as there are members, one after another.

    Args:
        image_shape: Channels, height and width.
        num_classes: K.
        negative_slope: Slope of the rectifiers below zero.
        num_members: How many networks side by side.
    """

    num_layers: ClassVar[int]
    # Whether a convolution has fewer channels than a CPU multiplies at once, which are 8 or 16.
    is_narrow: ClassVar[bool] = False

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        *,
        negative_slope: float = 0.0,
        num_members: int = 1,
    ) -> None:
        super().__init__()
        self.image_shape, self.num_classes, self.negative_slope = image_shape, num_classes, negative_slope
        self.num_members = num_members
        self.activation = nn.LeakyReLU(negative_slope) if negative_slope else nn.ReLU()

    @abstractmethod
    def layers(self, images: Tensor) -> Iterator[Tensor]:
        """Each layer's features before their activation, computed one by one as they are asked for.

        Args:
            images: Normalised (B, C, H, W).

        Returns:
            `num_layers` tensors (B, ...); the last are the logits (B, K).
        """

    def forward(self, images: Tensor, layer: int | None = None) -> Tensor:
        """Normalised images (B, C, H, W) -> the features of a layer (B, ...), by default of the last: logits (B, K)."""
        return next(islice(self.layers(images), self.num_layers - 1 if layer is None else layer, None))


def normalised(convolution: nn.Conv2d, norm: nn.BatchNorm2d, features: Tensor) -> Tensor:
    """The features (B, C, H, W), convolved and normalised.

    In evaluation mode that is a convolution with other weights, and takes no pass over its output.
    """
    if norm.training:
        return norm(convolution(features))
    mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    scale = norm.weight / (variance + norm.eps).sqrt()
    weight = convolution.weight * scale.view(-1, 1, 1, 1)
    return convolution._conv_forward(features, weight, norm.bias - mean * scale)


class GroupedLinear(nn.Linear):
    """Linear layers side by side, each on its own part of the features.

    Args:
        in_features: Of each layer.
        out_features: Of each layer.
        groups: How many layers.
    """

    def __init__(self, in_features: int, out_features: int, *, groups: int) -> None:
        super().__init__(in_features, groups * out_features)
        self.groups = groups

    def forward(self, input: Tensor) -> Tensor:
        """(B, groups x in) -> (B, groups x out)."""
        if self.groups == 1:
            return super().forward(input)
        features = input.unflatten(1, (self.groups, -1)).transpose(0, 1)
        weight, bias = self.weight.unflatten(0, (self.groups, -1)), self.bias.view(self.groups, 1, -1)
        return torch.baddbmm(bias, features, weight.mT).transpose(0, 1).flatten(1)
