"""The data sets: what is known of each, the bundled test subsets, and the full sets on disk."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy
import torch
from torch import Tensor

from smdguard.errors import InvalidInputError
from smdguard.manifest import ModelConfig
from smdguard.preprocess import ImageShape, decode, prepare

Half = Literal["train", "test"]


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
        folder: Name of torchvision's class and of its folder; None for a folder of images.
    """

    name: str
    labels: tuple[str, ...]
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    epsilon: float
    folder: str | None = None


# Of a data set that has no radius of its own: what the field uses on colour images.
DEFAULT_EPSILON = 8 / 255
_FASHION = "T-shirt/top Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag Ankle-boot"
_OBJECTS = "airplane automobile bird cat deer dog frog horse ship truck"

DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset("mnist", tuple("0123456789"), (1, 28, 28), (0.1307,), (0.3081,), 0.3, "MNIST"),
        Dataset("fashion-mnist", tuple(_FASHION.split()), (1, 28, 28), (0.2860,), (0.3530,), 0.1, "FashionMNIST"),
        Dataset(
            "cifar10",
            tuple(_OBJECTS.split()),
            (3, 32, 32),
            (0.4914, 0.4822, 0.4465),
            (0.2470, 0.2435, 0.2616),
            8 / 255,
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
    shape = (of_model.channels, of_model.height, of_model.width)
    return Dataset(name, config.labels, shape, of_model.mean, of_model.std, DEFAULT_EPSILON)


def parse_subset(content: bytes) -> LabelledImages:
    """The images of a bundled .npz file."""
    with numpy.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return LabelledImages(torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["labels"]).long())


def balanced_subset(data: LabelledImages, num_images: int) -> LabelledImages:
    """The first images of each class, as many of each, ordered by class.

    Raises:
        InvalidInputError: The number is not a positive multiple of the number of classes, or a class has too few
            images.
    """
    classes = data.labels.unique()
    each, remainder = divmod(num_images, len(classes))
    rows = [(data.labels == label).nonzero().flatten()[:each] for label in classes]
    if num_images < 1 or remainder or any(len(row) < each for row in rows):
        raise InvalidInputError(
            f"{num_images} images cannot be taken evenly from {len(classes)} classes of {len(data.labels)} images"
        )
    return LabelledImages(data.images[torch.cat(rows)], data.labels[torch.cat(rows)])


def load_split(dataset: Dataset, root: Path, *, train: bool, download: bool = False) -> LabelledImages:
    """One half of a data set, whole, in memory.

    Args:
        dataset: Which one.
        root: Where torchvision keeps it, or a folder with train/CLASS/IMAGE and test/CLASS/IMAGE, itself or under
            the data set's name; CLASS is a label or its index, IMAGE a PNG or JPEG file. Of a data set that
            torchvision does not know, also a folder with CLASS/IMAGE.
        train: The training half, else the test half.
        download: Let torchvision fetch it when it is not there.

    Raises:
        InvalidInputError: It is not there, damaged, or a folder is no class.
    """
    half: Half = "train" if train else "test"
    if dataset.folder is None:
        return _from_image_folder(class_folder(root, half), dataset)
    for folder in (root / dataset.folder / half, root / half):
        if folder.is_dir():
            return _from_image_folder(folder, dataset)
    from torchvision import datasets

    try:
        source = getattr(datasets, dataset.folder)(str(root), train=train, download=download)
    except Exception as error:  # Damaged files and a broken download make torchvision raise nearly anything.
        reason = str(error).partition("\n")[0]
        raise InvalidInputError(
            f"{dataset.name} cannot be read from {root} ({reason}); name the folder that holds {dataset.folder}, or "
            "add --download to fetch it"
        ) from error
    images = torch.as_tensor(source.data)
    images = images.unsqueeze(1) if images.dim() == 3 else images.permute(0, 3, 1, 2).contiguous()
    return LabelledImages(images, torch.as_tensor(source.targets))


def class_folder(root: Path, half: Half = "test") -> Path:
    """The folder that holds a folder of images for each class: that half in `root`, else `root` itself.

    Raises:
        InvalidInputError: It holds no images in folders.
    """
    folder = root / half if (root / half).is_dir() else root
    if not any(file.is_file() for file in folder.glob("*/*")):
        raise InvalidInputError(f"{folder} holds no images; it must hold CLASS/IMAGE, a folder for each class")
    return folder


def class_names(root: Path, half: Half = "test") -> tuple[str, ...]:
    """Names of the folders of images, in alphabetical order.

    Raises:
        InvalidInputError: There are none.
    """
    return tuple(sorted(path.name for path in class_folder(root, half).iterdir() if path.is_dir()))


def first_image_shape(root: Path, half: Half = "test") -> tuple[int, int, int]:
    """Channels, height and width of the first image, in the order of the names.

    Raises:
        InvalidInputError: There is none, or it cannot be read.
    """
    first = min(file for file in class_folder(root, half).glob("*/*") if file.is_file())
    image = decode(first.read_bytes(), str(first))
    return 1 if image.mode == "L" else 3, image.height, image.width


def _from_image_folder(folder: Path, dataset: Dataset) -> LabelledImages:
    from torchvision.datasets import ImageFolder

    try:
        source = ImageFolder(str(folder))
    except FileNotFoundError as error:
        raise InvalidInputError(f"{folder}: {error}") from error
    classes = torch.tensor([_class_index(name, folder, dataset) for name in source.classes])
    shape = ImageShape(*dataset.image_shape)

    def pixels(path: str) -> Tensor:
        image = prepare(decode(Path(path).read_bytes(), path), shape, "resize", source=path)
        return torch.from_numpy((image * 255).round().astype(numpy.uint8))

    images = torch.empty((len(source.samples), *shape), dtype=torch.uint8)
    for image, (path, _) in zip(images, source.samples, strict=True):
        image.copy_(pixels(path))
    return LabelledImages(images, classes[torch.tensor(source.targets)])


def _class_index(name: str, folder: Path, dataset: Dataset) -> int:
    """The class that a folder's name stands for: a label, or where no label is a number the index of one."""
    known = {label: index for index, label in enumerate(dataset.labels)}
    if not any(label.isdecimal() for label in dataset.labels):
        known |= {str(index): index for index in known.values()}
    if name not in known:
        raise InvalidInputError(
            f"{folder / name} is named after no class of {dataset.name}; name it by its label "
            f"({', '.join(dataset.labels)}) or by its index (0 to {len(dataset.labels) - 1})"
        )
    return known[name]
