"""What sweeps have finished: each run's recipe, model and audit, and the accuracies of runs that differ by the seed."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smdguard.auditing import PresetName
from smdguard.errors import InvalidInputError
from smdguard.manifest import WORST_CASE, ModelConfig, read_record
from smdguard.model_folder import AUDIT, CONFIG
from smdguard.report import AuditReport
from training.audits import PRESET, read_audit
from training.paper import Reading, surrogate_name
from training.recipes import RECIPE, SCRATCH, Recipe, differences

CLEAN = "clean"


@dataclass(frozen=True)
class FinishedRun:
    """A trained and audited ensemble."""

    recipe: Recipe
    config: ModelConfig
    report: AuditReport

    @property
    def kind(self) -> str:
        """What it has in common with the runs that differ by the seed: their name at seed 0."""
        return self.recipe.model_copy(update={"seed": 0}).name

    def accuracy(self, attack: str, reading: Reading, epsilon: float) -> float | None:
        """The share of the audit's images that an attack leaves standing; None where it was not made.

        Args:
            attack: Its name, WORST_CASE: per image, over all attacks of the audit up to the radius, or CLEAN: the
                accuracy on all test images, whatever the radius.
            reading: What it was made on.
            epsilon: Its radius; at 0 every attack leaves what is right when clean.
        """
        if not self.was_attacked(reading):
            return None
        if attack == CLEAN:
            return self.config.clean_accuracy
        if epsilon == 0:
            return self.report.clean_accuracy.value
        if attack == WORST_CASE:
            points = {point.epsilon: point.robust_accuracy.value for point in self.report.curve}
            return points.get(epsilon)
        made = {
            (result.name, result.source, result.epsilon): result.robust_accuracy.value for result in self.report.attacks
        }
        return made.get((attack, self._source(reading), epsilon))

    def was_attacked(self, reading: Reading) -> bool:
        """Whether attacks were made on that."""
        return any(result.source == self._source(reading) for result in self.report.attacks)

    def _source(self, reading: Reading) -> str:
        if reading == "white-box":
            return self.config.name
        return surrogate_name(self.recipe, "naive" if reading == "black-box-naive" else self.recipe.method)


@dataclass(frozen=True)
class Spread:
    """Mean of a figure over the seeds, and its standard deviation where there is more than one; in percent."""

    mean: float
    deviation: float | None

    def __str__(self) -> str:
        return f"{self.mean:.1f}" if self.deviation is None else f"{self.mean:.1f} ± {self.deviation:.1f}"


def read_runs(folders: Iterable[Path], *, preset: PresetName | None = PRESET) -> list[FinishedRun]:
    """The finished runs in the folders of sweeps.

    Args:
        folders: Each with a folder for every run.
        preset: What they were audited with; None for anything.

    Raises:
        InvalidInputError: A folder has none, two have the same name or were not trained alike, or one was audited
            otherwise.
        IntegrityError: A file is damaged.
    """
    runs: dict[str, FinishedRun] = {}
    for path in sorted(path for folder in folders for path in _audited_folders(folder)):
        run = _read_run(path, preset)
        if run.recipe.name in runs:
            raise InvalidInputError(f"{path} is a second {run.recipe.name}; name only one of its folders")
        runs[run.recipe.name] = run
    require_alike(runs.values())
    return list(runs.values())


def require_alike(runs: Iterable[FinishedRun]) -> None:
    """Make sure that runs of one kind were trained in one way, which a mean over them is of.

    Raises:
        InvalidInputError: Two differ in more than the seed and the epochs, which tables show. What a run starts from
            and its hold-outs are of its seed, so both start from scratch or neither does, and the hold-outs are as
            many.
    """
    first_of_kind: dict[str, Recipe] = {}
    for run in runs:
        first = first_of_kind.setdefault(run.kind, run.recipe)
        if changed := differences(first, _but_for_the_seed(run.recipe, first)):
            raise InvalidInputError(
                f"{first.name} and {run.recipe.name} were trained differently ({changed}) and cannot be averaged; keep "
                "them in separate folders"
            )


def _but_for_the_seed(recipe: Recipe, first: Recipe) -> Recipe:
    """The recipe with the seed, and what may come with it, of the first of its kind."""
    same: dict[str, Any] = {"seed": first.seed, "num_epochs": first.num_epochs}
    if (recipe.init == SCRATCH) == (first.init == SCRATCH):
        same["init"] = first.init
    if len(recipe.holdouts) == len(first.holdouts):
        same["holdouts"] = first.holdouts
    return recipe.model_copy(update=same)


def runs_of(runs: Sequence[FinishedRun], kind: str, reading: Reading) -> list[FinishedRun]:
    """Those of one kind that were attacked in that way."""
    return [run for run in runs if run.kind == kind and run.was_attacked(reading)]


def spread(runs: Sequence[FinishedRun], attack: str, reading: Reading, epsilon: float) -> Spread | None:
    """An accuracy over runs; None where none has it."""
    found = [run.accuracy(attack, reading, epsilon) for run in runs]
    return spread_of([100 * share for share in found if share is not None])


def spread_of(percentages: Sequence[float]) -> Spread | None:
    """Mean and sample deviation; None of nothing."""
    if not percentages:
        return None
    return Spread(statistics.mean(percentages), statistics.stdev(percentages) if len(percentages) > 1 else None)


def _audited_folders(folder: Path) -> list[Path]:
    audited = [path.parent for path in folder.glob(f"*/{AUDIT}")]
    if not audited:
        raise InvalidInputError(f"{folder} holds no audited run; name the folder that a sweep has as its --output")
    return audited


def _read_run(folder: Path, preset: PresetName | None) -> FinishedRun:
    recipe, config = folder / RECIPE, folder / CONFIG
    for file in (recipe, config):
        if not file.exists():
            raise InvalidInputError(f"{folder} has an audit but no {file.name}; it is not a run of a sweep")
    report = read_audit(folder)
    if report is None or preset not in (None, report.preset):
        raise InvalidInputError(f"{folder} was not audited with the preset {preset}; run the sweep again")
    return FinishedRun(read_record(Recipe, recipe), read_record(ModelConfig, config), report)
