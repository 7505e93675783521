"""python -m training sweep: train and audit many ensembles, and go on where the same command was stopped."""

from pathlib import Path
from typing import Any, get_args

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text
from torch import distributed

from smdguard.command_group import is_screen
from training.commands.arithmetic import set_arithmetic
from training.commands.comma_separated import CommaSeparated
from training.commands.named_values import named_values
from training.objectives import ADVERSARIES, OBJECTIVES
from training.paper import DATASET_TITLES
from training.plan import wanted_recipes
from training.recipes import Schedule
from training.sweep import Summary, Sweep

_PLAIN = "none"


@click.command()
@click.option(
    "--methods",
    type=CommaSeparated(click.Choice(list(OBJECTIVES)), "METHOD,..."),
    default=(),
    help=f"Of {', '.join(OBJECTIVES)}; default: all, those that matter most first.",
)
@click.option(
    "--datasets",
    type=CommaSeparated(click.Choice(list(DATASET_TITLES)), "DATASET,..."),
    default=(),
    help=f"Of {', '.join(DATASET_TITLES)}, each with the paper's network for it; default: all.",
)
@click.option(
    "--seeds",
    type=CommaSeparated(click.IntRange(min=0), "SEED,..."),
    default="0,1,2,3,4",
    show_default=True,
    help="The black-box attacks on seed 0 need seed 1, and the others seed 0 or 1.",
)
@click.option("--members", type=CommaSeparated(click.IntRange(2, 8), "NUMBER,..."), default="3", show_default=True)
@click.option(
    "--adversarial",
    type=CommaSeparated(click.Choice([_PLAIN, *ADVERSARIES]), "none,pgd,eat"),
    default=_PLAIN,
    show_default=True,
    help="Train on adversarial images.",
)
@click.option(
    "--parameter",
    "parameters",
    multiple=True,
    callback=named_values,
    metavar="NAME=VALUE",
    help="A parameter of the methods, such as saliency=logit; each method must have it.",
)
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the data; default: 50, on cifar10 200.")
@click.option("--schedule", type=click.Choice(get_args(Schedule)), help="Learning rate over time; default: constant.")
@click.option(
    "--calibration",
    type=click.IntRange(min=0),
    help="Training images held out for the suspicion score; default: 5,000.",
)
@click.option("--data-root", type=click.Path(path_type=Path), default=Path("data"), show_default=True)
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the runs.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option(
    "--audit-images", type=click.IntRange(min=1), help="Attack only that many images, balanced over the classes."
)
@click.option(
    "--time-limit",
    type=click.FloatRange(min=0),
    metavar="MINUTES",
    help="Stop after that long, once the epoch under way is done.",
)
@click.option("--download", is_flag=True, help="Let torchvision fetch the data sets if they are not there.")
def sweep(
    methods: tuple[str, ...],
    datasets: tuple[str, ...],
    seeds: tuple[int, ...],
    members: tuple[int, ...],
    adversarial: tuple[str, ...],
    parameters: dict[str, str],
    epochs: int | None,
    schedule: str | None,
    calibration: int | None,
    data_root: Path,
    output: Path,
    device: str,
    audit_images: int | None,
    time_limit: float | None,
    download: bool,
) -> None:
    """Train many ensembles and audit each with the paper's attacks.

    What they start from or are attacked by is trained once and shared. However it is stopped, the same command
    continues from there.
    """
    if distributed.is_torchelastic_launched():
        raise click.UsageError("a sweep is one process; start it without torchrun, which is for `run`")
    set_arithmetic()
    changes: dict[str, Any] = {
        "num_epochs": epochs,
        "learning_rate_schedule": schedule,
        "num_calibration_images": calibration,
        "parameters": parameters,
    }
    try:
        wanted = wanted_recipes(
            methods=methods,
            datasets=datasets,
            seeds=seeds,
            members=members,
            adversaries=[None if adversary == _PLAIN else adversary for adversary in adversarial],
            **{key: value for key, value in changes.items() if value is not None},
        )
        with _Screen() as screen:
            limit = float("inf") if time_limit is None else 60 * time_limit
            summary = Sweep(
                wanted, output, data_root, screen, download, device, num_audit_images=audit_images, time_limit=limit
            ).run()
    except KeyboardInterrupt:
        raise click.ClickException("the sweep was stopped; the same command continues from there") from None
    _close(summary)


def _close(summary: Summary) -> None:
    for name, reason in summary.failures.items():
        click.echo(f"{name}: {reason}", err=True)
    click.echo(
        f"{summary.num_trained} of {summary.num_runs} runs are trained, {summary.num_audited} of {summary.num_wanted} "
        f"audited, {len(summary.failures)} failed"
        + ("; the time is up, the same command continues from there" if summary.time_is_up else "")
    )
    if summary.failures:
        raise click.exceptions.Exit(1)


class _Screen:
    """Progress on standard error: on a screen one line for the run under way, else a line for each milestone."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._is_screen = is_screen(self._console)
        self._line = Live(console=self._console, transient=True)

    def __enter__(self) -> "_Screen":
        if self._is_screen:
            self._line.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._line.stop()

    def follow(self, line: str, *, is_milestone: bool) -> None:
        if self._is_screen:
            self._line.update(Text(line, no_wrap=True, overflow="ellipsis"))
        elif is_milestone:
            click.echo(line, err=True)

    def hear(self, line: str) -> None:
        if self._is_screen:
            self._console.print(Text(line))
        else:
            click.echo(line, err=True)
