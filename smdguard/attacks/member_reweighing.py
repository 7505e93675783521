"""Member reweighing: an attack made for ensembles, which follows the members that the decision hangs on."""

from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

import torch
from torch import Tensor

from smdguard.attacks.adaptive_ascent import AdaptiveAscent, Judgement
from smdguard.attacks.attack import Model, is_fooled, require_members
from smdguard.errors import InvalidInputError
from smdguard.scores import average_log_probabilities, log_odds, member_log_probabilities, of_class, without_class
from smdguard.threat import ThreatModel


@dataclass(frozen=True, kw_only=True)
class MemberReweighing(AdaptiveAscent):
    """Model-reweighing attack (MORA): climbs a blend of the ensemble's output and its members' weighted logits.

    The gradient of an averaged probability is that of the least sure members alone: where the others are saturated
    they add nothing to it until the last moment. So every member's logits are scaled to a range in which the softmax
    is alive, and weighted by how much the ensemble's decision moves with that member (see `member_weights`).

    Args:
        num_steps: Steps of each run.
        member_shares: Share of the members' logits in the blend, one run for each, each on what still stands; 0 is
            the ensemble's output alone.

    Raises:
        InvalidInputError: They are no tuple, there is none, or one is no number between 0 and 1.

    Reference:
        Yu, Gao, Xu, "MORA: Improving Ensemble Robustness Evaluation with Model-Reweighing Attack", 2022. It lowers
        the step size on a fixed schedule; here it is APGD's, which watches the ensemble's own log-odds.
    """

    name = "MORA"
    needs_members: ClassVar[bool] = True
    member_shares: tuple[float, ...] = (0.5, 0.0, 0.25, 0.75, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        shares = self.member_shares
        are_shares = isinstance(shares, tuple) and all(isinstance(share, Real) and 0 <= share <= 1 for share in shares)
        if not (are_shares and shares):
            raise InvalidInputError(
                f"member_shares of MemberReweighing must be a tuple of shares between 0 and 1, not {shares!r}"
            )

    def __call__(
        self, model: Model, images: Tensor, labels: Tensor, threat: ThreatModel, *, generator: torch.Generator
    ) -> Tensor:
        """See Attack; the model is an Ensemble.

        Raises:
            InvalidInputError: The model does not show its members.
        """
        ensemble = require_members(model, self.name)

        def objective_with(share: float):
            def objective(candidates: Tensor, places: Tensor) -> Judgement:
                logits = ensemble.member_logits(candidates)
                output = average_log_probabilities(member_log_probabilities(logits))
                blended = blend(logits, output, labels[places], share)
                return Judgement(
                    objective=-log_odds(blended, labels[places]),
                    progress=-log_odds(output, labels[places]),
                    fooled=is_fooled(output, labels[places]),
                )

            return objective

        objectives = [objective_with(share) for share in self.member_shares]
        return self._climb_in_turn(objectives, images, threat, generator=generator)


def blend(logits: Tensor, output: Tensor, labels: Tensor, share: float) -> Tensor:
    """The logits to attack: (M, B, K) of the members, (B, K) of the ensemble, (B,) -> (B, K)."""
    alive = logits / (_lead(logits).amax(dim=0) / 10).clamp_min(1).unsqueeze(-1)
    weights = member_weights(alive.detach(), labels).unsqueeze(-1)
    return (1 - share) * output / _lead(output).unsqueeze(-1) + share * (weights * alive).sum(dim=0)


def member_weights(logits: Tensor, labels: Tensor) -> Tensor:
    """Each member's share in moving the ensemble's decision: (M, B, K), (B,) -> (M, B), adding up to one.

    The derivative of log P_y - log P_t, P the ensemble's probabilities and t the likeliest wrong class, by member m's
    logit of t is -p_t (p_y / P_y + (1 - p_t) / P_t) / M. Members that are wrong already weigh nothing.
    """
    probabilities = logits.softmax(dim=-1)
    mean = probabilities.mean(dim=0)
    target = without_class(mean, labels).argmax(dim=-1)
    p_label, p_target = of_class(probabilities, labels), of_class(probabilities, target)
    influence = p_target * (p_label / of_class(mean, labels) + (1 - p_target) / of_class(mean, target))
    influence = influence * ~is_fooled(logits, labels)
    return influence / influence.sum(dim=0).clamp_min(1e-12)


def _lead(logits: Tensor) -> Tensor:
    """Largest logit minus the second largest, without a gradient: (..., K) -> (...)."""
    first, second = logits.detach().topk(2, dim=-1).values.unbind(dim=-1)
    return (first - second).clamp_min(1e-12)
