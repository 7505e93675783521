"""Attacks made on one model and tried on another."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from smdguard.attacks.attack import Attack, Model, Requirement, to_the_last_step
from smdguard.threat import ThreatModel


@dataclass(frozen=True)
class Transfer:
    """An attack crafted on a surrogate, which is handed over as the model; the target is never asked.

    Args:
        source_name: What reports call the surrogate.
        attack: What is run on it; without early stop, so that images are pushed well past the surrogate's boundary.

    Reference:
        Papernot, McDaniel, Goodfellow, "Transferability in Machine Learning", 2016.
    """

    source_name: str
    attack: Attack
    requires: ClassVar[Requirement] = "labels"
    needs_members: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """The name of the attack that is transferred."""
        return self.attack.name

    def __call__(
        self, model: Model, images: Tensor, labels: Tensor, threat: ThreatModel, *, generator: torch.Generator
    ) -> Tensor:
        """See Attack; `model` is the surrogate."""
        attack = to_the_last_step(self.attack)
        return attack(model, images, labels, threat, generator=generator)
