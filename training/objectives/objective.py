"""What the training loop asks of an objective."""

from typing import Protocol

from torch import Tensor

from training.batch import Batch


class Objective(Protocol):
    """The whole loss of a batch, as named terms; the loop minimises their sum and logs each."""

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """The terms, each a scalar."""
        ...
