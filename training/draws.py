"""Everything that an epoch of a training draws at random, so that it can go on in its middle as if never cut off."""

from collections.abc import Iterator
from itertools import islice

import numpy
import torch
from torch import Tensor

from smdguard.datasets import LabelledImages
from training.checkpoint import Progress
from training.data import batches
from training.distributed import Division
from training.recipes import Recipe


class EpochDraws:
    """The order of the images and the random numbers of one epoch, from where a checkpoint left it.

    All come from generators seeded by (seed, epoch). Those that the objective and the members draw from go on in the
    states that the checkpoint has kept; the order is drawn again up to there.

    Args:
        recipe: Its seed decides all.
        data: What is trained on.
        division: Gives this process its share of each batch.
        progress: How far the training is.
    """

    def __init__(self, recipe: Recipe, data: LabelledImages, division: Division, progress: Progress) -> None:
        order, second_order, draws, self.seed, draws_of_members = _seeds(recipe.seed, len(progress.epochs))
        device = data.images.device
        self.generator = torch.Generator(device).manual_seed(draws)
        of_members = [generator.manual_seed(draws_of_members) for generator in default_generators(device)]
        self._generators = [self.generator, *of_members]
        for generator, state in zip(self._generators, progress.generators, strict=False):
            generator.set_state(state)
        self.first_pass, self.second_pass = (
            islice(_one_pass(recipe, data, division, seed), progress.num_steps, None) for seed in (order, second_order)
        )

    @property
    def states(self) -> tuple[Tensor, ...]:
        """Of the generators that the objective and the members draw from, for a checkpoint."""
        return tuple(generator.get_state() for generator in self._generators)


def _seeds(seed: int, epoch: int) -> list[int]:
    """Five independent random numbers of an epoch, each below 2^63."""
    return [int(word >> 1) for word in numpy.random.SeedSequence([seed, epoch]).generate_state(5, numpy.uint64)]


def default_generators(device: torch.device) -> list[torch.Generator]:
    """What members on a device draw from: the device's generator, and the CPU's, as where they leave layers out."""
    of_gpu = [torch.cuda.default_generators[device.index]] if device.type == "cuda" else []
    return [*of_gpu, torch.default_generator]


def _one_pass(recipe: Recipe, data: LabelledImages, division: Division, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """This process's share of each batch."""
    generator = torch.Generator().manual_seed(seed)
    for images, labels in batches(data, recipe.batch_size, generator, augmentation=recipe.augmentation):
        yield division.share(images), division.share(labels)
