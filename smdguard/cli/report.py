"""smdguard report: render an audit again."""

from pathlib import Path

import click

from smdguard.cli.report_folder import DOCUMENT, PAGE, write_renderings


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def report(folder: Path) -> None:
    """Render the page and figures again from DIR/report.json, which `audit --output DIR` wrote."""
    from smdguard import render

    hint = "; name the folder that smdguard audit --output wrote"
    write_renderings(render.read_report(folder / DOCUMENT, hint=hint), folder)
    click.echo(folder / PAGE)
