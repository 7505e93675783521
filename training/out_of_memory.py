"""A training that needs more memory than there is: noticed, and told what would fit."""

import gc
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import TypeVar

import torch

from smdguard.auditing.batching import is_out_of_memory
from smdguard.datasets import LabelledImages
from smdguard.errors import SmdguardError
from training.batch import Batch
from training.checkpoint import what_is_kept
from training.data import batches
from training.recipes import Recipe
from training.step import Stepper

Result = TypeVar("Result")

_GO_ON = "free memory and go on with `run --resume` or the same `sweep`"


class TrainingOutOfMemoryError(SmdguardError):
    """A step of the training, or what is done before, between or after its epochs, does not fit into memory."""


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


def no_memory_for_a_step(
    recipe: Recipe, stepper: Stepper, data: LabelledImages, folder: Path
) -> TrainingOutOfMemoryError:
    """What to say when a step did not fit; the trial steps spoil the weights in memory, not the checkpoint."""

    def try_step(num_images: int) -> None:
        images, labels = next(batches(data, num_images, torch.Generator(), augmentation=False))
        batch = Batch(
            ensemble=stepper.ensemble,
            images=images,
            labels=labels,
            progress=0.0,
            epoch_seed=0,
            generator=torch.Generator(images.device),
            second_pass=repeat((images, labels)),
            holdouts=stepper.holdouts,
        )
        stepper.take(batch, learning_rate=0.0)

    if stepper.division.everyone.count > 1:  # The others take no part in trial steps.
        fits = "start anew with a smaller --batch-size or more processes"
    elif fitting := _largest_fitting(try_step, recipe.batch_size):
        fits = f"one of {fitting} fits: start anew with `run --batch-size {fitting}`"
    else:
        fits = "not even one image fits"
    return TrainingOutOfMemoryError(
        f"there is no memory for a step of {recipe.batch_size} images; {fits}, or {_GO_ON} ({what_is_kept(folder)})"
    )


def no_memory_to(do: str, folder: Path) -> TrainingOutOfMemoryError:
    """What to say when something else than a step did not fit."""
    return TrainingOutOfMemoryError(f"there is no memory to {do}; {_GO_ON} ({what_is_kept(folder)})")


def _largest_fitting(try_step: Callable[[int], object], batch_size: int) -> int:
    """The first of batch_size / 2, batch_size / 4, ... images that a trial step fits with; 0 if not even one does."""
    while batch_size := batch_size // 2:
        with suppress(TrainingOutOfMemoryError):
            within_memory(partial(try_step, batch_size), TrainingOutOfMemoryError)
            return batch_size
    return 0
