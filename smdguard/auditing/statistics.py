"""How far a share of a sample stands for all images of its kind, and whether two shares differ."""

import math
from statistics import NormalDist

from torch import Tensor

from smdguard.report import Interval

CONFIDENCE = 0.95


def wilson_interval(num_successes: int, num_trials: int) -> Interval:
    """The observed share with its 95 % Wilson score bounds.

    Reference:
        Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.
    """
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    share = num_successes / num_trials
    centre = (share + z * z / (2 * num_trials)) / (1 + z * z / num_trials)
    half = z / (1 + z * z / num_trials) * math.sqrt(share * (1 - share) / num_trials + (z / (2 * num_trials)) ** 2)
    # The exact bounds at no and at all successes are 0 and 1; rounding must not move them past the share.
    return Interval(share, min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half)))


def interval(successes: Tensor) -> Interval:
    """The share of the true entries with its bounds: bool (B,)."""
    return wilson_interval(int(successes.sum()), len(successes))


def share_of(mask: Tensor) -> float:
    """The share of the true entries: bool (B,)."""
    return mask.double().mean().item()


def paired_p_value(num_only_first: int, num_only_second: int) -> float:
    """One-sided exact McNemar test: the probability of at least `num_only_first` if both were equally likely.

    Args:
        num_only_first: Images on which only the first of two attacks succeeds.
        num_only_second: Images on which only the second does.

    Reference:
        McNemar, "Note on the Sampling Error of the Difference between Correlated Proportions", 1947.
    """
    num_different = num_only_first + num_only_second
    ways, total = math.comb(num_different, num_only_first), 0
    for k in range(num_only_first, num_different + 1):
        total += ways
        ways = ways * (num_different - k) // (k + 1)
    return total / 2**num_different


def area_under_roc(positives: Tensor, negatives: Tensor) -> float:
    """The probability that a positive's score is above a negative's, ties counting half: (P,), (N,) -> [0, 1].

    Reference:
        Hanley, McNeil, "The Meaning and Use of the Area under a Receiver Operating Characteristic (ROC) Curve", 1982.
    """
    above = (positives[:, None] > negatives).double().mean().item()
    below = (positives[:, None] < negatives).double().mean().item()
    return (1 + above - below) / 2
