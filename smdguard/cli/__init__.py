"""The command line: one small file for each command."""

import warnings
from typing import Any

import click

from smdguard.cli.audit import audit
from smdguard.cli.export import export
from smdguard.cli.info import info
from smdguard.cli.list import list_models
from smdguard.cli.predict import predict
from smdguard.cli.pull import pull
from smdguard.cli.report import report
from smdguard.cli.verify import verify
from smdguard.command_group import OneLineErrors
from smdguard.errors import UnpinnedRevisionWarning


class _Group(OneLineErrors):
    """Turns what smdguard warns of into one line as well."""

    def invoke(self, ctx: click.Context) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("default", UnpinnedRevisionWarning)
            warnings.showwarning = _show_warning
            return super().invoke(ctx)


def _show_warning(message: Warning | str, *_: Any) -> None:
    click.echo(f"Warning: {message}", err=True)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="smdguard")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Predict with verified ensembles, and audit how hard a classifier is to fool."""


for command in (predict, audit, report, list_models, info, pull, verify, export):
    main.add_command(command)
