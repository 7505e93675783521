"""Along the boundary of the decision, from beyond it towards the image."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from smdguard.attacks.attack import Model, Requirement, is_fooled
from smdguard.attacks.gradient import input_gradient
from smdguard.attacks.hyperplane import step_onto_hyperplane
from smdguard.attacks.losses import margin
from smdguard.attacks.settings import Settings
from smdguard.threat import ThreatModel

# How far past where a step leads the other class is looked for, and by what a step that fails or succeeds becomes
# shorter or longer.
OVERSHOOT, SHORTER, LONGER, SHORTEST = 1.05, 0.5, 1.5, 0.01
# Halvings of the way from an image to where the decision is another; from the nearest image of another class that is a
# longer way.
NUM_FIRST_HALVINGS, NUM_HALVINGS = 18, 6


@dataclass(frozen=True, kw_only=True)
class BoundaryWalk(Settings):
    """Looks for the smallest change, whatever the radius, and never leaves the boundary of the decision.

    It begins between the image and the nearest of all the images, or of their negatives, that is given another class;
    without one the image is returned as it is. A step leads towards the point that is nearest to the image on the
    hyperplane that the gradient gives, and halving the way from there to the image back onto the boundary. There the
    gradient is that of the boundary alone; elsewhere it also says where the model's scores are small altogether, and a
    model can be made to have them small where nobody looks for its boundary.

    Args:
        num_steps: Steps along the boundary.

    Reference:
        Brendel, Rauber, Kümmerer, Ustyuzhaninov, Bethge, "Accurate, Reliable and Fast Robustness Evaluation", 2019, for
        the walk, with a nearest point of the hyperplane in place of a trust region's.
    """

    name = "boundary walk"
    num_steps: int = 50
    requires: ClassVar[Requirement] = "gradients"
    needs_members: ClassVar[bool] = False

    def __call__(
        self, model: Model, images: Tensor, labels: Tensor, threat: ThreatModel, *, generator: torch.Generator
    ) -> Tensor:
        """See Attack; nothing is drawn."""
        with torch.no_grad():
            beyond, has_start = _nearest_of_other_classes(model, images, labels, threat)
            found = _nearer(model, images, labels, beyond, NUM_FIRST_HALVINGS)
        length = images.new_ones(len(images))
        for _ in range(self.num_steps):
            rows = (has_start & (threat.distance(images, found) > threat.epsilon)).nonzero().flatten()
            if not len(rows):
                break
            found[rows], length[rows] = _step(model, images[rows], labels[rows], found[rows], length[rows], threat)
        fooled = has_start & (threat.distance(images, found) <= threat.epsilon)
        return torch.where(_broadcast(fooled), found, images)


def _nearest_of_other_classes(
    model: Model, images: Tensor, labels: Tensor, threat: ThreatModel
) -> tuple[Tensor, Tensor]:
    """For each image the nearest that is given another class than its own, and whether there is one: bool (B,)."""
    candidates = torch.cat([images, 1 - images])
    output = model(candidates)
    order = math.inf if threat.norm == "linf" else 2
    distances = torch.cdist(images.flatten(1).float(), candidates.flatten(1).float(), p=order)
    is_other = torch.stack([is_fooled(output, label.expand(len(output))) for label in labels])
    distances = distances.masked_fill(~is_other, math.inf)
    return candidates[distances.argmin(dim=1)], is_other.any(dim=1)


def _nearer(model: Model, images: Tensor, labels: Tensor, beyond: Tensor, num_halvings: int) -> Tensor:
    """The nearest points to the images, on the ways from points that are given another class, that still are."""
    for_sure, too_near = images.new_ones(len(images)), images.new_zeros(len(images))
    for _ in range(num_halvings):
        middle = (for_sure + too_near) / 2
        fooled = is_fooled(model(images.lerp(beyond, _broadcast(middle))), labels)
        for_sure, too_near = torch.where(fooled, middle, for_sure), torch.where(fooled, too_near, middle)
    return images.lerp(beyond, _broadcast(for_sure))


def _step(
    model: Model, images: Tensor, labels: Tensor, found: Tensor, length: Tensor, threat: ThreatModel
) -> tuple[Tensor, Tensor]:
    """Points of the boundary that are nearer to the images, or the same again, and how long the next steps are (B,)."""

    def ask(points: Tensor) -> tuple[Tensor, Tensor]:
        lead = -margin(model(points), labels)
        return -lead, lead.detach().to(points).nan_to_num()

    normal, lead = input_gradient(ask, found)
    lead_at_image = lead - (normal * (images - found)).sum(dim=(1, 2, 3))
    nearest = images + step_onto_hyperplane(images, normal, lead_at_image, threat.norm)
    aim = (images + OVERSHOOT * (found.lerp(nearest, _broadcast(length)) - images)).clamp(0, 1)
    with torch.no_grad():
        fooled = is_fooled(model(aim), labels)
        reached = _nearer(model, images, labels, torch.where(_broadcast(fooled), aim, found), NUM_HALVINGS)
    better = fooled & (threat.distance(images, reached) < threat.distance(images, found))
    length = torch.where(better, LONGER * length, SHORTER * length).clamp(SHORTEST, 1)
    return torch.where(_broadcast(better), reached, found), length


def _broadcast(per_image: Tensor) -> Tensor:
    return per_image.view(-1, 1, 1, 1)
