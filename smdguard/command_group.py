"""What the command lines of smdguard, training and zoo have in common."""

import errno
import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from smdguard.errors import SmdguardError

# A file of our own that does not fit is named by smdguard.files.
_FULL = errno.ENOSPC, errno.EDQUOT


class OneLineErrors(click.Group):
    """Commands whose refusals end in one line on standard error and status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was named."""
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


def _give_up_output() -> None:
    """Let the interpreter drop what is left to be written: as it ends it would try again, and say so."""
    with suppress(io.UnsupportedOperation), Path(os.devnull).open("wb") as nowhere:  # Not every output is a file.
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
