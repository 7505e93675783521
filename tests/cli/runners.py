"""The types of the fixtures that run commands."""

from collections.abc import Callable

from click.testing import Result

Run = Callable[..., Result]
"""Given a command's words, and the status that it has to end with."""

OneLine = Callable[..., str]
"""Given the words of a command that fails; returns its one line on standard error."""
