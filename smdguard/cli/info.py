"""smdguard info: the card of a model."""

import json
from typing import TYPE_CHECKING

import click

from smdguard.cli.options import json_option, no_warnings_option, output_console
from smdguard.command_group import is_screen

if TYPE_CHECKING:
    from smdguard.manifest import ModelConfig


@click.command()
@click.argument("model", metavar="NAME")
@json_option
@no_warnings_option
def info(model: str, as_json: bool) -> None:
    """Show the card of the model NAME, or without one what its configuration says.

    With --json that is its entry in the zoo or, without one, its configuration.
    """
    from smdguard.catalogue import read_manifest
    from smdguard.hub import find_config, read_card

    if as_json:
        record = read_manifest().find(model) or find_config(model)
        click.echo(json.dumps(record.model_dump(mode="json"), indent=2))
        return
    card = read_card(model)
    text = _without_metadata(_without_controls(card if isinstance(card, str) else _in_words(card)))
    console = output_console()
    if not is_screen(console):
        click.echo(text)
        return
    from rich.markdown import Markdown

    console.print(Markdown(text, hyperlinks=False))  # A link shows where it leads.


def _in_words(config: "ModelConfig") -> str:
    """What a card begins with, for a model that has none, such as one that was just trained."""
    members, training, labels = config.architecture, config.training, config.labels
    size = " x ".join(map(str, config.input.shape))
    return (
        f"# {config.name}\n\n"
        f"{members.num_members} members of the architecture `{members.name}`, trained on {training.dataset} with the "
        f"objective `{config.objective.name}` for {training.num_epochs} epochs, seed {training.seed}.\n\n"
        f"Images are {size}, in [0, 1], of {len(labels)} classes, {labels[0]} to {labels[-1]}. Clean accuracy on the "
        f"test images: {100 * config.clean_accuracy:.2f} %.\n"
    )


def _without_controls(text: str) -> str:
    """The text without what a terminal would obey instead of showing; a card may be anyone's."""
    return "".join(character for character in text if character.isprintable() or character in "\n\t")


def _without_metadata(text: str) -> str:
    """The text without the metadata that opens it, between two lines of three dashes."""
    _, mark, after = text.removeprefix("---\n").partition("\n---\n")
    return after.lstrip() if mark and text.startswith("---\n") else text
