"""The command line of training: python -m training run | recipes | sweep | tables | figures."""

import click

from smdguard.command_group import OneLineErrors
from training.commands.figures import figures
from training.commands.recipes import recipes
from training.commands.run import run
from training.commands.sweep import sweep
from training.commands.tables import tables


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Train ensembles whose members look at different parts of an image."""


for command in (recipes, run, sweep, tables, figures):
    main.add_command(command)

if __name__ == "__main__":
    main()
