"""One step of a training: the loss, its gradients, the weights."""

from collections.abc import Sequence

import torch
from torch import Tensor

from smdguard.ensemble import Ensemble
from training.batch import Batch
from training.recipes import Recipe
from training.terms import TrainingDivergedError


class Stepper:
    """Takes the steps of a recipe.

    Args:
        recipe: Says the objective and the optimiser.
        ensemble: What is trained, on its device.
        holdouts: The hold-out ensembles, on the same.
    """

    def __init__(self, recipe: Recipe, ensemble: Ensemble, holdouts: Sequence[Ensemble]) -> None:
        self.ensemble, self.holdouts = ensemble, holdouts
        # Some of a user's own members may be frozen in part.
        self._weights = [weight for weight in ensemble.parameters() if weight.requires_grad]
        self._objective = recipe.build_objective()
        self.optimizer = torch.optim.Adam(
            self._weights, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )

    def take(self, batch: Batch, learning_rate: float) -> dict[str, Tensor]:
        """Change the weights; returns the terms of the loss before that."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.zero_grad()
        terms = self._objective(batch)
        # Naming the weights keeps the pass from also computing the images' gradients.
        torch.stack(list(terms.values())).sum().backward(inputs=self._weights)
        self.optimizer.step()
        return terms

    def require_finite_weights(self) -> None:
        """Refuse to go on from, or to save, what no training can go on from.

        Raises:
            TrainingDivergedError: A weight is not finite, be the loss before the step what it may.
        """
        if not all(weight.isfinite().all() for weight in self._weights):
            raise TrainingDivergedError("a weight became infinite or not a number")
