"""smdguard list: the models of the zoo."""

import json

import click

from smdguard.cli.options import json_option, output_console


@click.command("list")
@json_option
def list_models(as_json: bool) -> None:
    """List the models of the zoo, with what their audits found and where they are."""
    from smdguard.catalogue import list_zoo

    rows = list_zoo()
    if as_json:
        click.echo(json.dumps({"models": rows}, indent=2))
        return
    from smdguard.render import zoo_view

    output_console().print(zoo_view(rows))
