"""What one step of a training offers to its objective."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from smdguard.ensemble import Ensemble
from training.distributed import UNDIVIDED, Change, Division
from training.member_pass import MemberPass


@dataclass(frozen=True, eq=False)
class Batch:
    """Images to learn from, and all else that a loss may depend on.

    Args:
        ensemble: The members that this process trains, in training mode.
        images: (B, C, H, W) in [0, 1].
        labels: (B,).
        progress: Share of the training's steps that are done, in [0, 1).
        epoch_seed: A random number of the epoch, the same for all its batches.
        generator: Source of every draw that an objective makes, on the images' device.
        second_pass: Batches of another pass over the same data, in an order of its own.
        holdouts: Trained ensembles that stay as they are, for adversarial images to be made on.
        division: Who has the other images, or the other members, of the whole batch.
    """

    ensemble: Ensemble
    images: Tensor
    labels: Tensor
    progress: float
    epoch_seed: int
    generator: torch.Generator
    second_pass: Iterator[tuple[Tensor, Tensor]]
    holdouts: Sequence[Ensemble] = ()
    division: Division = UNDIVIDED

    @cached_property
    def members(self) -> MemberPass:
        """What the members make of the images, without saliencies; run when it is first asked for."""
        return self.members_on(self.images, self.labels)

    @cached_property
    def members_with_saliencies(self) -> MemberPass:
        """What the members make of the images, and where they look; run when it is first asked for."""
        return MemberPass(self.ensemble, self.images, self.labels, self.division.sharing_members, with_saliencies=True)

    def members_on(self, images: Tensor, labels: Tensor) -> MemberPass:
        """What the members make of those images, or each of its own, without saliencies; see MemberPass."""
        return MemberPass(self.ensemble, images, labels, self.division.sharing_members)

    def at_random(self, change: Change) -> Tensor:
        """The images after a random change (B, C, H, W), the same whoever has the others of the whole batch."""
        return self.division.at_random(change, self.images, self.generator)

    def next_targets(self) -> Tensor:
        """As many images of the second pass as there are in this batch (B, C, H, W); for one call a step."""
        targets, _ = next(self.second_pass)
        # Ensemble adversarial training shows each image twice, clean and adversarial.
        return targets.repeat(len(self.images) // len(targets), 1, 1, 1)
