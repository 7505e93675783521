"""FAB: along the boundary of the decision towards the point of it that lies nearest to the image."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from smdguard.attacks.attack import Model, Requirement, is_fooled
from smdguard.attacks.gradient import input_gradient
from smdguard.attacks.hyperplane import step_onto_hyperplane
from smdguard.attacks.settings import Settings
from smdguard.attacks.targets import likeliest_wrong_classes
from smdguard.scores import of_class
from smdguard.threat import ThreatModel

# AutoAttack's: how much of a step starts at the image, how far it overshoots, how much of a success is kept.
MAX_BIAS, OVERSHOOT, BACKWARD = 0.1, 1.05, 0.9


@dataclass(frozen=True, kw_only=True)
class FAB(Settings):
    """Fast adaptive boundary attack, targeted: looks for the smallest change, whatever the radius.

    The boundary to a class is taken for the hyperplane that the gradient gives. A step leads onto it, mostly from the
    current point and in part from the image; where the decision is wrong then, the next begins nearer to the image.
    An image's first success in the threat model's ball is kept; without one the image is returned as it is.

    Args:
        num_steps: Steps towards each class.
        num_target_classes: How many classes are tried, each on what still stands; all wrong ones where there are fewer.

    Reference:
        Croce, Hein, "Minimally Distorted Adversarial Examples with a Fast Adaptive Boundary Attack", 2020,
        Algorithm 1; one class at a time, as in AutoAttack (FAB-T).
    """

    name = "FAB-T"
    num_steps: int = 100
    num_target_classes: int = 9
    requires: ClassVar[Requirement] = "gradients"
    needs_members: ClassVar[bool] = False

    def __call__(
        self, model: Model, images: Tensor, labels: Tensor, threat: ThreatModel, *, generator: torch.Generator
    ) -> Tensor:
        """See Attack; nothing is drawn."""
        with torch.no_grad():
            output = model(images)
        found, standing = images.clone(), (~is_fooled(output, labels)).nonzero().flatten()
        for targets in likeliest_wrong_classes(output, labels, self.num_target_classes):
            current = images[standing]
            for _ in range(self.num_steps):
                if not len(standing):
                    return found
                start, truth = images[standing], labels[standing]
                gap, normal = _boundary(model, current, truth, targets[standing])
                current = _approach(start, current, gap, normal, threat)
                with torch.no_grad():
                    fooled = is_fooled(model(current), truth)
                done = fooled & (threat.distance(start, current) <= threat.epsilon)
                found[standing[done]] = current[done]
                nearer = start + BACKWARD * (current - start)
                current = torch.where(fooled.view(-1, 1, 1, 1), nearer, current)[~done]
                standing = standing[~done]
        return found


def _boundary(model: Model, images: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """By how much the true class leads each target (B,), and along which gradient the target catches up."""

    def ask(images: Tensor) -> tuple[Tensor, Tensor]:
        output = model(images)
        of_label, of_target = of_class(output, labels), of_class(output, targets)
        return of_target - of_label, (of_label - of_target).detach().to(images)

    normal, gap = input_gradient(ask, images)
    return gap, normal


def _approach(images: Tensor, current: Tensor, gap: Tensor, normal: Tensor, threat: ThreatModel) -> Tensor:
    """A step past the hyperplane, drawn towards the image the more, the farther that has to go.

    Reference:
        Croce, Hein, 2020, section 2.
    """
    gap_of_image = gap - (normal * (images - current)).sum(dim=(1, 2, 3))
    from_current = step_onto_hyperplane(current, normal, gap, threat.norm)
    from_image = step_onto_hyperplane(images, normal, gap_of_image, threat.norm)
    zero = torch.zeros_like(images)
    ways = [threat.distance(zero, step).clamp_min(1e-8) for step in (from_current, from_image)]
    bias = (ways[0] / (ways[0] + ways[1])).clamp_max(MAX_BIAS).view(-1, 1, 1, 1)
    return torch.lerp(current + OVERSHOOT * from_current, images + OVERSHOOT * from_image, bias).clamp(0, 1)
