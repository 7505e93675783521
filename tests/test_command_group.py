"""What all command lines do alike: where they draw, names that their output cannot show, and freed memory."""

import io
import mmap
import platform
import subprocess
import sys

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


COUNTING = """
import resource
import click
from smdguard.command_group import OneLineErrors

@click.group(cls=OneLineErrors)
def main(): pass

@main.command()
def count():
    print(pages_taken())

def pages_taken():
    def step():
        return [b"x" * 2**23 for _ in range(4)]  # 8 MiB each, written to, and freed at once.
    step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries have rules of their own")
def test_what_a_command_frees_is_used_again() -> None:
    taken = [
        int(subprocess.run([sys.executable, "-c", COUNTING + run], capture_output=True, check=True, text=True).stdout)
        for run in ("print(pages_taken())", "main(['count'])")
    ]
    plain, in_command = taken
    if plain < 5 * 4 * 2**23 / mmap.PAGESIZE / 2:
        pytest.skip("the system gives larger pages, or the environment tells malloc to keep what is freed")
    assert in_command < plain / 20
