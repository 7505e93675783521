"""How values are written on the command line that are more than one number."""

import math
import re
from fractions import Fraction
from typing import Any

import click


class Radius(click.ParamType):
    """A number, or a fraction such as 8/255."""

    name = "RADIUS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number."""
        try:
            return _number(value)
        except (ValueError, ArithmeticError):  # A fraction may divide by zero, or be too large.
            self.fail(f"{value!r} is not a number, such as 0.03 or 8/255", param, ctx)


class Range(click.ParamType):
    """START:STOP:STEP: from START in steps up to at most STOP."""

    name = "START:STOP:STEP"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[float]:
        """The numbers of the range."""
        if isinstance(value, list):
            return value
        try:
            start, stop, step = (_number(part) for part in value.split(":"))
        except (ValueError, ArithmeticError):  # A fraction may divide by zero, or be too large.
            self.fail(f"{value!r} is not of the form START:STOP:STEP, such as 0:0.3:0.05", param, ctx)
        if not (0 < step < math.inf and 0 <= start <= stop and (stop - start) / step <= 1000):
            self.fail(f"{value!r} must rise from 0 or more in at most 1000 steps", param, ctx)
        count = math.floor((stop - start) / step + 1e-9)
        return [round(start + index * step, 12) for index in range(count + 1)]


class Size(click.ParamType):
    """HEIGHT[xWIDTH]: in pixels; a square where there is no width."""

    name = "HEIGHT[xWIDTH]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Height and width in pixels."""
        if isinstance(value, tuple):
            return value
        sides = re.fullmatch(r"([1-9][0-9]{0,3})(?:x([1-9][0-9]{0,3}))?", value)
        if sides is None:
            self.fail(f"{value!r} is not of the form HEIGHT[xWIDTH], 1 to 9999 pixels, such as 224", param, ctx)
        return int(sides[1]), int(sides[2] or sides[1])


def _number(value: str) -> float:
    return float(Fraction(value)) if "/" in value else float(value)
