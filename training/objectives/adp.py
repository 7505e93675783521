"""Adaptive diversity promoting: members are rewarded for disagreeing on the classes that are not the true one."""

from dataclasses import dataclass

import torch
from pydantic import FiniteFloat
from torch import Tensor
from torch.nn import functional

from smdguard.scores import average_log_probabilities, without_class
from training.batch import Batch

_DIAGONAL = 1e-6
_LOG_OFFSET = 1e-20


@dataclass(frozen=True)
class ADP:
    """Sum of the members' cross-entropies - alpha H(mean p) - beta log(det(N N^T + 1e-6 I) + 1e-20).

    The rows of N are the members' probabilities without the true class, divided by their Euclidean length.

    Args:
        alpha: Weight of the entropy of the members' mean probability.
        beta: Weight of the logarithm of the squared volume that the rows of N span.

    Reference:
        Pang, Xu, Du, Chen, Zhu, "Improving Adversarial Robustness via Promoting Ensemble Diversity", 2019, Eqs. 3-4.
    """

    alpha: FiniteFloat = 2.0
    beta: FiniteFloat = 0.5

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """See Objective."""
        members = batch.members
        mean = average_log_probabilities(members.logits.log_softmax(dim=-1).transpose(0, 1))
        entropy = -(mean.exp() * mean).sum(dim=-1)
        return {
            "cross_entropy": members.cross_entropy.mean(dim=1).sum(),
            "entropy": -self.alpha * entropy.mean(),
            "volume": -self.beta * log_volume(members.logits, batch.labels).mean(),
        }


def log_volume(logits: Tensor, labels: Tensor) -> Tensor:
    """log(det(N N^T + 1e-6 I) + 1e-20) of each image: logits (M, B, K), labels (B,) -> (B,).

    A softmax over the other classes alone has the same direction as their probabilities and does not vanish where a
    member is sure. The determinant of nearly equal rows is far below the precision of 32-bit floats, so it is taken
    in 64.
    """
    others = without_class(logits.double(), labels).softmax(dim=-1)
    directions = functional.normalize(others, dim=-1).transpose(0, 1)
    gram = directions @ directions.mT + _DIAGONAL * torch.eye(len(logits), dtype=others.dtype, device=logits.device)
    return (torch.linalg.det(gram) + _LOG_OFFSET).log().to(logits.dtype)
