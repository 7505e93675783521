"""The command line: one small file for each command."""

from typing import Any

import click

from smdguard.cli.audit import audit
from smdguard.cli.export import export
from smdguard.cli.list import list_models
from smdguard.cli.predict import predict
from smdguard.errors import SmdguardError


class _Group(click.Group):
    """Turns what smdguard refuses into one line and status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SmdguardError as error:
            if ctx.params["debug"]:
                raise
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="smdguard")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Predict with verified ensembles, and audit how hard a classifier is to fool."""


for command in (predict, audit, list_models, export):
    main.add_command(command)
