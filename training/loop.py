"""The one training loop: any objective, resumable after any interruption, ending in a model folder."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from smdguard.datasets import LabelledImages
from smdguard.ensemble import Ensemble
from smdguard.factories import is_factory, users_code
from smdguard.files import write_atomically
from smdguard.manifest import ModelConfig, read_record
from smdguard.model_folder import CONFIG
from training.batch import Batch
from training.checkpoint import FILE_NAME, Progress, restore_checkpoint, save_checkpoint, what_is_kept
from training.commit import checkout_commit
from training.data import TrainingData, content_sha256, num_batches
from training.distributed import UNDIVIDED, Division
from training.draws import EpochDraws
from training.evaluation import clean_accuracy
from training.finish import write_model
from training.out_of_memory import no_memory_for_a_step, no_memory_to, within_memory
from training.recipes import Recipe
from training.start import claim, initial_ensembles, require_divisible
from training.step import Stepper
from training.terms import TermLog, TrainingDivergedError

_STEPS_BETWEEN_REPORTS = 20
_SECONDS_BETWEEN_CHECKPOINTS = 60.0

Report = Callable[[int, int, int, dict[str, float]], None]
"""Called now and then with the epoch, the step in it, the steps of an epoch, and the terms' means so far."""

Measure = Callable[[Ensemble, int, float], Mapping[str, float]]
"""Called after an epoch with the ensemble, the number of finished epochs, and the seconds that the last one's steps
took; what it returns stands in metrics.jsonl. It leaves the ensemble as it is."""


def train(
    recipe: Recipe,
    data: TrainingData,
    folder: Path,
    *,
    device: torch.device,
    report: Report = lambda *_: None,
    measure: Measure = lambda *_: {},
    origins: Mapping[str, Path] = MappingProxyType({}),
    division: Division = UNDIVIDED,
) -> ModelConfig:
    """Train an ensemble, from the folder's checkpoint where there is one, and leave it there as a model.

    A resumed training ends, on one CPU, with the same weights bit for bit; see EpochDraws.

    Args:
        recipe: What to train and how.
        data: What to train on.
        folder: Gets recipe.json, checkpoint.safetensors after each epoch and each minute within one, metrics.jsonl,
            and at the end model.safetensors and config.json.
        device: Where to train.
        report: Hears of the progress.
        measure: Says what else to write down after each epoch.
        origins: Folders of the trained ensembles that the recipe's `init` and `holdouts` name.
        division: Among which processes, each of which has to call this; the first one writes the files. Others may go
            on with a training than those that began it.

    Returns:
        What config.json says. A finished training is left as it is.

    Raises:
        InvalidInputError: The folder belongs to another recipe, an origin does not fit, or the processes do not.
        TrainingDivergedError: The loss or a weight is not finite; the last checkpoint is kept.
        TrainingOutOfMemoryError: Something does not fit into memory; the last checkpoint is kept.
        LostProcessError: Another process has stopped; the last checkpoint is kept.
        SmdguardError: A network of the user's own raised something.
    """
    require_divisible(recipe, data, division)
    # Now, as the checkout may move on in the hours that a training takes.
    commit, config_file = checkout_commit(), folder / CONFIG
    stepper = within_memory(
        partial(_begun, recipe, origins, device, division), partial(no_memory_to, "hold the ensembles", folder)
    )
    # Last, so that what was refused before leaves no folder behind.
    division.everyone.in_turn(partial(claim, folder, recipe))
    if not config_file.exists():
        data = within_memory(partial(_moved, data, device), partial(no_memory_to, "hold the images", folder))
        try:
            # The members may be the user's code.
            with users_code(
                f"{recipe.architecture} failed in the training",
                involved=is_factory(recipe.architecture),
                command="python -m training",
            ):
                progress = _train_epochs(recipe, stepper, data, folder, commit, report, measure)
        except TrainingDivergedError as error:
            raise TrainingDivergedError(
                f"{error}; {what_is_kept(folder)}. Try `run` with a smaller --learning-rate"
            ) from None
        # Again, for a training that was cut between its last checkpoint and the metrics of that epoch.
        division.everyone.once(partial(_write_metrics, folder, progress))
        write = partial(write_model, folder, recipe, stepper.ensemble, data, progress.commit)
        within_memory(
            partial(division.everyone.once, write),
            partial(no_memory_to, "evaluate the trained ensemble", folder),
        )
    division.everyone.once(partial((folder / FILE_NAME).unlink, missing_ok=True))
    return read_record(ModelConfig, config_file)


def _begun(recipe: Recipe, origins: Mapping[str, Path], device: torch.device, division: Division) -> Stepper:
    ensemble, holdouts = initial_ensembles(recipe, origins)
    return Stepper(recipe, ensemble.to(device), [holdout.to(device) for holdout in holdouts], division)


def _moved(data: TrainingData, device: torch.device) -> TrainingData:
    return TrainingData(*(LabelledImages(part.images.to(device), part.labels.to(device)) for part in data))


def _train_epochs(
    recipe: Recipe,
    stepper: Stepper,
    data: TrainingData,
    folder: Path,
    commit: str | None,
    report: Report,
    measure: Measure,
) -> Progress:
    """All epochs that are left, with a checkpoint and a line of metrics after each."""
    device = data.train.images.device
    digest = content_sha256(data.train)
    progress = within_memory(
        partial(restore_checkpoint, folder, stepper.ensemble, stepper.optimizer, digest, commit),
        partial(no_memory_to, "restore the checkpoint", folder),
    )
    # The members' own draws, such as dropout's, come from PyTorch's default generator.
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        while len(progress.epochs) < recipe.num_epochs:
            terms, seconds = within_memory(
                partial(_train_one_epoch, recipe, stepper, data.train, folder, progress, report),
                partial(no_memory_for_a_step, recipe, stepper, data.train, folder),
            )
            line: dict[str, Any] = {"epoch": len(progress.epochs) + 1, "seconds": round(seconds, 2), **terms}
            line |= within_memory(
                partial(_evaluate, stepper.ensemble, data, partial(measure, stepper.ensemble, line["epoch"], seconds)),
                partial(no_memory_to, "evaluate the ensemble after an epoch", folder),
            )
            progress = Progress(digest, progress.commit, [*progress.epochs, line])
            _save(folder, stepper, progress)
            stepper.division.everyone.once(partial(_write_metrics, folder, progress))
    return progress


def _train_one_epoch(
    recipe: Recipe, stepper: Stepper, data: LabelledImages, folder: Path, progress: Progress, report: Report
) -> tuple[dict[str, float], float]:
    """The steps of an epoch that are left; returns each term's mean over all its steps, and how long those took."""
    epoch, num_steps, saved = len(progress.epochs), num_batches(data, recipe.batch_size), time.monotonic()
    started = saved - progress.seconds
    draws, log = EpochDraws(recipe, data, stepper.division, progress), TermLog(progress)
    stepper.ensemble.train()
    for step, (images, labels) in enumerate(draws.first_pass, start=progress.num_steps):
        num_done, num_all = epoch * num_steps + step, recipe.num_epochs * num_steps
        batch = Batch(
            ensemble=stepper.part,
            images=images,
            labels=labels,
            progress=num_done / num_all,
            epoch_seed=draws.seed,
            generator=draws.generator,
            second_pass=draws.second_pass,
            holdouts=stepper.holdouts,
            division=stepper.division,
        )
        # Never at 0 or 1, where the rate of a one-cycle is zero and a step would change nothing.
        log.add(stepper.take(batch, learning_rate=recipe.learning_rate_at((num_done + 1) / (num_all + 1))))
        is_last = step == num_steps - 1
        if step % _STEPS_BETWEEN_REPORTS == 0 or is_last:
            report(epoch, step + 1, num_steps, log.means())
        is_due = time.monotonic() - saved >= _SECONDS_BETWEEN_CHECKPOINTS and not is_last
        if stepper.division.everyone.agree(is_due):
            saved = time.monotonic()
            stepper.gather()
            within = replace(
                progress, num_steps=step + 1, sums=log.sums(), seconds=saved - started, generators=draws.states
            )
            _save(folder, stepper, within)
    stepper.gather()
    return log.means(), time.monotonic() - started


def _save(folder: Path, stepper: Stepper, progress: Progress) -> None:
    stepper.require_finite_weights()
    write = partial(save_checkpoint, folder, stepper.ensemble, stepper.optimizer, progress)
    stepper.division.everyone.once(write)


def _evaluate(ensemble: Ensemble, data: TrainingData, measure: Callable[[], Mapping[str, float]]) -> dict[str, float]:
    return {"clean_accuracy": clean_accuracy(ensemble, data.test), **measure()}


def _write_metrics(folder: Path, progress: Progress) -> None:
    lines = "".join(json.dumps(epoch) + "\n" for epoch in progress.epochs)
    write_atomically(folder / "metrics.jsonl", lines.encode())
