"""Evaluation mode for the while that images are crafted."""

from collections.abc import Iterator
from contextlib import contextmanager

from smdguard.ensemble import Ensemble


@contextmanager
def evaluating(ensemble: Ensemble) -> Iterator[None]:
    """Run the members in evaluation mode, then put them back into the mode they were in.

    Batch normalisation then uses its running statistics and leaves them as they are, and each image is crafted by
    itself, whatever else is in its batch.
    """
    was_training = ensemble.training
    ensemble.eval()
    try:
        yield
    finally:
        ensemble.train(was_training)
