"""Any folder of images as a data set of its own: classes from its folders, the rest measured on its images."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from smdguard.dataset_folders import class_names, load_split, shape_at_hand
from smdguard.datasets import DATASETS, DEFAULT_EPSILON, Dataset, LabelledImages
from smdguard.errors import InvalidInputError
from training.data import TrainingData, hold_out
from training.recipes import as_name

_CALIBRATION_SHARE, _MAX_CALIBRATION_IMAGES = 0.1, 5000
_MAX_SIDE = 1024
# A channel that is the same everywhere has no standard deviation to divide by.
_MIN_STD = 1 / 255


def load_image_folder(
    root: Path, *, image_size: int | None = None, num_calibration_images: int | None = None
) -> tuple[Dataset, TrainingData]:
    """Read a folder of images, whole, as 8-bit integers.

    Args:
        root: Holds train/CLASS/IMAGE with PNG or JPEG files, and test/CLASS/IMAGE or val/CLASS/IMAGE; or
            train/CLASS/IMAGE alone or CLASS/IMAGE itself, of which a fifth of each class, the one that audits take,
            becomes the test half.
        image_size: Height and width to resize the images to; those of the first image where it is None. They get 3
            channels unless all to train on are grey.
        num_calibration_images: How many to hold out; a tenth of the training split, at most 5,000, where it is None.

    Returns:
        What was found out about the data set, and its images.

    Raises:
        InvalidInputError: It is not such a folder, an image cannot be read, or a class has none left to train on.
    """
    described = _describe(root, image_size)
    train, test = load_split(described, root, "train"), load_split(described, root, "test")
    if num_calibration_images is None:
        num_calibration_images = min(_MAX_CALIBRATION_IMAGES, int(_CALIBRATION_SHARE * len(train.images)))
    mean, std = _statistics(train.images)
    kept, held_out = hold_out(train, num_calibration_images)
    _require_every_class(kept, described.labels)
    return replace(described, mean=mean, std=std), TrainingData(kept, held_out, test)


def _describe(root: Path, image_size: int | None) -> Dataset:
    """All but the statistics, which take all images: mean 0 and standard deviation 1."""
    labels = class_names(root, "train")
    if len(labels) < 2:
        raise InvalidInputError(f"{root} holds images of {len(labels)} class; a classifier needs at least two folders")
    channels, height, width = shape_at_hand(root, "train")
    if image_size is not None:
        height = width = image_size
    elif max(height, width) > _MAX_SIDE:
        raise InvalidInputError(
            f"the first image of {root} has {width} x {height} pixels; say with --image-size what all are resized to"
        )
    name = as_name(root.resolve().name)
    return Dataset(
        name=f"{name}-folder" if name in DATASETS else name,
        labels=labels,
        image_shape=(channels, height, width),
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
        epsilon=DEFAULT_EPSILON,
    )


def _require_every_class(data: LabelledImages, labels: tuple[str, ...]) -> None:
    """What is held out is drawn from all classes together, and may be all that a small one has."""
    left = data.labels.bincount(minlength=len(labels))
    if not left.all():
        raise InvalidInputError(
            f"no image of {labels[left.argmin()]} is left to train on; add some, or hold out fewer with --calibration"
        )


def _statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel on the [0, 1] scale, of 8-bit images (N, C, H, W).

    Counted level by level, so that no copy in floats is needed.
    """
    levels = torch.arange(256, dtype=torch.double) / 255
    means, stds = [], []
    for channel in images.unbind(1):
        shares = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        mean = shares @ levels
        std = (shares @ (levels - mean).square()).sqrt()
        means.append(round(mean.item(), 6))
        stds.append(round(max(std.item(), _MIN_STD), 6))
    return tuple(means), tuple(stds)
