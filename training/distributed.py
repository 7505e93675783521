"""Training on several devices: the processes divide each batch's images, or the ensemble's members.

DISTRIBUTED.md says what they send to each other in a step, and which division pays when.

Reference:
    Bogun, Kostadinov, Borth, "Saliency Diversified Deep Ensemble for Robustness to Adversaries", 2022, Eq. 4, after
    which members that learn in parallel and share their saliencies are left for future work.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from smdguard.ensemble import Ensemble
from training.processes import ALONE, Processes

Parallel = Literal["data", "members"]
Change = Callable[[Tensor, torch.Generator | None], Tensor]
"""Changes images (B, C, H, W) at random, each by itself."""


@dataclass(frozen=True)
class Division:
    """Who does what; the weights that a training ends with are, but for rounding, those of one process.

    There are two exceptions. Batch normalisation, where images are divided, normalises by the statistics of each
    process's share, and only its running statistics are averaged: torch's SyncBatchNorm knows no CPU and no members
    that run side by side. Members that draw at random, as dropout does, draw the same in every process.

    Args:
        everyone: The processes.
        parallel: What they divide. Over "data", each takes every N-th image of a batch, trains all members on those,
            and gradients are averaged. Over "members", each trains some of the members on all images; the others'
            logits, saliencies and distilled images are constants to it, so the gradient of the joint loss with respect
            to its own members is exact.
    """

    everyone: Processes = ALONE
    parallel: Parallel = "data"

    @property
    def sharing_images(self) -> Processes:
        """Those who divide the images of a batch."""
        return self.everyone if self.parallel == "data" else ALONE

    @property
    def sharing_members(self) -> Processes:
        """Those who divide the members."""
        return self.everyone if self.parallel == "members" else ALONE

    def share(self, whole: Tensor) -> Tensor:
        """This process's part of what there is for each image of a batch (B, ...).

        Every N-th one: a batch that holds its images several times over, as ensemble adversarial training's does, is
        then divided as the images are.
        """
        return whole[self.sharing_images.rank :: self.sharing_images.count]

    def at_random(self, change: Change, images: Tensor, generator: torch.Generator | None) -> Tensor:
        """This process's images after a change that is drawn as one process would for the whole batch."""
        return self.share(change(images.repeat_interleave(self.sharing_images.count, dim=0), generator))

    def own(self, of_all: Tensor) -> Tensor:
        """This process's part of what there is for each member (M, ...)."""
        return of_all.tensor_split(self.sharing_members.count)[self.sharing_members.rank]

    def part(self, ensemble: Ensemble) -> Ensemble:
        """The members that this process trains, the very same ones, as an ensemble."""
        own = self.own(torch.arange(len(ensemble.members))).tolist()
        mean, std = ensemble.mean.flatten().tolist(), ensemble.std.flatten().tolist()
        return Ensemble([ensemble.members[index] for index in own], mean=mean, std=std).to(ensemble.mean.device)

    def owners(self, num_members: int) -> list[int]:
        """The rank of the process that trains each member."""
        parts = torch.arange(num_members).tensor_split(self.sharing_members.count)
        return [rank for rank, part in enumerate(parts) for _ in part]


UNDIVIDED = Division()
