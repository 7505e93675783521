"""Evaluation mode for a while within a training, to craft images or to measure."""

from collections.abc import Iterator
from contextlib import contextmanager

from smdguard.ensemble import Ensemble


@contextmanager
def evaluating(ensemble: Ensemble) -> Iterator[None]:
    """Run the members in evaluation mode, then put them back into the mode they were in.

    Batch normalisation then uses its running statistics and leaves them as they are, and what becomes of an image
    does not depend on the others of its batch.
    """
    was_training = ensemble.training
    ensemble.eval()
    try:
        yield
    finally:
        ensemble.train(was_training)
