"""What all networks here have in common: they can be looked into layer by layer."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor, nn


class LayeredNetwork(nn.Module, ABC):
    """A network that is described once, as the sequence of its layers; its output is the last of them."""

    num_layers: ClassVar[int]

    @abstractmethod
    def layers(self, images: Tensor) -> Iterator[Tensor]:
        """Each layer's features before their activation, computed one by one as they are asked for.

        Args:
            images: Normalised (B, C, H, W).

        Returns:
            `num_layers` tensors (B, ...); the last are the logits (B, K).
        """

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, C, H, W) -> logits (B, K)."""
        *_, logits = self.layers(images)
        return logits


def rectifier(negative_slope: float) -> nn.Module:
    """The activation max(x, negative_slope x): a rectifier, leaky where the slope is not zero."""
    return nn.LeakyReLU(negative_slope) if negative_slope else nn.ReLU()
