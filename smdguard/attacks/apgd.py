"""APGD and targeted APGD: adaptive ascent on a loss, and towards each of the likeliest wrong classes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from smdguard.attacks.adaptive_ascent import AdaptiveAscent, Judgement, Objective
from smdguard.attacks.attack import Model, is_fooled
from smdguard.attacks.losses import LossName, rising, targeted_difference_of_logits_ratio
from smdguard.attacks.targets import likeliest_wrong_classes
from smdguard.threat import ThreatModel


@dataclass(frozen=True, kw_only=True)
class APGD(AdaptiveAscent):
    """Automatic projected gradient descent, `num_restarts` times from a random point of the ball.

    Args:
        num_steps: Steps of each restart.
        loss: What is increased; "ce" the cross-entropy, "cw" the margin, "dlr" the difference of logits ratio, "sce"
            the cross-entropy of standardised logits.
        num_restarts: Runs, each on what still stands.
        targeted: Move towards the given classes instead of away from them.
        early_stop: Keep an image's first success and leave it alone from then on; otherwise return the point of
            largest loss.

    Reference:
        Croce, Hein, "Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-free
        Attacks", 2020, Algorithm 1; loss "dlr": Eq. 6.
    """

    loss: LossName = "ce"
    num_restarts: int = 1
    targeted: bool = False
    early_stop: bool = True

    @property
    def name(self) -> str:
        """APGD and the loss."""
        return f"APGD-{self.loss.upper()}"

    def __call__(
        self, model: Model, images: Tensor, labels: Tensor, threat: ThreatModel, *, generator: torch.Generator
    ) -> Tensor:
        """See Attack."""

        def objective(candidates: Tensor, places: Tensor) -> Judgement:
            logits = model(candidates)
            loss = rising(self.loss, logits, labels[places], targeted=self.targeted)
            return Judgement(loss, loss, is_fooled(logits, labels[places], targeted=self.targeted))

        return self._climb_in_turn(
            [objective] * self.num_restarts, images, threat, generator=generator, early_stop=self.early_stop
        )


@dataclass(frozen=True, kw_only=True)
class TargetedAPGD(AdaptiveAscent):
    """Away from the true class by way of others: APGD towards each of the likeliest wrong classes in turn.

    Args:
        num_steps: Steps towards each class.
        num_target_classes: How many classes are tried; all wrong ones where there are fewer.
        num_restarts: Runs for each class, each on what still stands.
        early_stop: Keep an image's first success and leave it alone from then on; otherwise return the point of
            largest loss.

    Reference:
        Croce, Hein, "Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-free
        Attacks", 2020, section 5 (APGD-T), Eq. 7.
    """

    name = "APGD-T"
    num_target_classes: int = 9
    num_restarts: int = 1
    early_stop: bool = True

    def __call__(
        self, model: Model, images: Tensor, labels: Tensor, threat: ThreatModel, *, generator: torch.Generator
    ) -> Tensor:
        """See Attack; `labels` are the true classes."""

        def objective_towards(targets: Tensor) -> Objective:
            def objective(candidates: Tensor, places: Tensor) -> Judgement:
                logits = model(candidates)
                loss = targeted_difference_of_logits_ratio(logits, labels[places], targets[places])
                return Judgement(loss, loss, is_fooled(logits, labels[places]))

            return objective

        with torch.no_grad():
            likeliest = likeliest_wrong_classes(model(images), labels, self.num_target_classes)
        objectives = [objective_towards(targets) for targets in likeliest for _ in range(self.num_restarts)]
        return self._climb_in_turn(objectives, images, threat, generator=generator, early_stop=self.early_stop)
