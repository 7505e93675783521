"""The trial uniform-start: R-FGSM whose random step is drawn evenly instead of by its signs."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from smdguard.attacks import FGSM
from smdguard.attacks.attack import Model, Requirement
from smdguard.threat import ThreatModel
from zoo.audited_trial import audit_trial


@dataclass(frozen=True)
class UniformStart:
    """FGSM with half of the radius, from a point drawn evenly from the ball of the other half.

    In R-FGSM as it was published every pixel takes the whole of the random step, up or down.
    """

    name = "R-FGSM"
    requires: ClassVar[Requirement] = "gradients"
    needs_members: ClassVar[bool] = False

    def __call__(
        self, model: Model, images: Tensor, labels: Tensor, threat: ThreatModel, *, generator: torch.Generator
    ) -> Tensor:
        """See Attack."""
        half = replace(threat, epsilon=threat.epsilon / 2)
        start = half.random_start(images, generator)
        return FGSM(early_stop=False)(model, start, labels, half, generator=generator)


def try_uniform_start(name: str) -> None:
    """Audit a model of the zoo with nothing else, and keep that as a trial.

    Raises:
        UnknownModelError: The zoo has no model of that name, or not its files.
    """
    audit_trial("uniform-start", name, [UniformStart()])
