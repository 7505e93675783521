"""What the training loop asks of an objective."""

from typing import Annotated, Protocol

from pydantic import Field
from torch import Tensor

from training.batch import Batch

Radius = Annotated[float, Field(gt=0, le=1)]
"""In the L-infinity norm, on the [0, 1] scale."""

StepRatio = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""Length of an attack's step relative to its radius."""

Share = Annotated[float, Field(ge=0, le=1)]


class Objective(Protocol):
    """The whole loss of a batch, as named terms; the loop minimises their sum and logs each."""

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """The terms, each a scalar."""
        ...
