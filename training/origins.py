"""Trained ensembles that another training starts from or is attacked by."""

from pathlib import Path

from smdguard.backends.torch import Builder, load_ensemble
from smdguard.ensemble import Ensemble
from smdguard.errors import InvalidInputError
from smdguard.hub import find_model
from smdguard.manifest import Architecture, Input
from smdguard.model_folder import WEIGHTS
from training.recipes import differences


def identify(model: str) -> tuple[str, Path]:
    """What recipes call a given model, NAME@SHA256 of its weights, and its folder.

    Args:
        model: A name of the zoo or the path of a model folder.

    Raises:
        UnknownModelError: There is no such model.
        InvalidInputError: It has no weights.
    """
    found = find_model(model)
    if not found.has(WEIGHTS):
        raise InvalidInputError(f"{model} has no {WEIGHTS} to start from or to craft images on")
    return f"{found.config.name}@{found.config.files[WEIGHTS].sha256}", found.path


def load_origin(folder: Path, architecture: Architecture, image_input: Input, builder: Builder | None) -> Ensemble:
    """The ensemble in a model folder, verified, in evaluation mode; `builder` makes members of the user's own.

    Raises:
        InvalidInputError: Its members or images are not those that are to be trained.
    """
    found = find_model(folder)
    config = found.config
    pairs = (config.architecture, architecture), (config.input, image_input)
    if changed := ", ".join(filter(None, (differences(its, wanted) for its, wanted in pairs))):
        raise InvalidInputError(
            f"{folder} holds {config.architecture.num_members} {config.architecture.name} members for "
            f"{config.training.dataset}; it has to be of the same size, architecture and images as what is "
            f"trained, and is not (its own -> wanted): {changed}"
        )
    return load_ensemble(architecture, image_input, found.read(WEIGHTS), str(folder / WEIGHTS), builder)
