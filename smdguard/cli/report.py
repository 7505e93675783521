"""smdguard report: render an audit again."""

from pathlib import Path

import click

from smdguard.cli.report_folder import DOCUMENT, PAGE, write_renderings
from smdguard.errors import InvalidInputError


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def report(folder: Path) -> None:
    """Render page and figures again from DIR/report.json, which `audit --output DIR` wrote."""
    from smdguard import render

    document = folder / DOCUMENT
    try:
        content = document.read_bytes()
    except OSError as error:
        raise InvalidInputError(
            f"{document} cannot be read: {error.strerror}; name the folder that smdguard audit --output wrote"
        ) from error
    write_renderings(render.parse_report(content, str(document)), folder)
    click.echo(folder / PAGE)
