"""What the command lines of smdguard, training and zoo have in common."""

from typing import Any

import click

from smdguard.errors import SmdguardError


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
