"""What all command lines do alike: where they draw, and names that their output cannot show."""

import io

import click
import pytest
from click.testing import CliRunner
from rich.console import Console

from smdguard.command_group import OneLineErrors, is_screen


class Stream(io.StringIO):
    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal


@pytest.mark.parametrize(
    ("is_terminal", "environment", "expected"),
    [
        (True, {"TERM": "xterm"}, True),
        (True, {"TERM": "dumb"}, False),
        (False, {"TERM": "xterm"}, False),
        (False, {"TERM": "xterm", "FORCE_COLOR": "1"}, False),
        (False, {"TERM": "xterm", "TTY_COMPATIBLE": "1"}, False),
    ],
)
def test_a_screen_is_a_terminal_that_can_be_drawn_on(
    is_terminal: bool, environment: dict[str, str], expected: bool
) -> None:
    assert is_screen(Console(file=Stream(is_terminal=is_terminal), _environ=environment)) == expected


def test_names_that_the_output_cannot_encode_are_escaped() -> None:
    @click.group(cls=OneLineErrors)
    def main() -> None: ...

    @main.command()
    def show() -> None:
        click.echo("Größe \u6570 7")

    result = CliRunner(charset="latin-1").invoke(main, ["show"])
    assert result.exception is None
    assert result.stdout_bytes.decode("latin-1") == "Größe \\u6570 7\n"
