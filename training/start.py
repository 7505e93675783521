"""What a training starts with: a folder of its own, the ensemble before the first step, and those it is attacked by."""

from collections.abc import Mapping
from pathlib import Path

import torch

from smdguard.backends.torch import build_ensemble
from smdguard.ensemble import Ensemble
from smdguard.errors import InvalidInputError
from smdguard.files import is_file, write_atomically
from smdguard.manifest import Architecture, Input, read_record, serialise
from training.data import TrainingData
from training.distributed import Division
from training.members import builder_of
from training.origins import load_origin
from training.recipes import RECIPE, SCRATCH, Recipe, differences


def claim(folder: Path, recipe: Recipe) -> None:
    """Write the folder's recipe, or make sure that it is this one.

    Raises:
        InvalidInputError: It is another one; the message says what differs.
    """
    path = folder / RECIPE
    if not is_file(path):
        write_atomically(path, serialise(recipe))
        return
    if changed := differences(read_record(Recipe, path), recipe):
        raise InvalidInputError(
            f"{folder} holds a training of another recipe: {changed}; give the settings and the images that it was "
            "begun with, or choose another folder"
        )


def require_divisible(recipe: Recipe, data: TrainingData, division: Division) -> None:
    """Make sure that there is something to do for every process.

    Raises:
        InvalidInputError: The images or the members cannot be divided so; the message says what can.
    """
    num_images, num_processes = min(recipe.batch_size, len(data.train.images)), division.sharing_images.count
    if num_images % num_processes:
        raise InvalidInputError(
            f"a batch of {num_images} images cannot be divided equally among {num_processes} processes; choose a "
            f"--batch-size such as {max(1, num_images // num_processes) * num_processes}, or other processes"
        )
    if division.sharing_members.count > recipe.num_members:
        raise InvalidInputError(
            f"{recipe.num_members} members cannot be divided among {division.sharing_members.count} processes; start "
            f"torchrun with --nproc-per-node {recipe.num_members}, or choose --parallel data"
        )
    if division.sharing_members.count > 1 and recipe.adversary == "pgd":
        raise InvalidInputError(
            "with --parallel members no process has the ensemble whose gradient the adversary pgd follows; choose "
            "--parallel data, or the adversary eat"
        )


def model_of(recipe: Recipe) -> tuple[Architecture, Input]:
    """The members, and the images that they take."""
    dataset = recipe.dataset_description
    architecture = Architecture(
        name=recipe.architecture,
        num_members=recipe.num_members,
        num_classes=len(dataset.labels),
        negative_slope=recipe.negative_slope,
    )
    shape = dict(zip(("channels", "height", "width"), dataset.image_shape, strict=True))
    return architecture, Input.model_validate({**shape, "mean": dataset.mean, "std": dataset.std})


def initial_ensembles(recipe: Recipe, origins: Mapping[str, Path]) -> tuple[Ensemble, list[Ensemble]]:
    """The ensemble that is to be trained, and the hold-out ensembles.

    Raises:
        InvalidInputError: An origin does not fit, or there is no such architecture.
    """
    builder = builder_of(recipe.architecture)
    architecture, image_input = model_of(recipe)
    # Members are made on the CPU, so no GPU is asked for its generator.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(recipe.seed)
        ensemble = build_ensemble(architecture, image_input, builder)
    if recipe.init != SCRATCH:
        ensemble.load_state_dict(load_origin(origins[recipe.init], architecture, image_input, builder).state_dict())
    return ensemble, [load_origin(origins[name], architecture, image_input, builder) for name in recipe.holdouts]


def require_fitting(recipe: Recipe, origins: Mapping[str, Path]) -> None:
    """Make sure that there is such a network for the images, and that given ensembles are as they have to be.

    That is before others are trained to stand beside them, and before a folder is claimed.

    Raises:
        InvalidInputError: The network does not take such images, or an ensemble does not fit.
    """
    builder = builder_of(recipe.architecture)
    if builder is None:  # One of the user's own was tried out for the recipe.
        with torch.device("meta"):
            build_ensemble(*model_of(recipe))
    for folder in origins.values():
        load_origin(folder, *model_of(recipe), builder)
