"""Anyone's model for an audit: of the zoo, a folder, an ONNX file, torchvision's, or made by a function."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from smdguard.attacks import Model
from smdguard.auditing.validation import checked_output
from smdguard.backends.torch import Builder, torch_device
from smdguard.catalogue import read_test_subset
from smdguard.dataset_folders import class_names, few, first_image, load_folder, load_split, shape_at_hand
from smdguard.datasets import (
    DATASETS,
    DEFAULT_EPSILON,
    Dataset,
    LabelledImages,
    balanced_subset,
    dataset_of,
    parse_subset,
)
from smdguard.errors import InvalidInputError, SmdguardError, UnknownModelError
from smdguard.factories import ANY_ERROR, import_factory, in_one_line, is_factory, users_code
from smdguard.files import read
from smdguard.guard import load
from smdguard.manifest import ModelConfig
from smdguard.preprocess import Crop

_TORCHVISION = "torchvision:"


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


def leaves_size_open(name: str) -> bool:
    """Whether a model of that name does not say which size of images it takes."""
    return is_factory(name) and not name.startswith(_TORCHVISION)


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
    if leaves_size_open(name):
        return _of_factory(name, _required(data, name), device, image_size)
    if image_size is not None:
        raise InvalidInputError(
            f"{name} comes with an image size of its own; --image-size is for package.module:factory"
        )
    if name.startswith(_TORCHVISION):
        return _of_torchvision(name, _required(data, name), device)
    if name.lower().endswith(".onnx"):
        return _of_onnx(name, data, device)
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


def _of_factory(name: str, data: Path, device: str, image_size: tuple[int, int] | None) -> AuditedModel:
    factory = import_factory(name)
    try:
        model = factory()
    except ANY_ERROR as error:
        raise UnknownModelError(f"{name} cannot be made: {in_one_line(error)}") from error
    channels, height, width = shape_at_hand(data)
    height, width = image_size or (height, width)

    # Only where it is told: the folder may be large.
    def origin() -> str:
        return (
            f"; height and width are those of the first image, {first_image(data)}, unless --image-size says others, "
            "and there are 3 channels unless all images are grey"
        )

    return _foreign(name, model, data, (channels, height, width), device, origin=origin)


def _of_torchvision(name: str, data: Path, device: str) -> AuditedModel:
    from torchvision import models, transforms

    network = name.removeprefix(_TORCHVISION)
    try:
        known_weights: Any = models.get_model_weights(network)
    except ValueError as error:
        raise UnknownModelError(f"torchvision has no model {network!r}") from error
    try:
        weights = known_weights.DEFAULT
        recipe = weights.transforms()
        classifier = models.get_model(network, weights=weights)
        normalise = transforms.Normalize(recipe.mean, recipe.std)
        # What the recipe does first; it would normalise as well, which attacks have to leave to the model.
        resize = transforms.Resize(recipe.resize_size, recipe.interpolation, antialias=recipe.antialias)
        crop = transforms.Compose([resize, transforms.CenterCrop(recipe.crop_size)])
        shape = (3, recipe.crop_size[0], recipe.crop_size[0])
    except Exception as error:  # Networks, caches and other kinds of models fail in many ways.
        raise UnknownModelError(
            f"{name} is not available: {in_one_line(error)}; its weights must be in torch's cache, or within reach, "
            "and it must classify images"
        ) from error
    model = nn.Sequential(normalise, classifier).eval()
    audited = _foreign(name, model, data, shape, device, labels=tuple(weights.meta["categories"]))
    return replace(audited, crop=crop)


def _of_onnx(name: str, data: Path | None, device: str) -> AuditedModel:
    from smdguard.backends.onnx import OnnxClassifier

    classifier = OnnxClassifier(read(Path(name), error=UnknownModelError), name, device)

    def model(images: Tensor) -> Tensor:
        return torch.from_numpy(classifier(images.detach().cpu().numpy()))

    for dataset in DATASETS.values():
        if (dataset.image_shape, dataset.labels) == (classifier.image_shape, classifier.labels):
            return AuditedModel(name, model, dataset, torch.device("cpu"))
    return _foreign(name, model, _required(data, name), classifier.image_shape, "cpu", labels=classifier.labels)


def _foreign(
    name: str,
    model: Any,
    data: Path,
    image_shape: tuple[int, int, int],
    device: str,
    *,
    labels: tuple[str, ...] | None = None,
    origin: Callable[[], str] = lambda: "",
) -> AuditedModel:
    place = torch_device(device)
    if not callable(model):
        raise InvalidInputError(f"{name} gives a {type(model).__name__}, not a model that can be called with images")
    on_device: Any = model.to(place) if isinstance(model, nn.Module) else model
    num_classes = _num_classes(name, on_device, torch.zeros(2, *image_shape, device=place), origin)
    folders = class_names(data)
    labels = _labels_of(folders, labels, num_classes)
    if len(labels) != num_classes:
        raise InvalidInputError(
            f"{name} distinguishes {num_classes} classes, but {data} holds {len(labels)} folders "
            f"({', '.join(few(labels))}); name each folder by the index of its class (0 to {num_classes - 1}), or have "
            "one for every class, in alphabetical order"
        )
    nothing, one = (0.0,) * image_shape[0], (1.0,) * image_shape[0]
    return AuditedModel(name, on_device, Dataset(data.name, labels, image_shape, nothing, one, DEFAULT_EPSILON), place)


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


def _num_classes(name: str, model: Callable[[Tensor], Any], images: Tensor, origin: Callable[[], str]) -> int:
    """How many logits a model gives; what `origin` gives ends the error, and tells where the images' shape is from."""
    try:
        with users_code(f"{name} cannot be asked about images {tuple(images.shape)}", suspected=True):
            return checked_output(model, images, name).shape[1]
    except SmdguardError as error:
        raise InvalidInputError(f"{error}{origin()}") from error


def _required(data: Path | None, name: str) -> Path:
    if data is None:
        raise InvalidInputError(f"it is not known which images {name} takes; name a folder of CLASS/IMAGE with --data")
    return data


def _described(image_shape: tuple[int, ...], labels: tuple[str, ...]) -> str:
    size = " x ".join(str(length) for length in image_shape)
    return f"{size} images of {len(labels)} classes ({labels[0]} to {labels[-1]})"
