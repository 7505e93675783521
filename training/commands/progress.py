"""Progress of one training on standard error."""

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from smdguard.command_group import is_screen
from training.pace import in_words
from training.recipes import Recipe


class TrainingBar:
    """A bar on a screen, else a line an epoch."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:.1f} %  {task.fields[terms]}  {task.fields[rate]:.1f} steps/s"),
            TimeRemainingColumn(),
            console=console,
            disable=not is_screen(console),
        )
        self._task = self._progress.add_task(recipe.name, total=None, terms="", rate=0.0)

    def __enter__(self) -> "TrainingBar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def report(self, epoch: int, step: int, num_steps: int, terms: dict[str, float]) -> None:
        text = in_words(terms)
        if self._progress.disable:
            if step == num_steps:
                click.echo(f"{self._recipe.name}: epoch {epoch + 1} of {self._recipe.num_epochs}: {text}", err=True)
            return
        done, total = epoch * num_steps + step, self._recipe.num_epochs * num_steps
        rate = self._progress.tasks[0].speed or 0.0
        self._progress.update(self._task, completed=done, total=total, terms=f"epoch {epoch + 1}  {text}", rate=rate)
