"""Whether a model's input gradients are those of its scores, or an approximation that leads attacks astray."""

from collections.abc import Iterator

import torch
from torch import Tensor

from smdguard.attacks import Model
from smdguard.attacks.losses import cross_entropy_direction
from smdguard.auditing.gradients import loss_gradient, points_in_ball
from smdguard.report import Finding
from smdguard.threat import ThreatModel, unit
from smdguard.wording import counted

# A sixteenth of an 8-bit image's grey level: so short that even deep networks for large images are nearly straight.
STEP = 0.00025
# Rounding, noise and sharp bends change a score by another slope over a step twice as long; nothing is told from them.
MAX_BEND = 0.1
MIN_STEADY, MIN_STEADY_SHARE = 20, 0.25
# Trained networks, robust ones and large ones among them, have 0.98 to 1, and 0.94 on an unlucky draw of 20 images.
MIN_AGREEMENT = 0.8


def probe_slopes(model: Model, images: Tensor, labels: Tensor, threat: ThreatModel) -> Iterator[Finding]:
    """Do short steps in random directions change the loss as the gradient foretells, on the way out and at the end?"""
    generator = torch.Generator().manual_seed(0)
    measured = [
        slope_agreement(model, points, labels, generator) for points in points_in_ball(images, threat, generator)
    ]
    agreement, num_steady = min(measured)
    if agreement < MIN_AGREEMENT:
        message = (
            "The input gradients are not those of the scores: what short steps in random directions change agrees "
            f"with what the gradients foretell by only {agreement:.2f} on {counted(num_steady, 'image')} (1 is full "
            "agreement, 0 none). Attacks follow an approximation, and may fail without the model being robust. Audit "
            "the model with gradients of its own, or rely on gradient-free and transferred attacks."
        )
        yield Finding("approximate_gradients", "high", message, {"agreement": agreement, "num_steady": num_steady})


def slope_agreement(model: Model, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[float, int]:
    """Cosine, over the images, of the slopes of the loss along a random direction: foretold, and measured.

    Both are divided by the length of the image's gradient, so that each image counts alike. The random directions are
    of equal steps in every pixel: where a gradient lacks a share s of the squared length of the true one, the cosine
    is about sqrt(1 - s).

    Args:
        model: Images to scores.
        images: (B, C, H, W) in [0, 1].
        labels: (B,).
        generator: Draws the directions.

    Returns:
        The cosine and the number of images with slopes steady enough to be measured; where those are too few, 1.
    """
    signs = torch.randint(2, images.shape, generator=generator).to(images) * 2 - 1
    gradient = loss_gradient(model, images, labels)
    length = torch.linalg.vector_norm(gradient.flatten(1).double(), dim=1)
    (step, change), (_, long_change) = (_differences(model, images, labels, each * signs) for each in (STEP, 2 * STEP))
    straight = (long_change - 2 * change).abs() <= MAX_BEND * long_change.abs()
    steady = (straight & (change != 0) & change.isfinite() & (length > 0)).nonzero().flatten()
    if len(steady) < max(MIN_STEADY, MIN_STEADY_SHARE * len(images)):
        return 1.0, len(steady)
    foretold = (unit(gradient, order=2).double() * step).flatten(1).sum(dim=1)
    return torch.cosine_similarity(foretold[steady], (change / length)[steady], dim=0).item(), len(steady)


def _differences(model: Model, images: Tensor, labels: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """The way from a step back to a step ahead inside the box, (B, C, H, W), and how the loss changes on it, (B,)."""
    back, ahead = (images - step).clamp(0, 1), (images + step).clamp(0, 1)
    with torch.no_grad():
        before, after = (cross_entropy_direction(model(each).double(), labels) for each in (back, ahead))
    return ahead.double() - back.double(), after - before
