"""Attacks made with a seed."""

import torch
from torch import Tensor

from smdguard.attacks import Attack
from smdguard.attacks.attack import Model
from smdguard.threat import ThreatModel


def craft(attack: Attack, model: Model, images: Tensor, labels: Tensor, threat: ThreatModel, seed: int = 0) -> Tensor:
    return attack(model, images, labels, threat, generator=torch.Generator().manual_seed(seed))


def craft_watched(
    attack: Attack, model: Model, images: Tensor, labels: Tensor, threat: ThreatModel
) -> tuple[Tensor, list[Tensor]]:
    """What an attack returns, and the images that it asked the model about, in turn."""
    seen: list[Tensor] = []

    def watched(candidates: Tensor) -> Tensor:
        seen.append(candidates.detach().clone())
        return model(candidates)

    return craft(attack, watched, images, labels, threat), seen
