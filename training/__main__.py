"""The command line of training: python -m training run | recipes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from smdguard.backends.torch import torch_device
from smdguard.errors import SmdguardError
from smdguard.manifest import ModelConfig
from training.data import TrainingData, load_training_data
from training.loop import train
from training.objectives import ADVERSARIES
from training.origins import identify
from training.recipes import NAIVE, SCRATCH, Recipe, known_names, recipe_for


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Train ensembles whose members look at different parts of an image."""


@main.command()
def recipes() -> None:
    """List the recipes."""
    for name in known_names():
        recipe = recipe_for(name)
        click.echo(f"{name:32} {recipe.num_members} members, {recipe.num_epochs} epochs, batch {recipe.batch_size}")


@main.command()
@click.argument("name")
@click.option("--data-root", type=click.Path(path_type=Path), default=Path("data"), show_default=True)
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder that becomes the model.")
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the data (the paper: 50, and 200 on CIFAR-10).")
@click.option("--schedule", type=click.Choice(["constant", "one-cycle"]), help="Learning rate over time.")
@click.option("--seed", type=click.IntRange(min=0))
@click.option("--members", type=click.IntRange(2, 8))
@click.option(
    "--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="One of the method's, such as weight=2."
)
@click.option(
    "--init",
    metavar="naive|scratch|MODEL",
    help="What to start from: a naive ensemble, trained first for as many epochs (the default of dverge and smd-plus), "
    "fresh weights, or a model of the zoo or folder.",
)
@click.option("--adversarial", type=click.Choice(list(ADVERSARIES)), help="Train on adversarial images.")
@click.option("--epsilon", type=click.FloatRange(0, 1), help="How far adversarial images are from clean ones.")
@click.option(
    "--holdout",
    "holdouts",
    multiple=True,
    metavar="MODEL",
    help="An ensemble to craft images on for eat, once for each; otherwise three naive ones are trained first.",
)
@click.option("--calibration", type=click.IntRange(min=0), help="Training images held out for the suspicion score.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--resume", is_flag=True, help="Go on from the folder's last checkpoint.")
@click.option("--download", is_flag=True, help="Let torchvision fetch the data set if it is not there.")
def run(
    name: str,
    data_root: Path,
    output: Path,
    epochs: int | None,
    schedule: str | None,
    seed: int | None,
    members: int | None,
    calibration: int | None,
    device: str,
    resume: bool,
    download: bool,
    parameters: tuple[str, ...],
    init: str | None,
    adversarial: str | None,
    epsilon: float | None,
    holdouts: tuple[str, ...],
) -> None:
    """Train the ensemble that NAME stands for, such as smd-lenet-mnist."""
    # Weight decay drives unused weights to numbers so small that a CPU takes many times as long over them.
    torch.set_flush_denormal(True)
    try:
        _require_fresh(output, resume)
        origins = dict(identify(model) for model in holdouts)
        changes: dict[str, Any] = {
            "num_epochs": epochs,
            "learning_rate_schedule": schedule,
            "seed": seed,
            "num_members": members,
            "num_calibration_images": calibration,
            "parameters": dict(_name_and_value(parameter) for parameter in parameters),
            "adversary": adversarial,
            "adversary_parameters": {} if epsilon is None else {"epsilon": epsilon},
            "holdouts": tuple(origins) or None,
            "init": init,
        }
        if init not in (None, NAIVE, SCRATCH):
            changes["init"], folder = identify(init)
            origins[changes["init"]] = folder
        recipe = recipe_for(name, **{key: value for key, value in changes.items() if value is not None})
        data = load_training_data(
            recipe.dataset, data_root, num_calibration_images=recipe.num_calibration_images, download=download
        )
        for origin, prerequisite in recipe.prerequisites().items():
            origins[origin] = output / origin
            _train(prerequisite, data, origins[origin], device, {})
        config = _train(recipe, data, output, device, origins)
    except SmdguardError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{recipe.name}: {config.clean_accuracy:.2%} of the test images right; the model is in {output}")


def _train(recipe: Recipe, data: TrainingData, folder: Path, device: str, origins: Mapping[str, Path]) -> ModelConfig:
    with _Bar(recipe) as bar:
        return train(recipe, data, folder, device=torch_device(device), report=bar.report, origins=origins)


def _name_and_value(parameter: str) -> tuple[str, str]:
    name, equals, value = parameter.partition("=")
    if not equals:
        raise click.BadParameter(f"{parameter!r} is not of the form NAME=VALUE", param_hint="--parameter")
    return name, value


def _require_fresh(output: Path, resume: bool) -> None:
    if not resume and output.is_dir() and any(output.iterdir()):
        raise click.ClickException(f"{output} is not empty; add --resume to go on there, or choose another folder")


class _Bar:
    """Progress on standard error: a bar on a terminal, else a line an epoch."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:.1f} %  {task.fields[terms]}  {task.fields[rate]:.1f} steps/s"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(recipe.name, total=None, terms="", rate=0.0)

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def report(self, epoch: int, step: int, num_steps: int, terms: dict[str, float]) -> None:
        text = "  ".join(f"{name} {value:.4f}" for name, value in terms.items())
        if self._progress.disable:
            if step == num_steps:
                click.echo(f"{self._recipe.name}: epoch {epoch + 1} of {self._recipe.num_epochs}: {text}", err=True)
            return
        done, total = epoch * num_steps + step, self._recipe.num_epochs * num_steps
        rate = self._progress.tasks[0].speed or 0.0
        self._progress.update(self._task, completed=done, total=total, terms=f"epoch {epoch + 1}  {text}", rate=rate)


if __name__ == "__main__":
    main()
