"""Square: random search that asks the model for its outputs and never for a gradient."""

from bisect import bisect_left
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from smdguard.attacks.attack import Model, Requirement, is_fooled
from smdguard.attacks.losses import margin
from smdguard.attacks.settings import Settings
from smdguard.threat import ThreatModel, unit


@dataclass(frozen=True, kw_only=True)
class Square(Settings):
    """Changes one square window of each image at a time and keeps what brings it closer to a wrong decision.

    Args:
        num_queries: How often the model is asked about an image, besides the clean image.
        initial_ratio: Share of the image's area that the first windows cover.
        targeted: Move towards the given classes instead of away from them.

    Reference:
        Andriushchenko, Croce, Flammarion, Hein, "Square Attack: a Query-Efficient Black-Box Adversarial Attack via
        Random Search", 2020, Algorithm 1.
    """

    name = "Square"
    num_queries: int = 5000
    initial_ratio: float = 0.8
    targeted: bool = False
    requires: ClassVar[Requirement] = "scores"
    needs_members: ClassVar[bool] = False

    def __call__(
        self, model: Model, images: Tensor, labels: Tensor, threat: ThreatModel, *, generator: torch.Generator
    ) -> Tensor:
        """See Attack."""
        found, best = images.clone(), images
        start, propose = (_stripes, _repaint) if threat.norm == "linf" else (_tiles, _move_energy)
        standing = torch.arange(len(images), device=images.device)
        draw = _Draw(len(images), generator, standing, images.dtype)
        with torch.no_grad():
            score, fooled = self._score(model, best, labels)
            for query in range(self.num_queries):
                if fooled.any():
                    found[draw.standing[fooled]] = best[fooled]
                    draw.standing, images, labels, best, score = (
                        values[~fooled] for values in (draw.standing, images, labels, best, score)
                    )
                    if not len(draw.standing):
                        return found
                if query == 0:
                    candidates = start(images, threat, draw)
                else:
                    candidates = propose(images, best, threat, self._window_ratio(query - 1), draw)
                new_score, fooled = self._score(model, candidates, labels)
                # The start replaces the image whatever its score, as in the original.
                better = fooled | (new_score > score) | (query == 0)
                best = torch.where(better.view(-1, 1, 1, 1), candidates, best)
                score = torch.where(better, new_score, score)
        found[draw.standing] = best
        return found

    def _score(self, model: Model, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """How close each decision is to what the attack wants, and whether it is there."""
        logits = model(images)
        score = margin(logits, labels)
        return -score if self.targeted else score, is_fooled(logits, labels, targeted=self.targeted)

    def _window_ratio(self, step: int) -> float:
        """Share of the area that the window of a step after the start covers: halved after given parts of the queries.

        Reference:
            Andriushchenko et al., 2020, section 3 (schedule for 10,000 queries, here stretched to `num_queries`),
            with the halving at 500 that the authors' code has.
        """
        halvings = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
        return self.initial_ratio / 2 ** bisect_left(halvings, 10_000 * step // self.num_queries)


@dataclass
class _Draw:
    """Random numbers for the images that still stand.

    They are drawn for all images of the call, so that an image's numbers do not depend on which others stand.
    """

    num_images: int
    generator: torch.Generator
    standing: Tensor
    dtype: torch.dtype

    def integers(self, num_values: int, *shape: int) -> Tensor:
        """Integers from 0 to num_values - 1, one tensor of the given shape for each image."""
        shape = (self.num_images, *shape)
        return torch.randint(num_values, shape, generator=self.generator, device=self.standing.device)[self.standing]

    def signs(self, *shape: int) -> Tensor:
        """-1 or 1, in the images' type."""
        return (2 * self.integers(2, *shape) - 1).to(self.dtype)

    def window(self, images: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Index of a square window at a random place of each image; it selects (B, C, size, size)."""
        _, num_channels, height, width = images.shape
        side = torch.arange(size, device=images.device)
        rows = self.integers(height - size + 1, 1, 1, 1) + side.view(-1, 1)
        columns = self.integers(width - size + 1, 1, 1, 1) + side
        channels = torch.arange(num_channels, device=images.device).view(-1, 1, 1)
        return torch.arange(len(images), device=images.device).view(-1, 1, 1, 1), channels, rows, columns


def _window_size(images: Tensor, ratio: float, *, smallest: int) -> int:
    height, width = images.shape[-2:]
    return min(max(round((ratio * height * width) ** 0.5), smallest), height, width)


def _stripes(images: Tensor, threat: ThreatModel, draw: _Draw) -> Tensor:
    """Vertical stripes of + or - epsilon: where the search starts under L-inf."""
    _, num_channels, _, width = images.shape
    return threat.project(images, images + threat.epsilon * draw.signs(num_channels, 1, width))


def _repaint(images: Tensor, best: Tensor, threat: ThreatModel, ratio: float, draw: _Draw) -> Tensor:
    """Change one window by + or - epsilon, one sign for each channel.

    Reference:
        Andriushchenko et al., 2020, Algorithm 2.
    """
    window = draw.window(images, _window_size(images, ratio, smallest=1))
    candidates = best.clone()
    candidates[window] = images[window] + threat.epsilon * draw.signs(images.shape[1], 1, 1)
    return threat.project(images, candidates)


def _tiles(images: Tensor, threat: ThreatModel, draw: _Draw) -> Tensor:
    """About five by five tiles of double pyramids: where the search starts under L2."""
    _, num_channels, height, width = images.shape
    size = max(min(height, width) // 5, 1)
    num_rows, num_columns = height // size, width // size
    tiles = _double_pyramids(images, size, draw, num_channels, num_rows, num_columns)
    mosaic = tiles.transpose(3, 4).reshape(len(images), num_channels, num_rows * size, num_columns * size)
    top, left = (height - num_rows * size) // 2, (width - num_columns * size) // 2
    pattern = torch.zeros_like(images)
    pattern[:, :, top : top + mosaic.shape[2], left : left + mosaic.shape[3]] = mosaic
    return threat.project(images, images + threat.epsilon * unit(pattern, order=2))


def _move_energy(images: Tensor, best: Tensor, threat: ThreatModel, ratio: float, draw: _Draw) -> Tensor:
    """Clear one window and put its length, and what was unused, into another, bent towards a double pyramid.

    Reference:
        Andriushchenko et al., 2020, Algorithm 3.
    """
    num_channels = images.shape[1]
    size = min(_window_size(images, ratio, smallest=3) | 1, *images.shape[-2:])
    target, source = draw.window(images, size), draw.window(images, size)
    change = best - images
    involved = torch.zeros_like(images)
    involved[target] = involved[source] = 1
    unused = (threat.epsilon**2 - change.square().sum(dim=(1, 2, 3), keepdim=True)).clamp_min(0) / num_channels
    length = ((change * involved).square().sum(dim=(2, 3), keepdim=True) + unused).sqrt()
    pattern = _unit_window(change[target]) + _double_pyramids(images, size, draw, num_channels)
    change[source] = 0
    change[target] = _unit_window(pattern) * length
    return threat.project(images, images + change)


def _double_pyramids(images: Tensor, size: int, draw: _Draw, *shape: int) -> Tensor:
    """A positive and a negative pyramid side by side, turned and signed at random, each of length one.

    Returns:
        Windows (B, *shape, size, size), the first of `shape` being the channels.

    Reference:
        Andriushchenko et al., 2020, section 3.4, Eq. 2.
    """
    halves = [_pyramid(images, size // 2, size), -_pyramid(images, size - size // 2, size)]
    upright = _unit_window(torch.cat(halves))
    # A window is turned in all its channels alike.
    turned = draw.integers(2, 1, *shape[1:], 1, 1) == 1
    return torch.where(turned, upright.T, upright) * draw.signs(*shape, 1, 1)


def _pyramid(images: Tensor, height: int, width: int) -> Tensor:
    """Sum of 1 / (r + 1)^2 over all r from a pixel's distance to the centre upwards, as a window of length one."""
    rows = torch.arange(height, device=images.device) - height // 2
    columns = torch.arange(width, device=images.device) - width // 2
    distance = torch.maximum(rows.abs().view(-1, 1), columns.abs())
    terms = torch.arange(1, max(height, width) // 2 + 2, device=images.device, dtype=images.dtype) ** -2.0
    return _unit_window(terms.flip(0).cumsum(0).flip(0)[distance])


def _unit_window(windows: Tensor) -> Tensor:
    """Each channel's window divided by its L2 norm; zero stays zero."""
    length = torch.linalg.vector_norm(windows, dim=(-2, -1), keepdim=True)
    return windows / torch.where(length > 0, length, torch.ones_like(length))
