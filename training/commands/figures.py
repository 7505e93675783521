"""python -m training figures: the paper's figures from what sweeps have finished."""

from pathlib import Path

import click

from smdguard.files import write_atomically
from training.results import read_runs


@click.command()
@click.argument(
    "folders",
    nargs=-1,
    required=True,
    metavar="RUNS...",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to draw into.")
def figures(folders: tuple[Path, ...], output: Path) -> None:
    """Draw accuracy against epsilon and the transfer between members, as PNG and SVG."""
    from training.figures import figure_files  # The other commands do without matplotlib.

    files = figure_files(read_runs(folders))
    for name, content in files.items():
        write_atomically(output / name, content)
    click.echo(f"{len(files)} files are in {output}")
