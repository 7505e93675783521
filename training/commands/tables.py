"""python -m training tables: the paper's tables from what sweeps have finished."""

from pathlib import Path

import click

from smdguard.files import write_where_named
from training.results import read_runs
from training.tables import paper_tables


@click.command()
@click.argument(
    "folders",
    nargs=-1,
    required=True,
    metavar="RUNS...",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="File; default: standard output.")
def tables(folders: tuple[Path, ...], output: Path | None) -> None:
    """Set the results in the folders of sweeps beside the paper's, as Markdown."""
    text = paper_tables(read_runs(folders))
    if output is None:
        click.echo(text, nl=False)
    else:
        write_where_named(output, text.encode())
