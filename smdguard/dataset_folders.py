"""Data sets on disk: torchvision's, and folders of images with a folder for each class."""

import os
from collections.abc import Iterator
from fnmatch import fnmatch
from itertools import groupby
from pathlib import Path
from typing import Literal

import numpy
import torch
from PIL.Image import Image
from torch import Tensor

from smdguard.datasets import Dataset, LabelledImages, balanced_rows, balanced_subset
from smdguard.errors import ImageError, InvalidInputError
from smdguard.files import MAX_IMAGE_BYTES, is_file, is_folder, read, sha256
from smdguard.preprocess import Crop, ImageShape, decode, is_grey, prepare

Split = Literal["train", "test"]

# Where a split may be in a folder of images; ImageNet's second one is called val.
_FOLDERS: dict[Split, tuple[str, ...]] = {"train": ("train",), "test": ("test", "val")}

# Of each class's images that come without a test split, this share becomes one.
TEST_SHARE = 0.2

# Desktops and notebooks leave hidden files and folders everywhere.
_VISIBLE = "[!.]*"


def load_split(
    dataset: Dataset, root: Path, split: Split, *, download: bool = False, num_images: int | None = None
) -> LabelledImages:
    """One split of a data set, in memory.

    Args:
        dataset: Which one.
        root: Where torchvision keeps it, or a folder with train/CLASS/IMAGE and test/CLASS/IMAGE, itself or under
            the data set's name; CLASS is a label or its index, IMAGE a PNG or JPEG file. Without test, val stands for
            it. CLASS/IMAGE alone is a test split. Of a data set that torchvision does not know, train/CLASS/IMAGE or
            CLASS/IMAGE alone is both: a fifth of each class, always the same images, is the test split then.
        split: Which one.
        download: Let torchvision fetch it when it is not there.
        num_images: Only so many, evenly over the classes; None for all.

    Raises:
        InvalidInputError: It is not there, damaged, or a folder is no class, or so many images cannot be taken.
    """
    if dataset.folder is None:
        if has_test_split(root):
            return _from_image_folder(class_folder(root, split), dataset, num_images)
        return _from_image_folder(class_folder(root, "train"), dataset, num_images, split)
    for folder in (place / name for place in (root / dataset.folder, root) for name in _FOLDERS[split]):
        if is_folder(folder):
            _require_classes(folder)
            return _from_image_folder(folder, dataset, num_images)
    from torchvision import datasets

    try:
        source = getattr(datasets, dataset.folder)(str(root), train=split == "train", download=download)
    except Exception as error:  # Damaged files and a broken download make torchvision raise nearly anything.
        # Not sooner: beside torchvision's files, images are something else.
        if split == "test" and _holds_classes(root):
            return _from_image_folder(root, dataset, num_images)
        reason = str(error).partition("\n")[0]
        folders = ", test/CLASS/IMAGE or CLASS/IMAGE" if split == "test" else " or train/CLASS/IMAGE"
        raise InvalidInputError(
            f"{dataset.name} cannot be read from {root} ({reason}); name the folder that holds {dataset.folder}"
            + folders
            + ("" if download else ", or add --download to fetch it")
        ) from error
    images = torch.as_tensor(source.data)
    images = images.unsqueeze(1) if images.dim() == 3 else images.permute(0, 3, 1, 2).contiguous()
    data = LabelledImages(images, torch.as_tensor(source.targets))
    return data if num_images is None else balanced_subset(data, num_images)


def load_folder(
    dataset: Dataset, root: Path, *, num_images: int | None = None, crop: Crop | None = None
) -> LabelledImages:
    """The images of a folder, or of its test split if it has one, for a model that was trained elsewhere.

    Args:
        dataset: Whose labels and size the images have.
        root: Holds CLASS/IMAGE, test/CLASS/IMAGE or val/CLASS/IMAGE.
        num_images: As in load_split.
        crop: As the model's own recipe does; without one, images are resized and their aspect ratio is not kept.

    Raises:
        InvalidInputError: There are no images or too few, one cannot be read, or a folder is no class.
    """
    return _from_image_folder(class_folder(root), dataset, num_images, crop=crop)


def has_test_split(root: Path) -> bool:
    """Whether a folder of images comes with some to test on."""
    return _split_folder(root, "test") is not None


def _split_folder(root: Path, split: Split) -> Path | None:
    """Where a split is that has a folder of its own."""
    return next((root / name for name in _FOLDERS[split] if _holds_classes(root / name)), None)


def class_folder(root: Path, split: Split = "test") -> Path:
    """The folder that holds a folder of images for each class: that split in `root`, else `root` itself.

    Raises:
        InvalidInputError: It is no folder, or holds no images in folders, or there are images to test on and none to
            train on.
    """
    folder = _split_folder(root, split) or root
    if split == "train" and folder == root and has_test_split(root):
        raise InvalidInputError(f"{root} holds images to test on, but none to train on; add {root}/train/CLASS/IMAGE")
    _require_classes(folder)
    return folder


def _require_classes(folder: Path) -> None:
    if not _holds_classes(folder):
        finding = "holds no images" if is_folder(folder) else "is a file" if is_file(folder) else "does not exist"
        raise InvalidInputError(f"{folder} {finding}; it must be a folder of CLASS/IMAGE, with a folder for each class")


def _holds_classes(folder: Path) -> bool:
    # Further down there are images in nearly every folder, such as one of several data sets.
    return is_folder(folder) and any(_images(folder, "*"))


def _images(folder: Path, below: str = "**/*") -> Iterator[Path]:
    """Images in the folders of a folder, or also in folders of these, in no order.

    A class's folder may be a link; links further down are not followed, as they may lead in circles.
    """
    # Not in one pattern, which would end at the first link that may not be followed.
    files = (file for name in _classes(folder) for file in (folder / name).glob(below))
    return (file for file in files if _is_image(file, folder) and not is_folder(file))


def _is_image(path: Path, folder: Path) -> bool:
    """Whether that is called an image, and neither it nor a folder on the way from `folder` is hidden."""
    from torchvision.datasets.folder import IMG_EXTENSIONS, has_file_allowed_extension

    is_visible = all(fnmatch(part, _VISIBLE) for part in path.relative_to(folder).parts)
    return is_visible and has_file_allowed_extension(str(path), IMG_EXTENSIONS)


def class_names(root: Path, split: Split = "test") -> tuple[str, ...]:
    """Names of the folders of images, in alphabetical order.

    Raises:
        InvalidInputError: There are none, or a name is no text.
    """
    names = _classes(class_folder(root, split))
    for name in names:
        if not name.isprintable():
            raise InvalidInputError(f"the folder {name!r} in {root} cannot name a class; its name is not readable text")
    return tuple(names)


def _classes(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob(_VISIBLE) if is_folder(path))


def first_image(root: Path, split: Split = "test") -> Path:
    """The first image, in the order of the names.

    Raises:
        InvalidInputError: There is none.
    """
    return min(_images(class_folder(root, split)))


def shape_at_hand(root: Path, split: Split = "test") -> tuple[int, int, int]:
    """What images are brought to where nothing else says it: 3 channels unless all are grey, the first's height, width.

    Raises:
        InvalidInputError: There is no image, or the first cannot be read.
    """
    first = first_image(root, split)
    image = _read_image(first)
    all_grey = all(map(_is_grey, _images(class_folder(root, split))))
    return 1 if all_grey else 3, image.height, image.width


def _read_image(path: Path) -> Image:
    return decode(read(path, error=ImageError, limit=MAX_IMAGE_BYTES), str(path))


def _is_grey(path: Path) -> bool:
    """What the header says; an image without one needs no colour, and is refused by name where it is loaded."""
    try:
        with path.open("rb") as file:
            return is_grey(file, str(path))
    except (OSError, ImageError):
        return True


def _from_image_folder(
    folder: Path, dataset: Dataset, num_images: int | None, split: Split | None = None, crop: Crop | None = None
) -> LabelledImages:
    """The images in the folders of the classes, all or those of a split, and of these all or so many."""
    samples = _samples(folder, dataset)
    samples = samples if split is None else _of_split(samples, folder, split)
    if num_images is not None:
        rows = balanced_rows(torch.tensor([index for _, index in samples]), num_images)
        samples = [samples[row] for row in rows.tolist()]
    shape = ImageShape(*dataset.image_shape)

    def pixels(path: Path) -> Tensor:
        image = _read_image(path)
        image = prepare(image, shape, "resize", source=str(path), crop=crop)
        return torch.from_numpy((image * 255).round().astype(numpy.uint8))

    try:
        images = torch.empty((len(samples), *shape), dtype=torch.uint8)
    except (RuntimeError, MemoryError) as error:
        size = " x ".join(map(str, shape))
        raise InvalidInputError(
            f"there is not enough memory for {len(samples):,} images of {size} in {folder}; take fewer, or smaller ones"
        ) from error
    for image, (path, _) in zip(images, samples, strict=True):
        image.copy_(pixels(path))
    return LabelledImages(images, torch.tensor([index for _, index in samples]))


def _samples(folder: Path, dataset: Dataset) -> list[tuple[Path, int]]:
    """Every image and its class, by the folders' names and then the images'."""
    classes = {name: _class_index(name, folder, dataset) for name in _classes(folder)}
    images = sorted(_images(folder))
    names = [path.relative_to(folder).parts[0] for path in images]
    if empty := sorted(classes.keys() - names):
        raise InvalidInputError(f"{folder / empty[0]} holds no images; add some, or remove the folder")
    return [(path, classes[name]) for path, name in zip(images, names, strict=True)]


def _of_split(samples: list[tuple[Path, int]], folder: Path, split: Split) -> list[tuple[Path, int]]:
    """Of the paths and classes of images that come in one piece those to train on, or the fifth to test on.

    That fifth of a folder, at least one image, is the one whose names CLASS/IMAGE have the smallest checksums. So it
    depends on nothing but the names, and of the images that were trained on hardly any gets into it when others are
    added.
    """

    def name(sample: tuple[Path, int]) -> Path:
        return sample[0].relative_to(folder)

    def checksum(sample: tuple[Path, int]) -> str:
        return sha256(os.fsencode(name(sample).as_posix()))

    held_out: set[tuple[Path, int]] = set()
    for label, group in groupby(samples, key=lambda sample: name(sample).parts[0]):
        drawn = sorted(group, key=checksum)
        if len(drawn) < 2:
            raise InvalidInputError(
                f"{folder / label} holds a single image, and one of each class is held out for testing; add some, or "
                "have train/CLASS/IMAGE and test/CLASS/IMAGE"
            )
        held_out.update(drawn[: max(1, round(TEST_SHARE * len(drawn)))])
    return [sample for sample in samples if (sample in held_out) == (split == "test")]


def _class_index(name: str, folder: Path, dataset: Dataset) -> int:
    """The class that a folder's name stands for: a label, or where no label is a number the index of one."""
    known = {label: index for index, label in enumerate(dataset.labels)}
    if not any(label.isdecimal() for label in dataset.labels):
        known |= {str(index): index for index in known.values()}
    if name not in known:
        raise InvalidInputError(
            f"{folder / name} is named after no class of {dataset.name}; name it by its label "
            f"({', '.join(abbreviated(dataset.labels))}) or by its index (0 to {len(dataset.labels) - 1})"
        )
    return known[name]


def abbreviated(labels: tuple[str, ...]) -> tuple[str, ...]:
    """As many as a message has room for."""
    return labels if len(labels) <= 20 else (*labels[:5], "...")
