"""The data sets: what is known of each, the bundled test subsets, and the full sets on disk."""

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy
import torch
from torch import Tensor

from smdguard.errors import InvalidInputError
from smdguard.files import sha256
from smdguard.manifest import ModelConfig
from smdguard.preprocess import ImageShape, decode, prepare
from smdguard.threat import Norm

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


# Of a folder of images that come without a test half, this share becomes one.
TEST_SHARE = 0.2
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
        fewest = min(int((data.labels == label).sum()) for label in classes)
        raise InvalidInputError(
            f"{num_images} images cannot be taken evenly from {len(classes)} classes of {len(data.labels)} images; "
            f"take a multiple of {len(classes)}, at most {fewest * len(classes)}"
        )
    return LabelledImages(data.images[torch.cat(rows)], data.labels[torch.cat(rows)])


def load_split(dataset: Dataset, root: Path, *, train: bool, download: bool = False) -> LabelledImages:
    """One half of a data set, whole, in memory.

    Args:
        dataset: Which one.
        root: Where torchvision keeps it, or a folder with train/CLASS/IMAGE and test/CLASS/IMAGE, itself or under
            the data set's name; CLASS is a label or its index, IMAGE a PNG or JPEG file. Of a data set that
            torchvision does not know, also a folder with train/CLASS/IMAGE alone, or with CLASS/IMAGE: a fifth of the
            images, always the same ones, is the test half then.
        train: The training half, else the test half.
        download: Let torchvision fetch it when it is not there.

    Raises:
        InvalidInputError: It is not there, damaged, or a folder is no class.
    """
    half: Half = "train" if train else "test"
    if dataset.folder is None:
        if has_test_half(root):
            return _from_image_folder(class_folder(root, half), dataset)
        return _from_image_folder(class_folder(root, "train"), dataset, half)
    for folder in (root / dataset.folder / half, root / half):
        if folder.is_dir():
            return _from_image_folder(folder, dataset)
    from torchvision import datasets

    try:
        source = getattr(datasets, dataset.folder)(str(root), train=train, download=download)
    except Exception as error:  # Damaged files and a broken download make torchvision raise nearly anything.
        reason = str(error).partition("\n")[0]
        raise InvalidInputError(
            f"{dataset.name} cannot be read from {root} ({reason}); name the folder that holds {dataset.folder}"
            + ("" if download else ", or add --download to fetch it")
        ) from error
    images = torch.as_tensor(source.data)
    images = images.unsqueeze(1) if images.dim() == 3 else images.permute(0, 3, 1, 2).contiguous()
    return LabelledImages(images, torch.as_tensor(source.targets))


def load_folder(dataset: Dataset, root: Path) -> LabelledImages:
    """All images of a folder, or of its test half if it has one, for a model that was trained elsewhere.

    Args:
        dataset: Whose labels and size the images have.
        root: Holds CLASS/IMAGE or test/CLASS/IMAGE.

    Raises:
        InvalidInputError: There are no images, one cannot be read, or a folder is no class.
    """
    return _from_image_folder(class_folder(root), dataset)


def has_test_half(root: Path) -> bool:
    """Whether a folder of images comes with some to test on."""
    return _holds_classes(root / "test")


def class_folder(root: Path, half: Half = "test") -> Path:
    """The folder that holds a folder of images for each class: that half in `root`, else `root` itself.

    Raises:
        InvalidInputError: It holds no images in folders, or `root` has a test half and nothing to train on.
    """
    folder = root / half if _holds_classes(root / half) else root
    if half == "train" and folder == root and has_test_half(root):
        raise InvalidInputError(f"{root} holds images to test on, but none to train on; add {root}/train/CLASS/IMAGE")
    if not _holds_classes(folder):
        raise InvalidInputError(f"{folder} holds no images; it must hold CLASS/IMAGE, a folder for each class")
    return folder


def _holds_classes(folder: Path) -> bool:
    return any(file.is_file() for file in folder.glob("*/*"))


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


def _from_image_folder(folder: Path, dataset: Dataset, half: Half | None = None) -> LabelledImages:
    """The images in the folders of the classes, all or those of a half."""
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

    samples = source.samples if half is None else _half_of(source.samples, folder, half)
    images = torch.empty((len(samples), *shape), dtype=torch.uint8)
    for image, (path, _) in zip(images, samples, strict=True):
        image.copy_(pixels(path))
    return LabelledImages(images, classes[torch.tensor([index for _, index in samples])])


def _half_of(samples: list[tuple[str, int]], folder: Path, half: Half) -> list[tuple[str, int]]:
    """Of the paths and classes of images that come in one piece those to train on, or the fifth to test on.

    That fifth, at least one image, is the one whose names CLASS/IMAGE have the smallest checksums. So it depends on
    nothing but the names, and of the images that were trained on hardly any gets into it when others are added.
    """

    def checksum(sample: tuple[str, int]) -> str:
        return sha256(os.fsencode(Path(sample[0]).relative_to(folder).as_posix()))

    held_out = set(sorted(samples, key=checksum)[: max(1, int(TEST_SHARE * len(samples)))])
    return [sample for sample in samples if (sample in held_out) == (half == "test")]


def _class_index(name: str, folder: Path, dataset: Dataset) -> int:
    """The class that a folder's name stands for: a label, or where no label is a number the index of one."""
    known = {label: index for index, label in enumerate(dataset.labels)}
    if not any(label.isdecimal() for label in dataset.labels):
        known |= {str(index): index for index in known.values()}
    if name not in known:
        raise InvalidInputError(
            f"{folder / name} is named after no class of {dataset.name}; name it by its label "
            f"({', '.join(_few(dataset.labels))}) or by its index (0 to {len(dataset.labels) - 1})"
        )
    return known[name]


def _few(labels: tuple[str, ...]) -> tuple[str, ...]:
    return labels if len(labels) <= 20 else (*labels[:5], "...")
