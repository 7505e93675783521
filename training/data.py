"""Training images, whole and in memory, cut into shuffled batches on the device."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from smdguard.datasets import LabelledImages, find_dataset, load_split


class TrainingData(NamedTuple):
    """The data set cut in three: what is trained on, what the suspicion score is calibrated on, and the test half."""

    train: LabelledImages
    calibration: LabelledImages
    test: LabelledImages


def load_training_data(name: str, root: Path, *, num_calibration_images: int, download: bool) -> TrainingData:
    """Read a data set and hold out the calibration images, the same ones for every seed and method.

    Raises:
        InvalidInputError: The data set is not there; the message says how to get it.
    """
    dataset = find_dataset(name)
    train = load_split(dataset, root, train=True, download=download)
    test = load_split(dataset, root, train=False, download=download)
    order = torch.randperm(len(train.images), generator=torch.Generator().manual_seed(0))
    held_out, kept = order[:num_calibration_images], order[num_calibration_images:]
    kept, held_out = (LabelledImages(train.images[rows], train.labels[rows]) for rows in (kept, held_out))
    return TrainingData(kept, held_out, test)


def batches(
    data: LabelledImages, batch_size: int, generator: torch.Generator, *, augmentation: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass over the data in random order: images (B, C, H, W) as floats in [0, 1], labels (B,).

    The last, smaller batch is dropped unless it is the only one.
    """
    order = torch.randperm(len(data.images), generator=generator).to(data.images.device)
    for rows in order[: max(1, len(order) // batch_size) * batch_size].split(batch_size):
        images = data.images[rows]
        yield (_cropped_and_flipped(images, generator) if augmentation else images).float() / 255, data.labels[rows]


def _cropped_and_flipped(images: Tensor, generator: torch.Generator, padding: int = 4) -> Tensor:
    """Each image shifted by up to `padding` pixels, with black at the edges, and mirrored with probability one half."""
    num_images, _, height, width = images.shape
    padded = functional.pad(images, (padding,) * 4)
    top, left = torch.randint(0, 2 * padding + 1, (2, num_images, 1), generator=generator).to(images.device)
    mirrored = torch.randint(0, 2, (num_images, 1), generator=generator).bool().to(images.device)
    rows = top + torch.arange(height, device=images.device)
    across = torch.arange(width, device=images.device).expand(num_images, width)
    columns = left + torch.where(mirrored, width - 1 - across, across)
    which = torch.arange(num_images, device=images.device).view(-1, 1, 1)
    return padded[which, :, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2)
