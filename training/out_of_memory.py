"""A training that needs more memory than there is: noticed, and told what would fit."""

import gc
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

import torch

from smdguard.auditing.batching import is_out_of_memory
from smdguard.errors import SmdguardError

Result = TypeVar("Result")


class TrainingOutOfMemoryError(SmdguardError):
    """A step of the training does not fit into memory."""


def within_memory(work: Callable[[], Result], explain: Callable[[], Exception]) -> Result:
    """What the work returns; where memory runs out, what `explain` returns is raised.

    That is called when the work's tensors are gone, so it has the memory that the work had.
    """
    try:
        return work()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    gc.collect()
    torch.cuda.empty_cache()
    raise explain()


def largest_fitting(try_step: Callable[[int], object], batch_size: int) -> int:
    """The first of batch_size / 2, batch_size / 4, ... images that a trial step fits with; 0 if not even one does."""
    while batch_size := batch_size // 2:
        with suppress(TrainingOutOfMemoryError):
            within_memory(partial(try_step, batch_size), TrainingOutOfMemoryError)
            return batch_size
    return 0
