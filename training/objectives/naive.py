"""Members trained side by side without any word between them."""

from dataclasses import dataclass

from torch import Tensor

from training.batch import Batch


@dataclass(frozen=True)
class Naive:
    """Sum of the members' cross-entropies."""

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """See Objective."""
        return {"cross_entropy": batch.members.cross_entropy.mean(dim=1).sum()}
