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
    audited = render.read_report(folder / DOCUMENT, hint=hint)
    write_renderings(audited, folder)
    if missing := render.missing_pictures(audited):
        click.echo(missing, err=True)
    click.echo(folder / PAGE)
