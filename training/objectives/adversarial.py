"""Adversarial training: any objective, on images that an adversary has changed first."""

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from pydantic import PositiveInt
from torch import Tensor

from smdguard.attacks import PGD
from smdguard.ensemble import Ensemble
from smdguard.threat import ThreatModel
from training.batch import Batch
from training.distributed import UNDIVIDED, Division
from training.modes import evaluating
from training.objectives.objective import Objective, Radius, Share, StepRatio


class Adversary(Protocol):
    """Turns a batch into the one to learn from."""

    def __call__(self, batch: Batch) -> Batch:
        """The same batch with other images."""
        ...


@dataclass(frozen=True)
class AdversarialTraining:
    """An objective on the images that an adversary makes of each batch."""

    objective: Objective
    adversary: Adversary

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """See Objective."""
        return self.objective(self.adversary(batch))


@dataclass(frozen=True)
class SelfAttack:
    """The ensemble learns from the images that fool it as it is now; crafted in evaluation mode.

    Args:
        epsilon: Radius in the L-infinity norm.
        num_steps: Steps of projected gradient descent, from a random start; the last iterate is learnt from.
        step_ratio: Length of a step relative to epsilon.
        warm_up: Share of the training over which epsilon rises from 0; small networks that meet the full epsilon
            from the start may never learn anything.

    Reference:
        Madry, Makelov, Schmidt, Tsipras, Vladu, "Towards Deep Learning Models Resistant to Adversarial Attacks", 2018,
        Eq. 2.1.
    """

    epsilon: Radius = 0.3
    num_steps: PositiveInt = 10
    step_ratio: StepRatio = 0.25
    warm_up: Share = 0.3

    def __call__(self, batch: Batch) -> Batch:
        """See Adversary."""
        share = 1.0 if batch.progress >= self.warm_up else batch.progress / self.warm_up
        return replace(batch, images=_attacked(batch, batch.ensemble, _attack_of(self), share * self.epsilon))


@dataclass(frozen=True)
class HoldOutAttack:
    """Ensemble adversarial training: clean images and, beside each, one that fools another ensemble.

    Each batch is crafted on one of the hold-out ensembles, drawn at random. Clean and adversarial images have the
    same weight and go through the members in one pass.

    Args:
        epsilon: Radius in the L-infinity norm.
        num_steps: Steps of projected gradient descent, from a random start; the last iterate is learnt from.
        step_ratio: Length of a step relative to epsilon.

    Reference:
        Tramèr, Kurakin, Papernot, Goodfellow, Boneh, McDaniel, "Ensemble Adversarial Training: Attacks and Defenses",
        2018, section 3.4.
    """

    epsilon: Radius = 0.1
    num_steps: PositiveInt = 10
    step_ratio: StepRatio = 0.1

    def __call__(self, batch: Batch) -> Batch:
        """See Adversary."""
        device = batch.images.device
        drawn = int(torch.randint(len(batch.holdouts), (), generator=batch.generator, device=device))
        adversarial = _attacked(batch, batch.holdouts[drawn], _attack_of(self), self.epsilon)
        return replace(batch, images=torch.cat([batch.images, adversarial]), labels=batch.labels.repeat(2))


def _attack_of(adversary: SelfAttack | HoldOutAttack) -> PGD:
    return PGD(num_steps=adversary.num_steps, step_ratio=adversary.step_ratio, early_stop=False)


def _attacked(batch: Batch, victim: Ensemble, attack: PGD, epsilon: float) -> Tensor:
    """The batch's images as they fool the victim in evaluation mode."""
    threat = _DividedThreatModel("linf", epsilon, batch.division)
    with evaluating(victim):
        return attack(victim, batch.images, batch.labels, threat, generator=batch.generator)


@dataclass(frozen=True)
class _DividedThreatModel(ThreatModel):
    """The random starts are the same whoever has the other images of the whole batch."""

    division: Division = UNDIVIDED

    def random_start(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.division.at_random(super().random_start, images, generator)
