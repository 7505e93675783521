"""Images, and values about zero, as a report shows them: 8 bits a channel, and no larger than it needs."""

import base64
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from smdguard.report import Picture

# Larger images are shown smaller, so that a report stays small.
MAX_SIDE = 48


def picture_of_image(image: Tensor) -> Picture:
    """An image (C, H, W) in [0, 1]."""
    return _picture(_shrunk(image))


def picture_of_saliency(saliency: Tensor) -> Picture:
    """Values (C, H, W) about zero as levels about 128, the strongest at 1 or 255."""
    return _signed_picture(_shrunk(saliency))


def picture_of_change(change: Tensor) -> Picture:
    """As picture_of_saliency, but shrunk to the strongest values: in a mean, changes up and down would cancel out."""
    return _signed_picture(_shrunk(change, _extremes))


def _picture(image: Tensor) -> Picture:
    levels = (image * 255).round().to("cpu", torch.uint8)
    channels, height, width = levels.shape
    return Picture(channels, height, width, base64.b64encode(levels.numpy().tobytes()).decode())


def _signed_picture(values: Tensor) -> Picture:
    values = values.nan_to_num(0.0, 0.0, 0.0)
    return _picture((128 + 127 * values / values.abs().max().clamp(min=1e-30)) / 255)


def _shrunk(
    image: Tensor, pool: Callable[[Tensor, tuple[int, int]], Tensor] = functional.adaptive_avg_pool2d
) -> Tensor:
    height, width = image.shape[1:]
    scale = min(1.0, MAX_SIDE / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    return pool(image, size) if scale < 1 else image


def _extremes(change: Tensor, size: tuple[int, int]) -> Tensor:
    """Of each window the value furthest from zero."""
    up, down = functional.adaptive_max_pool2d(change, size), functional.adaptive_max_pool2d(-change, size)
    return torch.where(up > down, up, -down)
