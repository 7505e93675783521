"""Fool an ensemble without making its members disagree."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from smdguard.attacks.adaptive_ascent import AdaptiveAscent, Judgement, Objective
from smdguard.attacks.attack import Model, is_fooled, require_members
from smdguard.attacks.losses import margin
from smdguard.attacks.targets import likeliest_wrong_classes
from smdguard.scores import average_log_probabilities, disagreement, member_log_probabilities
from smdguard.threat import ThreatModel


@dataclass(frozen=True, kw_only=True)
class Unsuspicious(AdaptiveAscent):
    """Leads all members to one wrong class, then closer together, until their disagreement is below the threshold.

    Climbs the mean of the members' log p_t, in turn for each of the likeliest wrong classes t; where the decision is
    wrong already, the disagreement is subtracted. An image is done when the decision is wrong and the score is not
    above the threshold; the others keep the wrong decision of least disagreement.

    Args:
        num_steps: Steps towards each class.
        threshold: Disagreement in nats up to which an image raises no suspicion.
        num_target_classes: How many classes are tried; all wrong ones where there are fewer.

    Reference:
        Tramèr, Carlini, Brendel, Madry, "On Adaptive Attacks to Adversarial Example Defenses", 2020.
    """

    name = "adaptive"
    needs_members: ClassVar[bool] = True
    threshold: float
    num_target_classes: int = 3

    def __call__(
        self, model: Model, images: Tensor, labels: Tensor, threat: ThreatModel, *, generator: torch.Generator
    ) -> Tensor:
        """See Attack; the model is an Ensemble.

        Raises:
            InvalidInputError: The model does not show its members.
        """
        ensemble = require_members(model, self.name)

        def objective_towards(targets: Tensor) -> Objective:
            def objective(candidates: Tensor, places: Tensor) -> Judgement:
                members = member_log_probabilities(ensemble.member_logits(candidates))
                output = average_log_probabilities(members)
                wrong = is_fooled(output, labels[places])
                score = disagreement(members)
                # Every member is led to the same class, the least convinced one most.
                towards = members.gather(-1, targets[places].view(-1, 1, 1).expand(-1, members.shape[1], 1)).mean(
                    (1, 2)
                )
                short_of_wrong = margin(output, labels[places]).clamp_max(0)
                return Judgement(
                    objective=towards - score * wrong,
                    # Any wrong decision is better than a right one, and among them that of the least score is best.
                    progress=short_of_wrong + wrong * (1 + math.log(members.shape[1]) - score),
                    fooled=wrong & (score <= self.threshold),
                )

            return objective

        with torch.no_grad():
            likeliest = likeliest_wrong_classes(model(images), labels, self.num_target_classes)
        return self._climb_in_turn(map(objective_towards, likeliest), images, threat, generator=generator)
