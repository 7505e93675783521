"""Models that smdguard did not make: what a function of the user's returns, torchvision's, and ONNX files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from smdguard.attacks import Model
from smdguard.backends.torch import torch_device
from smdguard.errors import InvalidInputError, UnknownModelError
from smdguard.factories import ANY_ERROR, import_factory, in_one_line, is_factory
from smdguard.files import read
from smdguard.preprocess import Crop

_TORCHVISION = "torchvision:"
# ONNX files are in a format of which no file may be larger.
_MAX_ONNX_BYTES = 2**31 - 1


@dataclass(frozen=True)
class ForeignModel:
    """A model, and what it says itself of the images that it takes.

    Args:
        model: From images in [0, 1] to logits or log-probabilities.
        device: Where it computes.
        image_shape: Channels, height and width; None where it does not say.
        labels: Its classes; None where it does not say.
        crop: What the recipe of a model of torchvision's does to an image.
    """

    model: Model
    device: torch.device
    image_shape: tuple[int, int, int] | None = None
    labels: tuple[str, ...] | None = None
    crop: Crop | None = None


def is_function(name: str) -> bool:
    """Whether the name is package.module:factory, whose model leaves open which images it takes."""
    return is_factory(name) and not _is_torchvision(name)


def is_onnx(name: str) -> bool:
    """Whether the name is that of an ONNX file, whose model gives no gradients."""
    return name.lower().endswith(".onnx")


def is_foreign(name: str) -> bool:
    """Whether smdguard did not make the model of that name."""
    return is_function(name) or _is_torchvision(name) or is_onnx(name)


def _is_torchvision(name: str) -> bool:
    return name.startswith(_TORCHVISION)


def find_foreign_model(name: str, device: str) -> ForeignModel:
    """The model that the name of a foreign one stands for, on "auto", "cpu" or "cuda".

    Raises:
        UnknownModelError: There is no such model.
        InvalidInputError: The function cannot be imported, or gives nothing that can be called.
        IntegrityError: The ONNX file cannot be run.
        BackendError: The device is not to be had.
    """
    if is_onnx(name):
        return _of_onnx(name, device)
    place = torch_device(device)
    return _of_torchvision(name, place) if _is_torchvision(name) else _of_function(name, place)


def _of_function(name: str, place: torch.device) -> ForeignModel:
    factory = import_factory(name)
    try:
        model = factory()
    except ANY_ERROR as error:
        raise UnknownModelError(f"{name} cannot be made: {in_one_line(error)}") from error
    if not callable(model):
        raise InvalidInputError(f"{name} gives a {type(model).__name__}, not a model that can be called with images")
    on_device: Any = model.to(place) if isinstance(model, nn.Module) else model
    return ForeignModel(on_device, place)


def _of_torchvision(name: str, place: torch.device) -> ForeignModel:
    from torchvision import models, transforms

    network = name.removeprefix(_TORCHVISION)
    # Those of a module of its own detect, segment and so on; their weights would be fetched only to be of no use.
    if network.lower() not in models.list_models(module=models):
        raise UnknownModelError(
            f"torchvision has no image classifier {network!r}; torchvision.models.list_models(torchvision.models) "
            "lists those that it has"
        )
    try:
        known_weights: Any = models.get_model_weights(network)
        weights = known_weights.DEFAULT
        recipe = weights.transforms()
        classifier = models.get_model(network, weights=weights)
        normalise = transforms.Normalize(recipe.mean, recipe.std)
        # What the recipe does first; it would normalise as well, which attacks have to leave to the model.
        resize = transforms.Resize(recipe.resize_size, recipe.interpolation, antialias=recipe.antialias)
        crop = transforms.Compose([resize, transforms.CenterCrop(recipe.crop_size)])
        shape = (3, recipe.crop_size[0], recipe.crop_size[0])
    except Exception as error:  # Networks and caches fail in many ways.
        raise UnknownModelError(
            f"{name} is not available: {in_one_line(error)}; its weights must be in torch's cache, or within reach"
        ) from error
    model = nn.Sequential(normalise, classifier).eval().to(place)
    return ForeignModel(model, place, shape, tuple(weights.meta["categories"]), crop)


def _of_onnx(name: str, device: str) -> ForeignModel:
    from smdguard.backends.onnx import OnnxClassifier

    content = read(Path(name), error=UnknownModelError, limit=_MAX_ONNX_BYTES)
    classifier = OnnxClassifier(content, name, device)

    def model(images: Tensor) -> Tensor:
        return torch.from_numpy(classifier(images.detach().cpu().numpy()))

    return ForeignModel(model, torch.device("cpu"), classifier.image_shape, classifier.labels)
