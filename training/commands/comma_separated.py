"""Options that take several values, such as --seeds 0,1."""

from typing import Any

import click


class CommaSeparated(click.ParamType):
    """Values of another type with commas between them, as a tuple without repetitions.

    Args:
        kind: Type of each.
        metavar: What help texts call it.
    """

    def __init__(self, kind: click.ParamType, metavar: str) -> None:
        self._kind = kind
        self.name = metavar

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in value.split(",")]
        return tuple(dict.fromkeys(self._kind.convert(part, param, ctx) for part in parts))
