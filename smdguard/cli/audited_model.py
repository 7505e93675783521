"""Anyone's model for an audit: of the zoo, a folder, an ONNX file, torchvision's, or made by a function."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from smdguard.attacks import Model
from smdguard.auditing.validation import answer, checked_logits
from smdguard.backends.torch import Builder
from smdguard.catalogue import read_test_subset
from smdguard.cli.foreign_models import ForeignModel, find_foreign_model, is_foreign, is_function, is_onnx
from smdguard.dataset_folders import (
    abbreviated,
    class_folder,
    class_names,
    first_image,
    load_folder,
    load_split,
    shape_at_hand,
)
from smdguard.datasets import (
    DATASETS,
    DEFAULT_EPSILON,
    Dataset,
    LabelledImages,
    balanced_subset,
    dataset_of,
    parse_subset,
)
from smdguard.errors import InvalidInputError
from smdguard.guard import load
from smdguard.manifest import ModelConfig
from smdguard.preprocess import Crop


@dataclass(frozen=True)
class AuditedModel:
    """A model, and the images that it is for.

    Args:
        name: As it was given.
        model: From images in [0, 1] to logits or log-probabilities.
        dataset: Whose images it takes.
        device: Where it computes.
        config: What is known of a model of ours.
        crop: What the recipe of a model of torchvision's does to an image.
    """

    name: str
    model: Model
    dataset: Dataset
    device: torch.device
    config: ModelConfig | None = None
    crop: Crop | None = None

    def images(self, data: Path | None, *, download: bool, num_images: int | None = None) -> LabelledImages:
        """The bundled test images, or those of the folder that a model of ours was not trained on; all or so many."""
        if data is None:
            bundled = parse_subset(read_test_subset(self.dataset.name))
            return bundled if num_images is None else balanced_subset(bundled, num_images)
        if self.config is None and self.dataset.folder is None:
            return load_folder(self.dataset, data, num_images=num_images, crop=self.crop)
        return load_split(self.dataset, data, "test", download=download, num_images=num_images)


def find_audited_model(
    name: str,
    data: Path | None,
    device: str,
    *,
    image_size: tuple[int, int] | None = None,
    builder: Builder | None = None,
) -> AuditedModel:
    """The model that a name stands for.

    Args:
        name: A zoo name, a model folder, a Hub id, FILE.onnx, torchvision:NAME, or package.module:factory.
        data: Folder of the images; which ours do without.
        device: "auto", "cpu" or "cuda".
        image_size: Height and width of the images, for a model that leaves them open; None for those of the first.
        builder: For a model folder with members of the user's own, what makes one.

    Raises:
        UnknownModelError: There is no such model.
        InvalidInputError: The model and the images do not fit, there are no images, or the model says itself which
            size they have.
        IntegrityError: A file of the model is not what it has to be.
        BackendError: The device is not to be had.
    """
    if image_size is not None and not is_function(name):
        raise InvalidInputError(
            f"{name} comes with an image size of its own; --image-size is for package.module:factory"
        )
    if is_foreign(name):
        if not is_onnx(name):  # An ONNX file may say that it takes images that come with the package.
            _required(data, name)
        return _of_foreign(name, find_foreign_model(name, device), data, image_size)
    guard = load(name, backend="torch", device=device, builder=builder)
    dataset = dataset_of(guard.config)
    require_fit(guard.name, guard.image_shape, guard.config.labels, dataset)
    return AuditedModel(guard.name, guard.ensemble, dataset, guard.ensemble.mean.device, guard.config)


def require_fit(name: str, image_shape: tuple[int, ...], labels: tuple[str, ...], dataset: Dataset) -> None:
    """Refuse a model, audited or surrogate, that does not take the data set's images or has other classes."""
    if tuple(image_shape) != dataset.image_shape or labels != dataset.labels:
        raise InvalidInputError(
            f"{name} cannot be asked about {dataset.name}: it takes {_described(image_shape, labels)}, those are "
            f"{_described(dataset.image_shape, dataset.labels)}"
        )


def _of_foreign(
    name: str, foreign: ForeignModel, data: Path | None, image_size: tuple[int, int] | None
) -> AuditedModel:
    for dataset in DATASETS.values():
        if (dataset.image_shape, dataset.labels) == (foreign.image_shape, foreign.labels):
            return AuditedModel(name, foreign.model, dataset, foreign.device)
    data = _required(data, name)
    image_shape = foreign.image_shape or _shape_of_images(data, image_size)

    # Only where it is told: the folder may be large.
    def origin() -> str:
        return "" if foreign.image_shape else _origin_of_shape(data)

    num_classes = _num_classes(name, foreign, image_shape, origin)
    labels = _labels_of(class_names(data), foreign.labels, num_classes)
    if len(labels) != num_classes:
        raise InvalidInputError(
            f"{name} distinguishes {num_classes} classes, but {data} holds {len(labels)} folders "
            f"({', '.join(abbreviated(labels))}); name each folder by the index of its class (0 to {num_classes - 1}), "
            "or have one for every class, in alphabetical order"
        )
    nothing, one = (0.0,) * image_shape[0], (1.0,) * image_shape[0]
    dataset = Dataset(_name_of(data), labels, image_shape, nothing, one, DEFAULT_EPSILON)
    return AuditedModel(name, foreign.model, dataset, foreign.device, crop=foreign.crop)


def _name_of(data: Path) -> str:
    """What the data set is called: as its folder, and where "." or ".." was typed as the one that they stand for."""
    # Not resolved otherwise: a link may say more of the images than where it leads.
    if data.name not in ("", ".."):
        return data.name
    place = data.resolve()
    return place.name or str(place)  # "/" has no name.


def _shape_of_images(data: Path, image_size: tuple[int, int] | None) -> tuple[int, int, int]:
    channels, *size_at_hand = shape_at_hand(data)
    height, width = image_size or size_at_hand
    return channels, height, width


def _origin_of_shape(data: Path) -> str:
    return (
        f"; height and width are those of the first image, {first_image(data)}, unless --image-size says others, and "
        "there are 3 channels unless all images are grey"
    )


def _labels_of(folders: tuple[str, ...], known: tuple[str, ...] | None, num_classes: int) -> tuple[str, ...]:
    """The classes in their order: as the model names them, by number, or as their folders are called."""
    if known is not None and len(known) != num_classes:
        known = None  # An ONNX file may say anything.
    numbers = tuple(map(str, range(num_classes)))
    if set(folders) <= set(numbers):
        return known or numbers
    if all(folder.isdecimal() for folder in folders) and list(folders) != sorted(folders, key=int):
        raise InvalidInputError(
            f"the folders of the classes are numbers that sort differently as text ({folders[0]}, "
            f"{folders[1]}, ...); name each by the index of its class, from 0 to {num_classes - 1}"
        )
    # ImageNet's folders have identifiers of WordNet, whose order is that of the classes.
    if known is None or (len(folders) == len(known) and not set(folders) & set(known)):
        return folders
    return known


def _num_classes(name: str, foreign: ForeignModel, image_shape: tuple[int, int, int], origin: Callable[[], str]) -> int:
    """How many logits a model gives; what `origin` gives ends the error of one that cannot take images of the shape."""
    images = torch.zeros(2, *image_shape, device=foreign.device)
    try:
        output = answer(foreign.model, images, name)
    except InvalidInputError as error:
        raise InvalidInputError(f"{error}{origin()}") from error
    return checked_logits(output, images, name).shape[1]


def _required(data: Path | None, name: str) -> Path:
    """The folder of images; one without any is refused here, before a model is made or fetched."""
    if data is None:
        raise InvalidInputError(f"it is not known which images {name} takes; name a folder of CLASS/IMAGE with --data")
    class_folder(data)
    return data


def _described(image_shape: tuple[int, ...], labels: tuple[str, ...]) -> str:
    size = " x ".join(str(length) for length in image_shape)
    return f"{size} images of {len(labels)} classes ({labels[0]} to {labels[-1]})"
