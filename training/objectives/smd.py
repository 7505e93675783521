"""Saliency diversity: members are rewarded for looking at different parts of the image."""

from dataclasses import dataclass

from pydantic import FiniteFloat
from torch import Tensor

from smdguard.saliency import SaliencySource
from training.batch import Batch


@dataclass(frozen=True)
class SMD:
    """Sum of the members' cross-entropies + weight x the mean saliency alignment of the images.

    Args:
        weight: lambda in the paper; 0.5 to 2 is good.
        saliency: What the saliencies are derivatives of; "probability" is the paper's.

    Reference:
        Bogun, Kostadinov, Borth, "Saliency Diversified Deep Ensemble for Robustness to Adversaries", 2022, Eq. 3.
    """

    weight: FiniteFloat = 1.0
    saliency: SaliencySource = "probability"

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """See Objective."""
        members = batch.members_with_saliencies
        return {
            "cross_entropy": members.cross_entropy.mean(dim=1).sum(),
            "saliency_alignment": self.weight * members.saliency_alignment(self.saliency),
        }
