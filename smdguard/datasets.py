"""The data sets: what is known of each, and the bundled test subsets."""

import io
from dataclasses import dataclass
from typing import NamedTuple

import numpy
import torch
from torch import Tensor

from smdguard.errors import InvalidInputError
from smdguard.manifest import ModelConfig
from smdguard.threat import Norm


@dataclass(frozen=True)
class Dataset:
    """What is known of a data set.

    Args:
        name: As it stands in the names of the zoo.
        labels: Name of each class.
        image_shape: Channels, height and width.
        mean: Mean of each channel on the [0, 1] scale.
        std: Standard deviation of each channel on the [0, 1] scale.
        epsilon: Radius in the L-infinity norm that audits use unless told otherwise.
        l2_epsilon: The same in the L2 norm; None where no radius is usual.
        folder: Name of torchvision's class and of its folder; None for a folder of images.
    """

    name: str
    labels: tuple[str, ...]
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    epsilon: float
    l2_epsilon: float | None = None
    folder: str | None = None

    def epsilon_in(self, norm: Norm) -> float:
        """Radius that audits in this norm use unless told otherwise.

        Raises:
            InvalidInputError: No radius is usual.
        """
        radius = self.epsilon if norm == "linf" else self.l2_epsilon
        if radius is None:
            raise InvalidInputError(f"no radius in the norm {norm} is usual for {self.name}; choose one with --epsilon")
        return radius


# Of a data set that has no radius of its own: what the field uses on colour images.
DEFAULT_EPSILON = 8 / 255
_FASHION = "T-shirt/top Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag Ankle-boot"
_OBJECTS = "airplane automobile bird cat deer dog frog horse ship truck"

DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset("mnist", tuple("0123456789"), (1, 28, 28), (0.1307,), (0.3081,), 0.3, 2.0, "MNIST"),
        Dataset("fashion-mnist", tuple(_FASHION.split()), (1, 28, 28), (0.2860,), (0.3530,), 0.1, 2.0, "FashionMNIST"),
        Dataset(
            "cifar10",
            tuple(_OBJECTS.split()),
            (3, 32, 32),
            (0.4914, 0.4822, 0.4465),
            (0.2470, 0.2435, 0.2616),
            8 / 255,
            0.5,
            "CIFAR10",
        ),
    )
}


class LabelledImages(NamedTuple):
    """Images (N, C, H, W) of 8 bits a channel and their classes (N,)."""

    images: Tensor
    labels: Tensor

    def scaled(self) -> Tensor:
        """The images as 32-bit floats in [0, 1]."""
        return self.images.float() / 255


def find_dataset(name: str) -> Dataset:
    """The data set of that name.

    Raises:
        InvalidInputError: There is none.
    """
    if name not in DATASETS:
        raise InvalidInputError(f"unknown data set {name!r}; known are {', '.join(DATASETS)}")
    return DATASETS[name]


def dataset_of(config: ModelConfig) -> Dataset:
    """The data set that a model is for: one of those known by name, or the folder of images that it was trained on."""
    name, of_model = config.training.dataset, config.input
    if name in DATASETS:
        return DATASETS[name]
    return Dataset(name, config.labels, of_model.shape, of_model.mean, of_model.std, DEFAULT_EPSILON)


def parse_subset(content: bytes) -> LabelledImages:
    """The images of a bundled .npz file."""
    with numpy.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return LabelledImages(torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["labels"]).long())


def balanced_subset(data: LabelledImages, num_images: int) -> LabelledImages:
    """The images of balanced_rows.

    Raises:
        InvalidInputError: See balanced_rows.
    """
    rows = balanced_rows(data.labels, num_images)
    return LabelledImages(data.images[rows], data.labels[rows])


def balanced_rows(labels: Tensor, num_images: int) -> Tensor:
    """Where the first images of each class stand, as many of each, ordered by class.

    Raises:
        InvalidInputError: The number is not a positive multiple of the number of classes, or a class has too few
            images.
    """
    classes = labels.unique()
    each, remainder = divmod(num_images, len(classes))
    rows = [(labels == label).nonzero().flatten()[:each] for label in classes]
    if num_images < 1 or remainder or any(len(row) < each for row in rows):
        most = len(classes) * min(int((labels == label).sum()) for label in classes)
        below = each * len(classes)
        nearest = sorted({min(max(number, len(classes)), most) for number in (below, below + len(classes))})
        raise InvalidInputError(
            f"{num_images} images cannot be taken evenly from {len(classes)} classes of {len(labels)} images; take "
            f"{' or '.join(map(str, nearest))} (a multiple of {len(classes)}, at most {most})"
        )
    return torch.cat(rows)
