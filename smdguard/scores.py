"""Numbers read off the outputs of classifiers and ensembles. Runs on numpy arrays and torch tensors alike."""

import math
import sys
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import numpy
    from torch import Tensor

    Array = TypeVar("Array", numpy.ndarray, Tensor)


def member_log_probabilities(member_logits: "Tensor") -> "Tensor":
    """Logits of every member, as networks give them -> log-probabilities: (M, B, K) -> (B, M, K)."""
    return member_logits.log_softmax(dim=-1).transpose(0, 1)


def average_log_probabilities(member_log_probabilities: "Array") -> "Array":
    """Logarithm of the members' mean probability: (B, M, K) -> (B, K), without leaving the log scale.

    Taking the logarithm of a clamped mean probability instead would have a gradient of exactly zero on saturated
    logits, which masks gradients and overstates robustness.
    """
    return _log_sum_exp(member_log_probabilities, axis=1) - math.log(member_log_probabilities.shape[1])


def agreement(member_log_probabilities: "Array") -> "Array":
    """Share of the members whose class is the ensemble's: (B, M, K) -> (B,), each in [0, 1]."""
    votes: Any = member_log_probabilities.argmax(-1)
    decision = average_log_probabilities(member_log_probabilities).argmax(-1)
    same = votes == decision[:, None]
    return same.sum(1) / same.shape[1]


def disagreement(member_log_probabilities: "Array") -> "Array":
    """Entropy of the mean minus mean of the entropies, in nats: (B, M, K) -> (B,), between 0 and log M.

    The mutual information between the class and the member that is asked.

    Reference:
        Lakshminarayanan, Pritzel, Blundell, "Simple and Scalable Predictive Uncertainty Estimation using Deep
        Ensembles", 2017; Depeweg et al., "Decomposition of Uncertainty in Bayesian Deep Learning", 2018.
    """
    of_mean: Any = _entropy(average_log_probabilities(member_log_probabilities))
    return of_mean - _entropy(member_log_probabilities).mean(1)


def of_class(scores: "Tensor", classes: "Tensor") -> "Tensor":
    """Each image's score of its class: scores (..., B, K), classes (B,) -> (..., B)."""
    return scores.gather(-1, classes.expand(scores.shape[:-1]).unsqueeze(-1)).squeeze(-1)


def without_class(scores: "Tensor", classes: "Tensor") -> "Tensor":
    """The scores, with -inf for each image's class: scores (..., B, K), classes (B,) -> (..., B, K)."""
    return scores.scatter(-1, classes.expand(scores.shape[:-1]).unsqueeze(-1), -math.inf)


def log_odds(logits: "Tensor", labels: "Tensor") -> "Tensor":
    """Log-odds of the true class, z_y - logsumexp_{k != y} z_k: logits (..., B, K), labels (B,) -> (..., B).

    Logits and log-probabilities give the same value. Its gradient is a positive multiple of that of the
    cross-entropy (negated) and of the probability, but does not round to zero when the classifier is sure.
    """
    return of_class(logits, labels) - without_class(logits, labels).logsumexp(-1)


def _entropy(log_probabilities: "Array") -> "Array":
    probabilities = _namespace(log_probabilities).exp(log_probabilities)
    # A class of probability zero adds nothing; its logarithm may be -inf.
    finite = _namespace(log_probabilities).where(probabilities > 0, log_probabilities, 0.0)
    return -(probabilities * finite).sum(-1)


def _log_sum_exp(values: "Array", axis: int) -> "Array":
    xp = _namespace(values)
    largest = xp.amax(values, axis, keepdims=True)
    # Where all are -inf, so is the result; the difference to the largest would not be a number.
    total = xp.sum(xp.exp(values - xp.where(largest > -math.inf, largest, 0.0)), axis)
    # Not clipped, which would take the gradient from a sum of 1, that of saturated values.
    return xp.log(xp.where(total > 0, total, 1.0)) + xp.squeeze(largest, axis)


def _namespace(array: Any) -> Any:
    """numpy or torch, whichever the array is of, without importing either."""
    return sys.modules[type(array).__module__.partition(".")[0]]
