"""Many ensembles trained and audited one after the other; what is done stays done, so the same sweep goes on."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import torch

from smdguard.backends.torch import torch_device
from smdguard.datasets import LabelledImages, balanced_subset
from smdguard.errors import IntegrityError, SmdguardError
from smdguard.files import is_file
from smdguard.manifest import ModelConfig, read_record
from smdguard.model_folder import CONFIG
from training.audits import PRESET, audit_run, read_audit, sources_of
from training.data import TrainingData, load_training_data
from training.finish import recipe_of
from training.loop import Report, train
from training.monitor import Monitor
from training.pace import Pace
from training.paper import is_trained_alike, surrogate_names
from training.plan import run_name, with_prerequisites
from training.recipes import Recipe

_MAX_ATTEMPTS = 2
# PyTorch says with a RuntimeError that memory or a device has run out.
_ISOLATED = (SmdguardError, RuntimeError, MemoryError, OSError)

Step = tuple[Literal["training", "audit"], str]
"""What is done to which run."""


class Audience(Protocol):
    """Whoever follows a sweep."""

    def follow(self, line: str, *, is_milestone: bool) -> None:
        """Hear how far the run under way is; milestones are few."""

    def hear(self, line: str) -> None:
        """Hear of something finished or failed."""


@dataclass(frozen=True)
class Summary:
    """What a sweep ended with.

    Args:
        num_trained: Runs that are trained now.
        num_runs: Runs in all.
        num_audited: Runs that are audited now.
        num_wanted: Runs that were to be audited: those that were asked for, not what they needed first.
        failures: What went wrong for good: run -> reason.
        time_is_up: Whether the time limit stopped it.
    """

    num_trained: int
    num_runs: int
    num_audited: int
    num_wanted: int
    failures: dict[str, str]
    time_is_up: bool


class _TimeIsUp(Exception):
    """The time limit has passed, and what is under way has just been saved."""


@dataclass
class Sweep:
    """A plan, and how far it is.

    The next step is always the first thing in the plan's order that is not done. A model is audited as soon as it is
    trained, and again once the surrogates that the plan trains for it are there. Surrogates are only those that were
    trained with the same settings.

    Args:
        wanted: What to train and audit, the most wanted first.
        folder: Gets a folder for each run.
        data_root: Where the data sets are.
        download: Whether torchvision may fetch them.
        device: "auto", "cpu" or "cuda".
        num_audit_images: How many test images to attack, evenly over the classes; None for all.
        audience: Hears of the progress.
        time_limit: Seconds after which to stop at the next epoch or shard of an audit.
        clock: Seconds that pass.
    """

    wanted: Sequence[Recipe]
    folder: Path
    data_root: Path
    audience: Audience
    download: bool = False
    device: str = "auto"
    num_audit_images: int | None = None
    time_limit: float = float("inf")
    clock: Callable[[], float] = time.monotonic
    _trained: set[str] = field(default_factory=set, init=False)
    _failures: Counter[Step] = field(default_factory=Counter, init=False)
    _reasons: dict[Step, str] = field(default_factory=dict, init=False)
    _data: dict[tuple[str, int], TrainingData] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._runs = with_prerequisites(self.wanted)
        self._audited_names = list(dict.fromkeys(map(run_name, self.wanted)))

    def run(self) -> Summary:
        """Go on until everything is done or has failed twice, or the time is up.

        Raises:
            BackendError: The device is not to be had.
            InvalidInputError: A data set is not there, or has too few images.
        """
        self._deadline = self.clock() + self.time_limit
        # What is missing for any run is better known now than hours from now.
        torch_device(self.device)
        for name in self._runs:
            self._audit_images(name)
        try:
            while (step := self._next_step()) is not None:
                self._require_time()
                self._attempt(step)
        except _TimeIsUp:
            return self._summary(time_is_up=True)
        return self._summary(time_is_up=False)

    def _next_step(self) -> Step | None:
        for name in self._runs:
            if name not in self._trained:
                step: Step = ("training", name)
            elif name in self._audited_names and self._is_audit_due(name):
                step = ("audit", name)
            else:
                continue
            if self._failures[step] < _MAX_ATTEMPTS:
                return step
        return None

    def _attempt(self, step: Step) -> None:
        kind, name = step
        try:
            work = self._train if kind == "training" else self._audit
            work(name)
            self._reasons.pop(step, None)
        except _ISOLATED as error:
            self._failures[step] += 1
            self._reasons[step] = reason = str(error).partition("\n")[0] or type(error).__name__
            again = "; it is tried once more" if self._failures[step] < _MAX_ATTEMPTS else ""
            self.audience.hear(f"{name}: the {kind} failed: {reason}{again}")
        # Outside the handler, whose traceback would keep the tensors of the failed attempt alive.
        if step in self._reasons and torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _train(self, name: str) -> None:
        recipe = self._runs[name]
        first = {origin: run_name(needed) for origin, needed in recipe.prerequisites().items()}
        for needed in first.values():
            if needed not in self._trained:
                # What comes first in the plan is not there: it failed, and would again.
                self._failures["training", name] = _MAX_ATTEMPTS
                raise SmdguardError(f"it needs {needed}, which failed")
        was_finished = self._is_finished(name)
        data = self._data_of(recipe)
        config = train(
            recipe,
            data,
            self.folder / name,
            device=torch_device(self.device),
            report=self._report(name, Pace(recipe)),
            measure=Monitor(recipe, data),
            origins={origin: self.folder / needed for origin, needed in first.items()},
        )
        self._trained.add(name)
        if not was_finished:
            self.audience.hear(f"{name}: trained, {config.clean_accuracy:.2%} of the test images right")

    def _report(self, name: str, pace: Pace) -> Report:
        def report(epoch: int, step: int, num_steps: int, terms: dict[str, float]) -> None:
            if step == 1:  # The epoch before is saved.
                self._require_time()
            self.audience.follow(f"{name}: {pace.line(epoch, step, num_steps, terms)}", is_milestone=step == num_steps)

        return report

    def _audit(self, name: str) -> None:
        def progress(done: int, total: int, description: str) -> None:
            self._require_time()
            self.audience.follow(f"{name}: audit, {done} of {total}: {description}", is_milestone=False)

        surrogates = {source: self.folder / source for source in self._surrogates_at_hand(name)}
        images = self._audit_images(name)
        report = audit_run(self.folder / name, surrogates, images, device=self.device, progress=progress)
        black_box = f"black-box from {' and '.join(surrogates)}" if surrogates else "no black-box attacks yet"
        worst = report.worst_case.robust_accuracy.value
        self.audience.hear(
            f"{name}: audited on {report.num_images} images, {black_box}: {report.clean_accuracy.value:.1%} clean, "
            f"{worst:.1%} in the worst case at {report.threat.epsilon:g}"
        )

    def _is_audit_due(self, name: str) -> bool:
        """Whether there is none of the paper's of these images, or one without a surrogate that is here by now.

        Or one from a surrogate that was trained otherwise.

        An audit is not made again for one surrogate while another is still to be trained.
        """
        try:
            report = read_audit(self.folder / name)
        except IntegrityError:  # It is damaged, or of a version whose reports cannot be read any more.
            return True
        if report is None or (report.preset, report.num_images) != (PRESET, self._num_images(name)):
            return True
        recipe, sources = self._runs[name], sources_of(report)
        if any(self._is_finished(source) and not self._is_trained_as(recipe, source) for source in sources):
            return True
        missing = set(self._surrogates_at_hand(name)) - sources
        return bool(missing) and not any(map(self._is_to_be_trained, surrogate_names(recipe)))

    def _surrogates_at_hand(self, name: str) -> list[str]:
        """Those that were trained as the run is: another sweep may have left some that were not."""
        recipe = self._runs[name]
        found = filter(self._is_finished, surrogate_names(recipe))
        return [source for source in found if self._is_trained_as(recipe, source)]

    def _is_trained_as(self, recipe: Recipe, source: str) -> bool:
        try:
            return is_trained_alike(recipe_of(read_record(ModelConfig, self.folder / source / CONFIG)), recipe)
        except IntegrityError:  # It is damaged or none of ours, and nobody knows how it was trained.
            return False

    def _is_finished(self, name: str) -> bool:
        return is_file(self.folder / name / CONFIG)

    def _is_to_be_trained(self, name: str) -> bool:
        is_open = name in self._runs and not self._is_finished(name)
        return is_open and self._failures["training", name] < _MAX_ATTEMPTS

    def _data_of(self, recipe: Recipe) -> TrainingData:
        key = recipe.dataset, recipe.num_calibration_images
        if key not in self._data:
            self._data[key] = load_training_data(
                recipe.dataset,
                self.data_root,
                num_calibration_images=recipe.num_calibration_images,
                download=self.download,
            )
        return self._data[key]

    def _num_images(self, name: str) -> int:
        return self.num_audit_images or len(self._data_of(self._runs[name]).test.images)

    def _audit_images(self, name: str) -> LabelledImages:
        images = self._data_of(self._runs[name]).test
        return images if self.num_audit_images is None else balanced_subset(images, self.num_audit_images)

    def _require_time(self) -> None:
        if self.clock() >= self._deadline:
            raise _TimeIsUp

    def _summary(self, *, time_is_up: bool) -> Summary:
        # On disk: time may have been up before this sweep came to what an earlier one had finished.
        trained = [name for name in self._runs if self._is_finished(name) and ("training", name) not in self._reasons]
        audited = [name for name in self._audited_names if name in trained and not self._is_audit_due(name)]
        return Summary(
            num_trained=len(trained),
            num_runs=len(self._runs),
            num_audited=len(audited),
            num_wanted=len(self._audited_names),
            failures={
                name: f"{kind}: {reason}"
                for (kind, name), reason in self._reasons.items()
                if self._failures[kind, name] >= _MAX_ATTEMPTS
            },
            time_is_up=time_is_up,
        )
