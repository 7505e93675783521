"""Vulnerability diversity: each member learns to see through the images that were crafted for the others."""

from dataclasses import dataclass

import torch
from pydantic import PositiveInt
from torch import Tensor

from smdguard.threat import ThreatModel
from training.batch import Batch
from training.distillation import distil
from training.objectives.objective import Radius, StepRatio


@dataclass(frozen=True)
class DVERGE:
    """Sum over the pairs i != j of members of the cross-entropy of member i on the images distilled from member j.

    The layer whose features are distilled is drawn once an epoch. It takes the place of the members' loss on clean
    images, so it is meant to start from a trained ensemble. Distillation runs in evaluation mode; the one pass over
    the distilled images in training mode, so batch normalisation takes its statistics from them.

    Args:
        epsilon: Radius of the ball, in the L-infinity norm, that distilled images stay in.
        num_steps: Steps of the distillation.
        step_ratio: Length of a step relative to epsilon.

    Reference:
        Yang et al., "DVERGE: Diversifying Vulnerabilities for Enhanced Robust Generation of Ensembles", 2020, Eq. 5.
    """

    epsilon: Radius = 0.35
    num_steps: PositiveInt = 10
    step_ratio: StepRatio = 0.1

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """See Objective."""
        own = distil(
            batch.ensemble,
            batch.images,
            batch.next_targets(),
            batch.epoch_seed % batch.ensemble.num_layers,
            ThreatModel("linf", self.epsilon),
            num_steps=self.num_steps,
            step_ratio=self.step_ratio,
        )
        distilled = batch.division.sharing_members.all_gather(own)
        num_others = len(distilled) - 1
        shown = batch.division.own(of_the_others(distilled))
        members = batch.members_on(shown, batch.labels.repeat(num_others))
        return {"distilled_cross_entropy": num_others * members.cross_entropy.mean(dim=1).sum()}


def of_the_others(images: Tensor) -> Tensor:
    """To each member the images of all the others, one after another: (M, B, ...) -> (M, (M - 1) B, ...)."""
    # Made on the device without a look at any value, for which a GPU would have to stop.
    members = torch.arange(len(images), device=images.device)
    others = members[:-1] + (members[:-1] >= members.unsqueeze(1))
    return images[others].flatten(1, 2)
