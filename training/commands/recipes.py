"""python -m training recipes: what can be trained."""

import click

from training.recipes import known_names, recipe_for


@click.command()
def recipes() -> None:
    """List the recipes."""
    for name in known_names():
        recipe = recipe_for(name)
        click.echo(f"{name:32} {recipe.num_members} members, {recipe.num_epochs} epochs, batch {recipe.batch_size}")
