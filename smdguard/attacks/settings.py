"""What the settings of attacks may be: with nothing to do, an attack would leave every image standing."""

import math
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any, get_args

from smdguard.attacks.losses import LossName
from smdguard.errors import InvalidInputError


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Checks an attack's fields by their names when it is made.

    Raises:
        InvalidInputError: A `num_` is no whole number of at least 1, a `_ratio` no finite number above 0, a `decay` or
            `threshold` no finite number of at least 0, or a loss unknown.
    """

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if wanted := _unmet(field.name, value):
                raise InvalidInputError(f"{field.name} of {type(self).__name__} must be {wanted}, not {value!r}")


def _unmet(name: str, value: Any) -> str | None:
    """What a setting of that name must be and is not."""
    if name.startswith("num_") and not (_is_number(value, Integral) and value >= 1):
        return "a whole number of at least 1"
    if name.endswith("_ratio") and not (_is_number(value, Real) and 0 < value < math.inf):
        return "a finite number above 0"
    if name in ("decay", "threshold") and not (_is_number(value, Real) and 0 <= value < math.inf):
        return "a finite number of at least 0"
    if name == "loss" and value not in get_args(LossName):
        return f"one of {', '.join(get_args(LossName))}"
    return None


def _is_number(value: Any, kind: type) -> bool:
    # To Python, True is a number as well.
    return isinstance(value, kind) and not isinstance(value, bool)
