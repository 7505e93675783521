"""Vulnerability and saliency diversity together."""

from dataclasses import dataclass

from pydantic import FiniteFloat
from torch import Tensor

from smdguard.saliency import SaliencySource
from training.batch import Batch
from training.objectives.dverge import DVERGE


@dataclass(frozen=True)
class SMDPlus(DVERGE):
    """The loss of DVERGE + weight x the mean saliency alignment of the clean images.

    Both passes run in training mode, so batch normalisation sees distilled and clean images, once a step each.

    Args:
        weight: lambda in the paper.
        saliency: What the saliencies are derivatives of; "probability" is the paper's.

    Reference:
        Bogun, Kostadinov, Borth, "Saliency Diversified Deep Ensemble for Robustness to Adversaries", 2022, section 4.2
        (SMD+).
    """

    weight: FiniteFloat = 1.0
    saliency: SaliencySource = "probability"

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """See Objective."""
        return {
            **super().__call__(batch),
            "saliency_alignment": self.weight * batch.members_with_saliencies.saliency_alignment(self.saliency),
        }
