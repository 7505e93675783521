"""One forward pass of all members on a batch, shared by every term of an objective."""

from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from smdguard.ensemble import Ensemble
from smdguard.saliency import SaliencySource, saliency_alignment, saliency_score
from training.processes import ALONE, Processes


class MemberPass:
    """What the members make of a batch; each quantity is computed when it is first asked for, and once.

    Where other processes have members as well, all that is said of the members is said of theirs too, as a constant.

    Args:
        ensemble: This process's members, in the mode they are trained in. In training mode batch normalisation makes
            one image's output depend on its batch; saliencies are then of that very forward pass, so that the running
            statistics are updated once a step.
        images: In [0, 1]; (B, C, H, W) shown to all members, or (M, B, C, H, W) with a batch for each.
        labels: (B,), the same for all members.
        processes: Those who divide the members.
        with_saliencies: Whether those can be asked for; following the images costs time even where they are not.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        images: Tensor,
        labels: Tensor,
        processes: Processes = ALONE,
        *,
        with_saliencies: bool = False,
    ) -> None:
        self.ensemble = ensemble
        self.labels = labels
        self._processes = processes
        self.images = images
        if with_saliencies:
            # A leaf with a copy of the images for each member, so that one backward pass gives every member's gradient.
            self.images = images.expand(len(ensemble.members), *images.shape[-4:]).detach().requires_grad_()

    @cached_property
    def logits(self) -> Tensor:
        """Logits of every member (M, B, K)."""
        return self._processes.all_gather(self._own_logits)

    @cached_property
    def _own_logits(self) -> Tensor:
        return self.ensemble.member_logits(self.images)

    @cached_property
    def cross_entropy(self) -> Tensor:
        """Cross-entropy of every member on every image (M, B)."""
        labels = self.labels.expand(self.logits.shape[:2])
        return functional.cross_entropy(self.logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)

    def saliencies(self, source: SaliencySource) -> Tensor:
        """Each member's saliency (M, B, C, H, W), itself differentiable with respect to the weights."""
        score = saliency_score(self._own_logits, self.labels, source)
        return self._processes.all_gather(torch.autograd.grad(score.sum(), self.images, create_graph=True)[0])

    def saliency_alignment(self, source: SaliencySource) -> Tensor:
        """Mean over the images of log sum_{m < l} exp cos(s_m, s_l), a scalar."""
        return saliency_alignment(self.saliencies(source)).mean()
