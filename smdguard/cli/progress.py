"""Progress on standard error, where that is a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def audit_progress(*, quiet: bool) -> Iterator[Callable[[int, int, str], None]]:
    """A bar with the attack under way and the time left; nothing where standard error is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("audit", total=None)
        yield lambda done, total, description: bar.update(task, completed=done, total=total, description=description)
