"""Wrong use, caught before time is spent on it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from smdguard.attacks import Model
from smdguard.errors import InvalidInputError
from smdguard.threat import ThreatModel


def checked_images(images: Any) -> Tensor:
    """The images as a float tensor (B, C, H, W).

    Raises:
        InvalidInputError: They have another shape or type, are not finite, or leave [0, 1].
    """
    images = torch.as_tensor(images)
    if images.dim() != 4 or not len(images):
        raise InvalidInputError(f"images must have the shape (B, C, H, W) with B at least 1, not {tuple(images.shape)}")
    if not images.is_floating_point():
        raise InvalidInputError(f"images must be floats in [0, 1], not {images.dtype}; divide 8-bit images by 255")
    num_broken = int((~images.isfinite()).flatten(1).any(dim=1).sum())
    if num_broken:
        raise InvalidInputError(f"{num_broken} of {len(images)} images hold NaN or infinite pixels")
    low, high = images.min().item(), images.max().item()
    if low < 0 or high > 1:
        raise InvalidInputError(
            f"images must lie in [0, 1], but these span [{low:.4g}, {high:.4g}]; normalisation belongs into the model"
        )
    return images


def checked_labels(labels: Any, images: Tensor) -> Tensor:
    """The labels as an integer tensor (B,) on the images' device.

    Raises:
        InvalidInputError: There is not one integer for each image.
    """
    labels = torch.as_tensor(labels)
    if labels.shape != images.shape[:1]:
        raise InvalidInputError(
            f"labels must have the shape ({len(images)},), one for each image, not {tuple(labels.shape)}"
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise InvalidInputError(f"labels must be class indices (integers), not {labels.dtype}")
    return labels.to(images.device, torch.int64)


def check_model(model: Model, images: Tensor, labels: Tensor) -> None:
    """Try the model on a few images.

    Raises:
        InvalidInputError: It is in training mode, its output is not (B, K) finite values, or a label is no class.
    """
    if isinstance(model, nn.Module) and model.training:
        raise InvalidInputError("the model is in training mode; call model.eval() first")
    few = images[:2]
    with torch.no_grad():
        output = model(few)
    if not isinstance(output, Tensor) or output.dim() != 2 or len(output) != len(few) or output.shape[1] < 2:
        got = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise InvalidInputError(f"the model must turn {len(few)} images into logits ({len(few)}, K), but gave {got}")
    num_classes = output.shape[1]
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise InvalidInputError(f"labels must lie in 0 to {num_classes - 1}, but these span {low} to {high}")
    if bool((output >= 0).all()) and torch.allclose(output.sum(dim=1), output.new_ones(len(few)), atol=1e-4):
        raise InvalidInputError(
            "the model seems to give probabilities; give logits or log-probabilities, or gradients will vanish "
            "where it is sure and the audit will overstate its robustness"
        )


def checked_epsilons(epsilons: Sequence[float], threat: ThreatModel) -> list[float]:
    """The radii to audit, ascending, the threat model's own last.

    Raises:
        InvalidInputError: A radius is negative or above the threat model's.
    """
    for epsilon in epsilons:
        if not 0 <= epsilon <= threat.epsilon:
            raise InvalidInputError(f"every epsilon must lie between 0 and {threat.epsilon:g}, not {epsilon:g}")
    return sorted({*epsilons, threat.epsilon})
