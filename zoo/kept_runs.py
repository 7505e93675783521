"""Runs that the zoo keeps without their weights, for RESULTS.md: of each its recipe, configuration and audit."""

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path

from smdguard import render
from smdguard.catalogue import read_manifest
from smdguard.errors import InvalidInputError
from smdguard.files import write_atomically, zoo_folder
from smdguard.manifest import serialise
from smdguard.model_folder import AUDIT, CONFIG
from training.recipes import RECIPE, differences
from training.results import FinishedRun, read_runs, require_alike

# Of the paper's experiment, with ensembles that are no models of the zoo.
_RUNS = "runs"
# A folder of runs for each trial; some runs have standard.json, a report with that preset, beside their audit.json.
_TRIALS = "trials"
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")


def keep_runs(folders: Iterable[Path], trial: str | None) -> list[str]:
    """Keep all runs of sweeps that were audited as the paper's.

    What is kept of the same run is replaced.

    Args:
        folders: Of the sweeps.
        trial: The name of the trial that they are; None where they are the paper's experiment.

    Returns:
        Their names.

    Raises:
        InvalidInputError: The trial's name is none for a folder; a run is of a model of the zoo, whose own audit
            counts, and no trial; it was trained otherwise than those that are kept; or see read_runs.
    """
    if trial is not None and not _NAME.fullmatch(trial):
        raise InvalidInputError(f"a trial's name has small letters, digits, dots and dashes only, unlike {trial!r}")
    runs = {run.recipe.name: run for run in read_runs(folders)}
    if trial is None and (known := [name for name in runs if read_manifest().find(name)]):
        raise InvalidInputError(f"{known[0]} is a model of the zoo already; name the --trial that this run of it is")
    folder = _folder(trial)
    kept = {run.recipe.name: run for run in read_runs([folder], preset=None)} if folder.exists() else {}
    for name in runs.keys() & kept.keys():
        if changed := differences(kept[name].recipe, runs[name].recipe):
            raise InvalidInputError(f"{folder / name} is of another training ({changed}); remove it first")
    require_alike((kept | runs).values())
    for run in runs.values():
        keep_run(run, trial)
    return list(runs)


def keep_run(run: FinishedRun, trial: str | None) -> None:
    """Keep a run, without the exhibits of its audit, whose images would make up most of the file."""
    folder = _folder(trial) / run.recipe.name
    write_atomically(folder / RECIPE, serialise(run.recipe))
    write_atomically(folder / CONFIG, serialise(run.config))
    write_atomically(folder / AUDIT, render.serialise(dataclasses.replace(run.report, exhibits=None)))


def read_kept_runs() -> list[FinishedRun]:
    """The runs that are no models of the zoo.

    Raises:
        InvalidInputError: There are none, or two of one kind were not trained alike.
    """
    return read_runs([_folder(None)])


def read_trials() -> dict[str, list[FinishedRun]]:
    """The runs of each trial, by what it is called.

    Raises:
        InvalidInputError: A trial has none, or two of one kind were not trained alike.
    """
    folders = sorted(folder for folder in (zoo_folder() / _TRIALS).iterdir() if folder.is_dir())
    return {folder.name: read_runs([folder], preset=None) for folder in folders}


def _folder(trial: str | None) -> Path:
    return zoo_folder() / (_RUNS if trial is None else f"{_TRIALS}/{trial}")
