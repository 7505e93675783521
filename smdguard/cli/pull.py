"""smdguard pull: a model's files onto this machine."""

import json

import click

from smdguard.cli.options import json_option, no_warnings_option


@click.command()
@click.argument("model", metavar="NAME")
@json_option
@no_warnings_option
def pull(model: str, as_json: bool) -> None:
    """Fetch the model NAME, a name of the zoo or org/repo@revision on the Hub, and check its files."""
    from smdguard.hub import pull_model

    folder = pull_model(model)
    num_bytes = sum(file.num_bytes for file in folder.config.files.values())
    if as_json:
        click.echo(json.dumps({"model": folder.name, "path": str(folder.path), "num_bytes": num_bytes}, indent=2))
    else:
        click.echo(f"{folder.name}: {num_bytes / 1e6:.1f} MB in {folder.path}")
