"""FGSM, R-FGSM, BIM, PGD and MIM: steps along the input gradient, in one loop."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from smdguard.attacks.attack import Model, Requirement, is_fooled
from smdguard.attacks.gradient import input_gradient
from smdguard.attacks.losses import LossName, rising
from smdguard.attacks.settings import Settings
from smdguard.errors import InvalidInputError
from smdguard.threat import ThreatModel, unit


@dataclass(frozen=True, kw_only=True)
class _GradientSteps(Settings):
    """Settings that all five share.

    Args:
        loss: What is increased; "ce" the cross-entropy, "cw" the margin, "dlr" the difference of logits ratio, "sce"
            the cross-entropy of standardised logits.
        targeted: Move towards the given classes instead of away from them.
        early_stop: Keep an image's first success and leave it alone from then on; otherwise return the last iterate
            of every image, as the attacks were first published.
    """

    loss: LossName = "ce"
    targeted: bool = False
    early_stop: bool = True
    requires: ClassVar[Requirement] = "gradients"
    needs_members: ClassVar[bool] = False

    def _climb(
        self,
        model: Model,
        images: Tensor,
        labels: Tensor,
        threat: ThreatModel,
        *,
        start: Tensor,
        num_steps: int,
        step_size: float,
        decay: float = 0.0,
    ) -> Tensor:
        """Take `num_steps` steps from `start`, each projected back into the ball and the box.

        With a positive `decay` each step follows the running sum of the gradients' directions.
        """
        found = start.clone()
        standing = torch.arange(len(images), device=images.device)
        current, momentum = start, torch.zeros_like(start)
        for _ in range(num_steps):
            gradient, fooled = self._gradient(model, current, labels)
            if self.early_stop and fooled.any():
                found[standing[fooled]] = current[fooled]
                standing, current, images, labels, gradient, momentum = (
                    values[~fooled] for values in (standing, current, images, labels, gradient, momentum)
                )
                if not len(standing):
                    return found
            if decay:
                gradient = momentum = decay * momentum + unit(gradient, order=1)
            current = threat.project(images, current + step_size * threat.ascent_direction(gradient))
        found[standing] = current
        return found

    def _gradient(self, model: Model, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Input gradient of the loss, and which images fool the model already."""

        def ask(images: Tensor) -> tuple[Tensor, Tensor]:
            logits = model(images)
            fooled = is_fooled(logits.detach(), labels, targeted=self.targeted)
            return rising(self.loss, logits, labels, targeted=self.targeted), fooled

        return input_gradient(ask, images)


@dataclass(frozen=True, kw_only=True)
class FGSM(_GradientSteps):
    """Fast gradient sign method: one step of length epsilon.

    Reference:
        Goodfellow, Shlens, Szegedy, "Explaining and Harnessing Adversarial Examples", 2015.
    """

    name = "FGSM"

    def __call__(
        self, model: Model, images: Tensor, labels: Tensor, threat: ThreatModel, *, generator: torch.Generator
    ) -> Tensor:
        """See Attack."""
        return self._climb(model, images, labels, threat, start=images, num_steps=1, step_size=threat.epsilon)


@dataclass(frozen=True, kw_only=True)
class RFGSM(_GradientSteps):
    """FGSM after a random step: a step of `random_ratio` x epsilon in a random direction, then one with the rest.

    Raises:
        InvalidInputError: `random_ratio` is not between 0 and 1.

    Reference:
        Tramèr, Kurakin, Papernot, Goodfellow, Boneh, McDaniel, "Ensemble Adversarial Training: Attacks and Defenses",
        2018, section 3.3 (R+FGSM).
    """

    name = "R-FGSM"
    random_ratio: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.random_ratio >= 1:
            raise InvalidInputError(f"random_ratio of RFGSM must leave a step to take, not {self.random_ratio!r}")

    def __call__(
        self, model: Model, images: Tensor, labels: Tensor, threat: ThreatModel, *, generator: torch.Generator
    ) -> Tensor:
        """See Attack."""
        random_step = self.random_ratio * threat.epsilon
        noise = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
        start = threat.project(images, images + random_step * threat.ascent_direction(noise))
        step_size = threat.epsilon - random_step
        return self._climb(model, images, labels, threat, start=start, num_steps=1, step_size=step_size)


@dataclass(frozen=True, kw_only=True)
class BIM(_GradientSteps):
    """Basic iterative method: `num_steps` steps of `step_ratio` x epsilon from the image.

    Reference:
        Kurakin, Goodfellow, Bengio, "Adversarial Examples in the Physical World", 2017.
    """

    name = "BIM"
    num_steps: int = 10
    step_ratio: float = 0.1

    def __call__(
        self, model: Model, images: Tensor, labels: Tensor, threat: ThreatModel, *, generator: torch.Generator
    ) -> Tensor:
        """See Attack."""
        step_size = self.step_ratio * threat.epsilon
        return self._climb(model, images, labels, threat, start=images, num_steps=self.num_steps, step_size=step_size)


@dataclass(frozen=True, kw_only=True)
class PGD(_GradientSteps):
    """Projected gradient descent: BIM from a random point of the ball, `num_restarts` times.

    Reference:
        Madry, Makelov, Schmidt, Tsipras, Vladu, "Towards Deep Learning Models Resistant to Adversarial Attacks", 2018.
    """

    name = "PGD"
    num_steps: int = 10
    step_ratio: float = 0.1
    num_restarts: int = 1

    def __call__(
        self, model: Model, images: Tensor, labels: Tensor, threat: ThreatModel, *, generator: torch.Generator
    ) -> Tensor:
        """See Attack."""
        found = images.clone()
        standing = torch.arange(len(images), device=images.device)
        for restart in range(self.num_restarts):
            start = threat.random_start(images, generator)[standing]
            found[standing] = self._climb(
                model,
                images[standing],
                labels[standing],
                threat,
                start=start,
                num_steps=self.num_steps,
                step_size=self.step_ratio * threat.epsilon,
            )
            if restart < self.num_restarts - 1:
                with torch.no_grad():
                    logits = model(found[standing])
                standing = standing[~is_fooled(logits, labels[standing], targeted=self.targeted)]
                if not len(standing):
                    break
        return found


@dataclass(frozen=True, kw_only=True)
class MIM(_GradientSteps):
    """Momentum iterative method: BIM along a decaying sum of the gradients, each divided by its L1 norm.

    Reference:
        Dong, Liao, Pang, Su, Zhu, Hu, Li, "Boosting Adversarial Attacks with Momentum", 2018.
    """

    name = "MIM"
    num_steps: int = 10
    step_ratio: float = 0.1
    decay: float = 1.0

    def __call__(
        self, model: Model, images: Tensor, labels: Tensor, threat: ThreatModel, *, generator: torch.Generator
    ) -> Tensor:
        """See Attack."""
        return self._climb(
            model,
            images,
            labels,
            threat,
            start=images,
            num_steps=self.num_steps,
            step_size=self.step_ratio * threat.epsilon,
            decay=self.decay,
        )
