"""The terms of a loss over the steps of an epoch: their means, and an alarm at the first that is not finite."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from smdguard.errors import SmdguardError
from training.checkpoint import Progress


class TrainingDivergedError(SmdguardError):
    """A term of the loss, or a weight, became infinite or not a number."""


class TermLog:
    """Collects the terms step by step.

    They wait on their device until they are read: at once on a CPU, elsewhere when somebody asks, so that the device
    need not stop at every step.

    Args:
        before: Where in its epoch the training goes on.
    """

    def __init__(self, before: Progress) -> None:
        self._epoch = len(before.epochs) + 1
        self._sums = dict(before.sums)
        self._num_steps = before.num_steps
        self._waiting: list[dict[str, Tensor]] = []

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """The terms of one more step, each a scalar.

        Raises:
            TrainingDivergedError: As in sums, on a CPU.
        """
        self._waiting.append({name: term.detach() for name, term in terms.items()})
        if all(term.device.type == "cpu" for term in terms.values()):
            self.sums()

    def sums(self) -> dict[str, float]:
        """Each term's sum over the steps.

        Raises:
            TrainingDivergedError: A term was not finite; the message names the first one and its step.
        """
        waiting, self._waiting = self._waiting, []
        rows = torch.stack([torch.stack(list(terms.values())) for terms in waiting]).tolist() if waiting else []
        for terms, row in zip(waiting, rows, strict=True):
            self._num_steps += 1
            for name, value in zip(terms, row, strict=True):
                if not math.isfinite(value):
                    raise TrainingDivergedError(
                        f"the term {name} became {value} at step {self._num_steps} of epoch {self._epoch}"
                    )
                self._sums[name] = self._sums.get(name, 0.0) + value
        return dict(self._sums)

    def means(self) -> dict[str, float]:
        """Each term's mean over the steps; raises as sums."""
        return {name: total / self._num_steps for name, total in self.sums().items()}
