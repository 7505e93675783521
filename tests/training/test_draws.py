"""Random numbers of an epoch: seeded on every device that members draw on, and gone on with from a checkpoint."""

import pytest
import torch
from torch import Tensor

from training import draws
from training.checkpoint import Progress
from training.data import TrainingData
from training.distributed import UNDIVIDED
from training.draws import EpochDraws, default_generators
from training.recipes import recipe_for


def test_members_on_a_gpu_may_draw_there_and_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    of_gpus = [torch.Generator(), torch.Generator()]
    monkeypatch.setattr("torch.cuda.default_generators", of_gpus, raising=False)
    assert default_generators(torch.device("cuda", 1)) == [of_gpus[1], torch.default_generator]
    assert default_generators(torch.device("cpu")) == [torch.default_generator]


def test_every_generator_begins_at_the_epochs_seed_or_where_it_was_left(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_members = [torch.Generator(), torch.Generator()]
    monkeypatch.setattr(draws, "default_generators", lambda _: of_members)

    def drawn(progress: Progress) -> tuple[Tensor, Progress]:
        epoch = EpochDraws(recipe_for("naive-lenet-mnist"), data.train, UNDIVIDED, progress)
        numbers = torch.stack([torch.rand(3, generator=generator) for generator in (epoch.generator, *of_members)])
        return numbers, Progress("data", num_steps=1, generators=epoch.states)

    first, left = drawn(Progress("data"))
    second, _ = drawn(left)
    again, _ = drawn(Progress("data"))
    assert torch.equal(again, first)
    assert (second != first).all()
    assert torch.equal(drawn(left)[0], second)
