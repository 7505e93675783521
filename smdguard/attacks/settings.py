"""What the settings of attacks may be: with nothing to do, an attack would leave every image standing."""

import math
from dataclasses import dataclass, fields
from numbers import Integral
from typing import get_args

from smdguard.attacks.losses import LossName
from smdguard.errors import InvalidInputError


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Checks an attack's fields by their names when it is made.

    Raises:
        InvalidInputError: A `num_` is no whole number of at least 1, a `_ratio` not positive, or a loss unknown.
    """

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            what = f"{field.name} of {type(self).__name__}"
            if field.name.endswith("_ratio") and not 0 < value < math.inf:
                raise InvalidInputError(f"{what} must be above 0 and finite, not {value!r}")
            if field.name == "loss" and value not in get_args(LossName):
                raise InvalidInputError(f"{what} must be one of {', '.join(get_args(LossName))}, not {value!r}")
            if field.name.startswith("num_") and not (isinstance(value, Integral) and int(value) >= 1):
                raise InvalidInputError(f"{what} must be a whole number of at least 1, not {value!r}")
