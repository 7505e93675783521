"""What the command lines of smdguard, training and zoo have in common."""

import errno
import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from smdguard.errors import SmdguardError

if TYPE_CHECKING:
    from rich.console import Console

# A file of our own that does not fit is named by smdguard.files.
_FULL = errno.ENOSPC, errno.EDQUOT
# A little below DEFAULT_MMAP_THRESHOLD_MAX of glibc.
_LARGEST_BLOCK_KEPT = 2**25 - 2**16


class OneLineErrors(click.Group):
    """Commands whose refusals end in one line on standard error and status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was named."""
        _let_any_name_through()
        keep_freed_memory()
        try:
            return super().invoke(ctx)
        except SmdguardError as error:
            if ctx.params.get("debug"):
                raise
            raise click.ClickException(str(error)) from error
        except OSError as error:
            if ctx.params.get("debug") or error.errno not in _FULL:
                raise
            _give_up_output()
            raise click.ClickException(f"standard output cannot be written: {error.strerror}") from error


def is_screen(console: "Console") -> bool:
    """Whether what is drawn there can be drawn again; logs may ask for colours, and not every terminal can."""
    return console.is_interactive and console.file.isatty()


def _let_any_name_through() -> None:
    """Escape what the encoding of standard output lacks, such as many names in a code page of Windows."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def keep_freed_memory() -> None:
    """Have glibc keep up to 64 MiB of what is freed for the next tensors, which the system would give page by page.

    It adapts to the largest block that was freed so far, see M_MMAP_THRESHOLD in mallopt(3). A CPU's attacks and
    trainings, which free and ask for the same blocks at each step, wait less for memory.
    """
    bytearray(_LARGEST_BLOCK_KEPT)


def _give_up_output() -> None:
    """Let the interpreter drop what is left to be written: as it ends it would try again, and say so."""
    with suppress(io.UnsupportedOperation), Path(os.devnull).open("wb") as nowhere:  # Not every output is a file.
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
