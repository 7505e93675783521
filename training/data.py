"""Training images, whole and in memory, cut into shuffled batches on the device."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from smdguard.dataset_folders import load_split
from smdguard.datasets import LabelledImages, find_dataset
from smdguard.errors import InvalidInputError


class TrainingData(NamedTuple):
    """The data set cut in three: what is trained on, what the suspicion score is calibrated on, and the test split."""

    train: LabelledImages
    calibration: LabelledImages
    test: LabelledImages


def load_training_data(name: str, root: Path, *, num_calibration_images: int, download: bool) -> TrainingData:
    """Read a data set and hold out the calibration images, the same ones for every seed and method.

    Raises:
        InvalidInputError: The data set is not there, or has too few images; the message says what to do.
    """
    dataset = find_dataset(name)
    train = load_split(dataset, root, "train", download=download)
    test = load_split(dataset, root, "test", download=download)
    return TrainingData(*hold_out(train, num_calibration_images), test)


def content_sha256(data: LabelledImages) -> str:
    """SHA-256 of images and labels in their order."""
    digest = hashlib.sha256()
    for part in data:
        digest.update(part.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def hold_out(data: LabelledImages, num_images: int) -> tuple[LabelledImages, LabelledImages]:
    """The images without some that are drawn at random, always the same ones, and those.

    Raises:
        InvalidInputError: None would be left.
    """
    if num_images >= len(data.images):
        raise InvalidInputError(
            f"of {len(data.images)} training images {num_images} cannot be held out; hold out fewer with --calibration"
        )
    order = torch.randperm(len(data.images), generator=torch.Generator().manual_seed(0))
    kept, held_out = (
        LabelledImages(data.images[rows], data.labels[rows]) for rows in (order[num_images:], order[:num_images])
    )
    return kept, held_out


def num_batches(data: LabelledImages, batch_size: int) -> int:
    """How many batches a pass over the data has: the last, smaller one is dropped unless it is the only one."""
    return max(1, len(data.images) // batch_size)


def batches(
    data: LabelledImages, batch_size: int, generator: torch.Generator, *, augmentation: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass over the data in random order: images (B, C, H, W) as floats in [0, 1], labels (B,)."""
    order = torch.randperm(len(data.images), generator=generator).to(data.images.device)
    for rows in order[: num_batches(data, batch_size) * batch_size].split(batch_size):
        images = data.images[rows]
        yield (_cropped_and_flipped(images, generator) if augmentation else images).float() / 255, data.labels[rows]


def _cropped_and_flipped(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image shifted by up to four pixels, with black at the edges, and mirrored with probability one half."""
    padding = 4
    num_images, _, height, width = images.shape
    padded = functional.pad(images, (padding,) * 4)
    shifts = torch.randint(0, 2 * padding + 1, (2, num_images, 1), generator=generator)
    mirrored = torch.randint(0, 2, (num_images, 1), generator=generator).bool()
    # A GPU does not stop for them.
    (top, left), mirrored = (drawn.to(images.device, non_blocking=True) for drawn in (shifts, mirrored))
    rows = top + torch.arange(height, device=images.device)
    across = torch.arange(width, device=images.device).expand(num_images, width)
    columns = left + torch.where(mirrored, width - 1 - across, across)
    which = torch.arange(num_images, device=images.device).view(-1, 1, 1)
    return padded[which, :, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2)
