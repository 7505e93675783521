"""What one step of a training offers to its objective."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from smdguard.ensemble import Ensemble
from training.member_pass import MemberPass


@dataclass(frozen=True, eq=False)
class Batch:
    """Images to learn from, and all else that a loss may depend on.

    Args:
        ensemble: In training mode.
        images: (B, C, H, W) in [0, 1].
        labels: (B,).
        progress: Share of the training's steps that are done, in [0, 1).
        epoch_seed: A random number of the epoch, the same for all its batches.
        generator: Source of every draw that an objective makes, on the images' device.
        second_pass: Batches of another pass over the same data, in an order of its own.
        holdouts: Trained ensembles that stay as they are, for adversarial images to be made on.
    """

    ensemble: Ensemble
    images: Tensor
    labels: Tensor
    progress: float
    epoch_seed: int
    generator: torch.Generator
    second_pass: Iterator[tuple[Tensor, Tensor]]
    holdouts: Sequence[Ensemble] = ()

    @cached_property
    def members(self) -> MemberPass:
        """What the members make of the images; run when it is first asked for."""
        return MemberPass(self.ensemble, self.images, self.labels)

    def next_targets(self) -> Tensor:
        """As many images of the second pass as there are in this batch (B, C, H, W); for one call a step."""
        targets, _ = next(self.second_pass)
        # Ensemble adversarial training shows each image twice, clean and adversarial.
        return targets.repeat(len(self.images) // len(targets), 1, 1, 1)
