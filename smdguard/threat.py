"""What an adversary may do: a norm and a radius. All norm mathematics lives here."""

import math
from dataclasses import dataclass
from numbers import Real
from typing import Literal, get_args

import torch
from torch import Tensor

from smdguard.errors import InvalidInputError

Norm = Literal["linf", "l2"]


@dataclass(frozen=True)
class ThreatModel:
    """All images within `epsilon` of the original in `norm`, inside the box [0, 1].

    Args:
        norm: "linf" (largest change of a pixel) or "l2" (Euclidean length of the change).
        epsilon: Radius in pixel units of the [0, 1] scale; for "linf" at most 1.

    Raises:
        InvalidInputError: An unknown norm, or a radius that is no number, negative, not finite or, for "linf", above 1.

    Example:
        >>> ThreatModel(norm="linf", epsilon=0.1)
        ThreatModel(norm='linf', epsilon=0.1)
    """

    norm: Norm
    epsilon: float

    def __post_init__(self) -> None:
        if self.norm not in get_args(Norm):
            raise InvalidInputError(f"norm must be one of {', '.join(get_args(Norm))}, not {self.norm!r}")
        is_number = isinstance(self.epsilon, Real) and not isinstance(self.epsilon, bool)
        is_finite = is_number and math.isfinite(self.epsilon)
        if self.norm == "linf" and not (is_finite and 0 <= self.epsilon <= 1):
            raise InvalidInputError(f"epsilon must lie between 0 and 1 for the norm linf, not {self.epsilon!r}")
        if not (is_finite and self.epsilon >= 0):
            raise InvalidInputError(f"epsilon must be finite and at least 0 for the norm l2, not {self.epsilon!r}")
        # Of numbers that Python counts with, such as fractions, tensors know floats alone.
        object.__setattr__(self, "epsilon", float(self.epsilon))

    def distance(self, images: Tensor, others: Tensor) -> Tensor:
        """Distance of each pair of images in the threat model's norm: (B, ...), (B, ...) -> (B,)."""
        order = math.inf if self.norm == "linf" else 2
        return torch.linalg.vector_norm((others - images).flatten(1), ord=order, dim=1)

    def project(self, images: Tensor, candidates: Tensor) -> Tensor:
        """Nearest images to `candidates` in the ball around `images`, then in the box [0, 1].

        Clipping to the box only moves a pixel towards the original, so the result stays in the ball.
        """
        if self.norm == "linf":
            inside = torch.minimum(torch.maximum(candidates, images - self.epsilon), images + self.epsilon)
        else:
            length = _broadcast(self.distance(images, candidates), images)
            shrink = torch.where(length > self.epsilon, self.epsilon / length, torch.ones_like(length))
            inside = images + (candidates - images) * shrink
        return inside.clamp(0, 1)

    def random_start(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A point drawn uniformly from the ball around each image, clipped to the box [0, 1]."""
        if self.norm == "linf":
            offset = torch.rand(images.shape, generator=generator, device=images.device, dtype=images.dtype)
            return (images + self.epsilon * (2 * offset - 1)).clamp(0, 1)
        direction = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
        radius = torch.rand(len(images), generator=generator, device=images.device, dtype=images.dtype)
        radius = self.epsilon * radius ** (1 / images[0].numel())
        return (images + unit(direction, order=2) * _broadcast(radius, images)).clamp(0, 1)

    def ascent_direction(self, gradient: Tensor) -> Tensor:
        """The direction of length one that increases a linear function most; zero where the gradient is zero."""
        return gradient.sign() if self.norm == "linf" else unit(gradient, order=2)


def unit(gradient: Tensor, *, order: int) -> Tensor:
    """Each image's gradient divided by its own norm of the given order; zero stays zero.

    Dividing by the largest entry first keeps gradients that are tiny but not zero from underflowing, so no floor
    under the norm is needed.
    """
    largest = _broadcast(gradient.flatten(1).abs().amax(dim=1), gradient)
    scaled = gradient / torch.where(largest > 0, largest, torch.ones_like(largest))
    length = _broadcast(torch.linalg.vector_norm(scaled.flatten(1), ord=order, dim=1), gradient)
    return scaled / torch.where(length > 0, length, torch.ones_like(length))


def _broadcast(per_image: Tensor, images: Tensor) -> Tensor:
    return per_image.view(-1, *([1] * (images.dim() - 1)))
