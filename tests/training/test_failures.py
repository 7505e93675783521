"""Trainings that diverge or run out of memory: told in one line, at no checkpoint's cost."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.training.trainings import CPU, SHORT, Interruption, assert_equal_bits, interrupt
from training import loop
from training.batch import Batch
from training.checkpoint import FILE_NAME
from training.data import TrainingData
from training.loop import train
from training.objectives.naive import Naive
from training.out_of_memory import TrainingOutOfMemoryError
from training.recipes import Recipe, recipe_for
from training.terms import TrainingDivergedError


def test_a_loss_that_is_not_finite_stops_with_the_term(data: TrainingData, tmp_path: Path) -> None:
    recipe = recipe_for("smd-lenet-mnist", **SHORT, learning_rate=1e30)
    with pytest.raises(
        TrainingDivergedError,
        match=r"the term cross_entropy became \w+ at step 2 of epoch 1; there is no checkpoint yet\. Try `run` with",
    ):
        train(recipe, data, tmp_path, device=CPU)


@dataclass(frozen=True)
class Failing(Naive):
    """The naive loss, and in the sixth step, which is the second of the second epoch, something else."""

    fail: Callable[[Tensor], Tensor]
    num_steps: Iterator[int] = field(default_factory=lambda: count(1))

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        terms = super().__call__(batch)
        return {name: self.fail(term) for name, term in terms.items()} if next(self.num_steps) == 6 else terms


def fail(monkeypatch: pytest.MonkeyPatch, objective: Callable[[Batch], dict[str, Tensor]]) -> Recipe:
    monkeypatch.setattr(Recipe, "build_objective", lambda _: objective)
    return recipe_for("naive-lenet-mnist", **SHORT)


@pytest.mark.parametrize("every_step", [False, True])
def test_the_first_term_that_is_not_finite_stops_at_once_and_spoils_no_checkpoint(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every_step: bool
) -> None:
    if every_step:
        monkeypatch.setattr(loop, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    recipe = fail(monkeypatch, Failing(lambda term: term * float("nan")))
    kept = "step 1 of epoch 2" if every_step else "epoch 1"
    with pytest.raises(
        TrainingDivergedError,
        match=f"cross_entropy became nan at step 2 of epoch 2; the checkpoint after {kept} is kept",
    ):
        train(recipe, data, tmp_path / "failed", device=CPU)
    monkeypatch.undo()
    train(recipe, data, tmp_path / "failed", device=CPU)
    train(recipe, data, tmp_path / "whole", device=CPU)
    assert_equal_bits(tmp_path / "failed", tmp_path / "whole")


def test_weights_that_are_not_finite_are_never_saved(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sqrt(0) has a finite value and no finite gradient; the loss shows nothing until the next step."""
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    recipe = fail(monkeypatch, Failing(lambda term: (term - term).sqrt()))
    with pytest.raises(
        TrainingDivergedError, match="a weight became infinite or not a number; the checkpoint after step 1 of epoch 2"
    ):
        train(recipe, data, tmp_path, device=CPU)


class Hungry(Naive):
    """Has memory for some images only."""

    def __init__(self, enough: int, error: Exception) -> None:
        self.enough, self.error = enough, error

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        if len(batch.images) > self.enough:
            raise self.error
        return super().__call__(batch)


NO_MEMORY = {
    "GPU": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "CPU": RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
    "Python": MemoryError(),
}


@pytest.mark.parametrize(
    ("error", "enough", "advice"),
    [
        *((error, 20, "one of 16 fits: start anew with `run --batch-size 16`") for error in NO_MEMORY.values()),
        (NO_MEMORY["CPU"], 1, "one of 1 fits"),
        (NO_MEMORY["CPU"], 0, "not even one image fits"),
    ],
)
def test_too_little_memory_is_one_line_that_says_what_fits(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, enough: int, advice: str
) -> None:
    recipe = fail(monkeypatch, Hungry(enough, error))
    with pytest.raises(TrainingOutOfMemoryError) as caught:
        train(recipe, data, tmp_path, device=CPU)
    message = str(caught.value)
    assert message.startswith(f"there is no memory for a step of 64 images; {advice}")
    assert message.endswith(
        "or free memory and go on with `run --resume` or the same `sweep` (there is no checkpoint yet)"
    )
    assert "\n" not in message


def test_memory_that_runs_out_later_costs_no_checkpoint(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(term: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    recipe = fail(monkeypatch, Failing(out_of_memory))
    with pytest.raises(TrainingOutOfMemoryError, match=r"one of 32 fits.*\(the checkpoint after epoch 1 is kept\)"):
        train(recipe, data, tmp_path / "failed", device=CPU)
    monkeypatch.undo()
    train(recipe, data, tmp_path / "failed", device=CPU)
    train(recipe, data, tmp_path / "whole", device=CPU)
    assert_equal_bits(tmp_path / "failed", tmp_path / "whole")


def test_memory_that_runs_out_between_epochs_is_told(data: TrainingData, tmp_path: Path) -> None:
    def measure(*_: object) -> dict[str, float]:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(
        TrainingOutOfMemoryError, match=r"^there is no memory to evaluate the ensemble after an epoch; "
    ):
        train(recipe_for("naive-lenet-mnist", **SHORT), data, tmp_path, device=CPU, measure=measure)


@pytest.mark.parametrize(
    ("place", "what"),
    [
        ("smdguard.ensemble.Ensemble.to", "hold the ensembles"),
        ("training.loop.LabelledImages", "hold the images"),
        ("training.checkpoint._restore_optimizer", "restore the checkpoint"),
        ("training.finish.member_log_probabilities", "evaluate the trained ensemble"),
    ],
)
def test_memory_that_runs_out_outside_epochs_is_told_and_costs_no_checkpoint(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, what: str
) -> None:
    def run_out(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    recipe = recipe_for("naive-lenet-mnist", **SHORT)
    with pytest.raises(Interruption):
        train(recipe, data, tmp_path, device=CPU, report=interrupt)
    monkeypatch.setattr(place, run_out)
    with pytest.raises(
        TrainingOutOfMemoryError, match=rf"^there is no memory to {what}; .* \(the checkpoint after epoch \d is kept\)"
    ):
        train(recipe, data, tmp_path, device=CPU)
    assert (tmp_path / FILE_NAME).exists()


def test_other_errors_are_not_taken_for_a_lack_of_memory(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = fail(monkeypatch, Hungry(0, RuntimeError("shapes cannot be multiplied")))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        train(recipe, data, tmp_path, device=CPU)
