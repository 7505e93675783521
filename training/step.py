"""One step of a training: the loss, its gradients, the weights."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from smdguard.ensemble import Ensemble
from training.batch import Batch
from training.distributed import UNDIVIDED, Division
from training.recipes import Recipe
from training.terms import TrainingDivergedError


class Stepper:
    """Takes the steps of a recipe.

    Args:
        recipe: Says the objective and the optimiser.
        ensemble: What is trained, on its device.
        holdouts: The hold-out ensembles, on the same.
        division: Among which processes.
    """

    def __init__(
        self, recipe: Recipe, ensemble: Ensemble, holdouts: Sequence[Ensemble], division: Division = UNDIVIDED
    ) -> None:
        self.ensemble, self.holdouts, self.division = ensemble, holdouts, division
        self.part = division.part(ensemble)
        self._mixed_precision = torch.autocast(
            ensemble.mean.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"
        )
        self._objective = recipe.build_objective()
        # Now, as the search through all modules would be felt in every step.
        self._weights = _trained(self.part)
        self.optimizer = torch.optim.Adam(
            _trained(ensemble), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )

    def take(self, batch: Batch, learning_rate: float) -> dict[str, Tensor]:
        """Change the weights; returns the terms of the loss before that."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.zero_grad()
        with self._mixed_precision:
            terms = self._objective(batch)
        # Naming the weights keeps the pass from also computing the images' gradients.
        torch.stack(list(terms.values())).sum().backward(inputs=self._weights)
        terms = {name: term.detach() for name, term in terms.items()}
        gradients = [weight.grad for weight in self._weights if weight.grad is not None]
        self.division.sharing_images.average([*terms.values(), *gradients, *self._running_statistics()])
        self.optimizer.step()
        return terms

    def gather(self) -> None:
        """Let every process have all members as they are now."""
        for member, owner in zip(self.ensemble.members, self.division.owners(len(self.ensemble.members)), strict=True):
            for tensor in self._state_of(member):
                self.division.sharing_members.broadcast(tensor, owner)

    def require_finite_weights(self) -> None:
        """Refuse to go on from, or to save, what no training can go on from.

        Raises:
            TrainingDivergedError: A weight is not finite, be the loss before the step what it may.
        """
        if not all(weight.isfinite().all() for weight in _trained(self.ensemble)):
            raise TrainingDivergedError("a weight became infinite or not a number")

    def _running_statistics(self) -> Iterator[Tensor]:
        """Batch normalisation's, without its counts of batches; a member may have put others in their place."""
        return (buffer for buffer in self.part.members.buffers() if buffer.is_floating_point())

    def _state_of(self, member: nn.Module) -> Iterator[Tensor]:
        """All that a checkpoint holds of a member, in the same order everywhere."""
        yield from member.state_dict().values()
        for weight in _trained(member):
            state = self.optimizer.state[weight]
            if not state:  # This process has taken no step with it, and gets the state of the one that has.
                moments = {name: torch.zeros_like(weight.detach()) for name in ("exp_avg", "exp_avg_sq")}
                state |= moments | {"step": torch.zeros((), dtype=torch.float32, device=weight.device)}
            yield from (state[name] for name in sorted(state))


def _trained(module: nn.Module) -> list[nn.Parameter]:
    """The weights that change; some of a user's own members may be frozen in part."""
    return [weight for weight in module.parameters() if weight.requires_grad]
