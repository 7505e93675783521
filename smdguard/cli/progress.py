"""How long an audit takes and how far it is, on standard error."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple


class AuditProgress(NamedTuple):
    """What an audit tells while it runs: how long it takes at most, and what is done."""

    announce: Callable[[float], None] | None
    advance: Callable[[int, int, str], None]


@contextmanager
def audit_progress(*, quiet: bool) -> Iterator[AuditProgress]:
    """A line with the longest time, and where standard error is a terminal a bar with the attack under way."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from smdguard.command_group import is_screen

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not is_screen(console)) as bar:
        task = bar.add_task("audit", total=None)

        def announce(seconds: float) -> None:
            console.print(f"This takes at most about {in_words(seconds)}.", highlight=False)

        def advance(done: int, total: int, description: str) -> None:
            bar.update(task, completed=done, total=total, description=description)

        yield AuditProgress(None if quiet else announce, advance)


def in_words(seconds: float) -> str:
    """A duration, rounded up in the largest unit of which there are two."""
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{math.ceil(seconds / length)} {unit}"
    return f"{math.ceil(seconds)} seconds" if seconds > 1 else "a second"
