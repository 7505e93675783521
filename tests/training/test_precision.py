"""Training in fewer bits goes the same way, and says so."""

from itertools import repeat
from typing import Any

import pytest
import torch
from torch import Tensor

from training.batch import Batch
from training.objectives import OBJECTIVES
from training.recipes import recipe_for
from training.start import initial_ensembles
from training.step import Stepper

NAMES = [*(f"{method}-lenet-mnist" for method in OBJECTIVES), "smd-resnet20-cifar10", "smd-lenet-wide-mnist-at"]
# They craft their images by signs of gradients, of which those near zero turn round.
CRAFTING = ("dverge-lenet-mnist", "smd-plus-lenet-mnist", "smd-lenet-wide-mnist-at")


def gradient_after_a_step(name: str, precision: str) -> Tensor:
    """Of all weights, flattened; the members are fresh."""
    settings: dict[str, Any] = {"init": "scratch", "precision": precision}
    recipe = recipe_for(name, **settings)
    ensemble, _ = initial_ensembles(recipe, {})
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(32, *recipe.dataset_description.image_shape, generator=generator)
    batch = Batch(
        ensemble=ensemble.train(),
        images=images,
        labels=torch.arange(32) % 10,
        progress=0.5,
        epoch_seed=1,
        generator=generator,
        second_pass=repeat((images.flip(0), torch.zeros(32))),
    )
    Stepper(recipe, ensemble, []).take(batch, learning_rate=0.0)
    return torch.cat([weight.grad.flatten() for weight in ensemble.parameters() if weight.grad is not None])


@pytest.mark.parametrize("name", NAMES)
def test_a_step_in_bfloat16_has_nearly_the_gradient_of_float32(name: str) -> None:
    exact, rounded = (gradient_after_a_step(name, precision) for precision in ("float32", "bfloat16"))
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    assert torch.cosine_similarity(rounded, exact, dim=0) > (0.75 if name in CRAFTING else 0.98)
