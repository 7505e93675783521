"""python -m training run: train one ensemble, and first what it starts from or is attacked by."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, get_args

import click
import torch

from smdguard.architectures import ARCHITECTURES
from smdguard.backends.torch import torch_device
from smdguard.dataset_folders import TEST_SHARE, has_test_split
from smdguard.files import is_folder
from smdguard.manifest import ModelConfig, Precision
from training.calibration import MIN_CALIBRATION_IMAGES
from training.commands.arithmetic import set_arithmetic
from training.commands.named_values import named_values
from training.commands.progress import TrainingBar
from training.data import TrainingData, load_training_data
from training.distributed import Division, Parallel
from training.image_folder import load_image_folder
from training.loop import train
from training.monitor import Monitor
from training.objectives import ADVERSARIES
from training.origins import identify
from training.processes import Processes, launched
from training.recipes import NAIVE, SCRATCH, Recipe, Schedule, names_dataset, recipe_for
from training.start import claim, require_divisible, require_fitting


@click.command()
@click.argument("name")
@click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    default=Path("data"),
    show_default=True,
    help="Where the data sets are; or, with a NAME that names none, a folder of images of your own.",
)
@click.option(
    "--architecture",
    metavar="ARCHITECTURE|package.module:factory",
    help=f"Network of the members, in place of NAME's: {', '.join(ARCHITECTURES)}, or a function of your own "
    "(image_shape, num_classes) that gives one from normalised images to logits.",
)
@click.option(
    "--image-size",
    type=click.IntRange(1, 4096),
    help="Height and width to resize your own images to; default: those of the first.",
)
@click.option(
    "--augment/--no-augment",
    "augmentation",
    default=None,
    help="Shift images by up to four pixels and mirror them; default: on cifar10 only.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder that the model is written to.",
)
@click.option(
    "--epochs",
    "num_epochs",
    type=click.IntRange(min=1),
    help="Passes over the data; default: the paper's 50, or 200 for images in colour.",
)
@click.option(
    "--schedule",
    "learning_rate_schedule",
    type=click.Choice(get_args(Schedule)),
    help="Learning rate over time; default: constant.",
)
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), help="Peak learning rate; default: 0.001.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Images per step; default: 128.")
@click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    help="bfloat16 computes convolutions and matrix products in fewer bits, which pays off for larger networks if the "
    "device has instructions for it; default: float32.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Seed of every random draw; default: NAME's -sSEED, else 0.")
@click.option(
    "--members", "num_members", type=click.IntRange(2, 8), help="How many members; default: NAME's -xMEMBERS, else 3."
)
@click.option(
    "--parameter",
    "parameters",
    multiple=True,
    callback=named_values,
    metavar="NAME=VALUE",
    help="A parameter of the method, such as weight=2.",
)
@click.option(
    "--init",
    metavar="naive|scratch|MODEL",
    help="What to start from: a naive ensemble, trained first for as many epochs (the default of dverge and smd-plus), "
    "fresh weights, or a model of the zoo or folder.",
)
@click.option("--adversarial", "adversary", type=click.Choice(list(ADVERSARIES)), help="Train on adversarial images.")
@click.option(
    "--adversarial-parameter",
    "adversary_parameters",
    multiple=True,
    callback=named_values,
    metavar="NAME=VALUE",
    help="A parameter of the adversary, such as epsilon=0.2, num_steps=1 or, for pgd, warm_up=0.5.",
)
@click.option(
    "--holdout",
    "holdouts",
    multiple=True,
    metavar="MODEL",
    help="An ensemble to craft images on for eat, repeatable; default: three naive ones, trained first.",
)
@click.option(
    "--calibration",
    "num_calibration_images",
    type=click.IntRange(min=0),
    help="Training images held out for the suspicion score; default: 5,000, of images of your own a tenth, at most "
    "5,000.",
)
@click.option(
    "--evaluate-every",
    type=click.IntRange(min=1),
    metavar="EPOCHS",
    help="Attack held-out images after every so many epochs, for metrics.jsonl; default: about ten times in all.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option(
    "--parallel",
    type=click.Choice(get_args(Parallel)),
    default="data",
    show_default=True,
    help="What several processes, started with torchrun, divide: each batch's images, or the members.",
)
@click.option("--resume", is_flag=True, help="Continue from the folder's last checkpoint.")
@click.option("--download", is_flag=True, help="Let torchvision fetch the data set if it is not there.")
def run(
    name: str,
    data_root: Path,
    output: Path,
    image_size: int | None,
    evaluate_every: int | None,
    device: str,
    parallel: Parallel,
    resume: bool,
    download: bool,
    init: str | None,
    holdouts: tuple[str, ...],
    **changes: Any,
) -> None:
    """Train the ensemble that NAME stands for, such as smd-lenet-mnist.

    NAME is METHOD[-ARCHITECTURE-DATASET][-xMEMBERS][-at|-eat][-sSEED]: `python -m training recipes` lists what there
    is.

    torchrun --nproc-per-node N -m training run NAME does the same with N processes.

    A NAME without network and data set, such as smd, trains on images of your own: --data-root holds
    train/CLASS/IMAGE and test/CLASS/IMAGE (or val), and --architecture names the network.
    """
    set_arithmetic()
    with launched(device) as processes:
        place, division = torch_device(device), Division(processes, parallel)
        processes.once(partial(_require_fresh, output, resume))
        origins = dict(identify(model) for model in holdouts)
        changes |= {"holdouts": tuple(origins) or None, "init": init}
        if init not in (None, NAIVE, SCRATCH):
            changes["init"], folder = identify(init)
            origins[changes["init"]] = folder
        # The other options are fields of the recipe.
        changes = {field: value for field, value in changes.items() if value is not None}
        recipe, data = _prepared(name, changes, data_root, image_size, download, processes)
        require_divisible(recipe, data, division)
        require_fitting(recipe, origins)
        if changes.get("num_calibration_images") != 0 and len(data.calibration.images) < MIN_CALIBRATION_IMAGES:
            click.echo(
                f"{len(data.calibration.images)} calibration images are too few for a suspicion score, which takes "
                f"{MIN_CALIBRATION_IMAGES}; see --calibration",
                err=True,
            )
        # Before its prerequisites are trained into the folder, but after all else that may be refused and leaves none.
        processes.in_turn(partial(claim, output, recipe))
        try:
            for origin, prerequisite in recipe.prerequisites().items():
                origins[origin] = output / origin
                _train(prerequisite, data, origins[origin], place, evaluate_every, {}, division)
            config = _train(recipe, data, output, place, evaluate_every, origins, division)
        except KeyboardInterrupt:
            raise click.ClickException(
                "the training was stopped; the same command with --resume goes on from there"
            ) from None
        click.echo(f"{recipe.name}: {config.clean_accuracy:.2%} of the test images right; the model is in {output}")


def _prepared(
    name: str, changes: dict[str, Any], root: Path, image_size: int | None, download: bool, processes: Processes
) -> tuple[Recipe, TrainingData]:
    """The recipe and its images: of a known data set if the name says one, else the user's own."""
    if not names_dataset(name):
        if download:
            raise click.UsageError(f"--download is for known data sets; {name} trains on images of your own")
        return _of_image_folder(name, changes, root, image_size)
    if image_size is not None:
        raise click.UsageError(f"--image-size is for images of your own; those that {name} names have a size")
    recipe = recipe_for(name, **changes)
    load = partial(
        load_training_data,
        recipe.dataset,
        root,
        num_calibration_images=recipe.num_calibration_images,
        download=download,
    )
    return recipe, processes.in_turn(load) if download else load()


def _of_image_folder(
    name: str, changes: dict[str, Any], root: Path, image_size: int | None
) -> tuple[Recipe, TrainingData]:
    if "architecture" not in changes:
        raise click.UsageError(
            f"{name} names no network; add --architecture, or name a recipe such as {name}-lenet-mnist"
        )
    num_calibration_images = changes.get("num_calibration_images")
    dataset, data = load_image_folder(root, image_size=image_size, num_calibration_images=num_calibration_images)
    if not has_test_split(root):
        click.echo(
            f"{root} has no test split: {len(data.test.images)} of its images ({TEST_SHARE:.0%} of each class, "
            "chosen by name) are held out for testing and audits",
            err=True,
        )
    found = {"folder": dataset, "num_calibration_images": len(data.calibration.images)}
    return recipe_for(name, **changes | found), data


def _train(
    recipe: Recipe,
    data: TrainingData,
    folder: Path,
    device: torch.device,
    evaluate_every: int | None,
    origins: Mapping[str, Path],
    division: Division,
) -> ModelConfig:
    monitor = Monitor(recipe, data, evaluate_every=evaluate_every)
    with TrainingBar(recipe) as bar:
        return train(
            recipe,
            data,
            folder,
            device=device,
            report=bar.report,
            measure=monitor,
            origins=origins,
            division=division,
        )


def _require_fresh(output: Path, resume: bool) -> None:
    if not resume and is_folder(output) and any(output.iterdir()):
        raise click.ClickException(f"{output} is not empty; add --resume to go on there, or choose another folder")
