"""What an ensemble makes of images that it does not learn from, in evaluation mode and a few at a time."""

from collections.abc import Iterator

import torch
from torch import Tensor

from smdguard.datasets import LabelledImages
from smdguard.ensemble import Ensemble
from smdguard.scores import average_log_probabilities
from training.modes import evaluating

_NUM_PIXELS = 1000 * 32 * 32


def member_log_probabilities(ensemble: Ensemble, data: LabelledImages) -> Tensor:
    """Log-probabilities of every member on every image (N, M, K)."""
    with evaluating(ensemble), torch.inference_mode():
        return torch.cat([ensemble.member_log_probabilities(images) for images, _ in portions(data)])


def clean_accuracy(ensemble: Ensemble, data: LabelledImages) -> float:
    """Share of the images whose most probable class is the true one."""
    return share_right(member_log_probabilities(ensemble, data), data.labels)


def share_right(outputs: Tensor, labels: Tensor) -> float:
    """The same from log-probabilities of every member on every image (N, M, K), and the true classes (N,)."""
    decisions = average_log_probabilities(outputs).argmax(dim=-1)
    return (decisions == labels).double().mean().item()


def portions(data: LabelledImages, at_most: int = 1000) -> Iterator[tuple[Tensor, Tensor]]:
    """Images (B, C, H, W) as floats in [0, 1] and labels (B,), in order; the larger the images, the fewer at a time."""
    height, width = data.images.shape[-2:]
    size = min(at_most, max(1, _NUM_PIXELS // (height * width)))
    for images, labels in zip(data.images.split(size), data.labels.split(size), strict=True):
        yield images.float() / 255, labels
