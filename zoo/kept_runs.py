"""Runs that the zoo keeps without their weights, for RESULTS.md: of each its recipe, configuration and audit."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from smdguard import render
from smdguard.catalogue import read_manifest
from smdguard.errors import InvalidInputError
from smdguard.files import write_atomically, zoo_folder
from smdguard.manifest import serialise
from smdguard.model_folder import AUDIT, CONFIG
from training.recipes import RECIPE
from training.results import FinishedRun, read_runs

RUNS = "runs"
"""The zoo's folder of runs of the paper's experiment that are no models of the zoo."""
TRIALS = "trials"
"""The zoo's folder of trials, each a folder of runs; some have standard.json, a report with that preset."""


def keep_runs(folders: Iterable[Path], trial: str | None) -> list[str]:
    """Keep all runs of sweeps that were audited as the paper's.

    Args:
        folders: Of the sweeps.
        trial: What they are a trial of; None where they are the paper's experiment, trained as the zoo's models are.

    Returns:
        Their names.

    Raises:
        InvalidInputError: One is of a model of the zoo, whose own audit counts, and no trial; or see read_runs.
    """
    runs = read_runs(folders)
    names = [run.recipe.name for run in runs]
    if trial is None and (known := [name for name in names if read_manifest().find(name)]):
        raise InvalidInputError(f"{known[0]} is a model of the zoo already; name the --trial that this run of it is")
    for run in runs:
        keep_run(run, trial)
    return names


def keep_run(run: FinishedRun, trial: str | None) -> None:
    """Keep a run, without the exhibits of its audit, whose images would make up most of the file."""
    folder = zoo_folder() / (RUNS if trial is None else f"{TRIALS}/{trial}") / run.recipe.name
    write_atomically(folder / RECIPE, serialise(run.recipe))
    write_atomically(folder / CONFIG, serialise(run.config))
    write_atomically(folder / AUDIT, render.serialise(dataclasses.replace(run.report, exhibits=None)))


def read_kept_runs() -> list[FinishedRun]:
    """The runs that are no models of the zoo.

    Raises:
        InvalidInputError: There are none, or two of one kind were not trained alike.
    """
    return read_runs([zoo_folder() / RUNS])


def read_trials() -> dict[str, list[FinishedRun]]:
    """The runs of each trial, by what it is called.

    Raises:
        InvalidInputError: A trial has none, or two of one kind were not trained alike.
    """
    return {folder.name: read_runs([folder], preset=None) for folder in sorted((zoo_folder() / TRIALS).iterdir())}
