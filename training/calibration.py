"""The suspicion score's threshold, calibrated conformally on images that were held out from the training."""

import math
from fractions import Fraction

from torch import Tensor

from smdguard.datasets import LabelledImages
from smdguard.ensemble import Ensemble
from smdguard.manifest import Suspicion
from smdguard.scores import disagreement
from training.evaluation import member_log_probabilities

# Exact, so that no rank is rounded up for its last bit.
SUSPICION_QUANTILE = Fraction(99, 100)
# With n fewer, even the largest of their scores is exceeded with a probability of 1 / (n + 1), which is above 1 %.
MIN_CALIBRATION_IMAGES = 99


def calibrate(ensemble: Ensemble, calibration: LabelledImages, of_test: Tensor) -> Suspicion | None:
    """The threshold, and the share of test images above it; None where too few images were held out for one.

    Args:
        ensemble: What was trained.
        calibration: The held-out images.
        of_test: Log-probabilities of every member on every test image (N, M, K).
    """
    if len(calibration.images) < MIN_CALIBRATION_IMAGES:
        return None
    scores = disagreement(member_log_probabilities(ensemble, calibration)).double()
    # Rounding takes the disagreement of equal members a little below zero.
    threshold = max(0.0, conformal_threshold(scores))
    return Suspicion(
        threshold=threshold,
        quantile=float(SUSPICION_QUANTILE),
        num_images=len(scores),
        test_rate=(disagreement(of_test).double() > threshold).double().mean().item(),
    )


def conformal_threshold(scores: Tensor) -> float:
    """What the score of one more image exceeds with a probability of at most 1 %.

    The ceil(0.99 (n + 1))-th smallest of the n scores, given that all n + 1 images are of one kind (exchangeable).

    Args:
        scores: Of held-out clean images (N,), at least MIN_CALIBRATION_IMAGES.

    Reference:
        Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005; Angelopoulos and Bates, "A Gentle
        Introduction to Conformal Prediction and Distribution-Free Uncertainty Quantification", 2021, section 1.
    """
    return scores.kthvalue(math.ceil(SUSPICION_QUANTILE * (len(scores) + 1))).values.item()
