"""Trainings that differ from the zoo's in one setting, to test what their figures' distance from the paper's is due to.

Each folder in zoo/trials is what `python -m training sweep` left of one such way to train, without the weights: of each
run its recipe.json, config.json and audit.json.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from smdguard.manifest import WORST_CASE, ModelConfig
from training.markdown import table
from training.paper import DATASETS, EPSILON, METHODS, READINGS, PaperRow, Reading, mean_rows
from training.results import FinishedRun, runs_of, spread
from training.tables import COLUMNS

_HEADER = ("data set", "method", "attacks", "trained with", *COLUMNS.values(), "worst case", "seeds")
# Trials start from ensembles of their own, and there is no commit among the settings.
_NO_SETTINGS = ("seed", "commit", "init")


def trials_table(ours: Sequence[FinishedRun], trials: Sequence[Sequence[FinishedRun]]) -> str:
    """Below the paper's figures and those of the zoo's runs the figures of each trial of that kind, in Markdown.

    Args:
        ours: The zoo's runs.
        trials: The runs of each way to train.
    """
    rows = [
        [DATASETS[row.dataset], METHODS[row.method], attacks, *line]
        for row in mean_rows()
        for reading, attacks in READINGS[row.access].items()
        for line in _lines(row, reading, ours, trials)
    ]
    return table(_HEADER, rows, right=[*COLUMNS.values(), "worst case", "seeds"])


def _lines(
    row: PaperRow, reading: Reading, ours: Sequence[FinishedRun], trials: Sequence[Sequence[FinishedRun]]
) -> Iterator[list[str]]:
    """The lines of one row of the paper; none without trials of its kind, or runs of the zoo beside them."""
    usual = [run for run in ours if run.kind == row.kind]
    finished = [found for runs in trials if (found := runs_of(runs, row.kind, reading))]
    if not (usual and finished):
        return
    yield ["the paper's", *(f"{row.accuracy_percent[column]:.1f}" for column in COLUMNS), "-", "-"]
    yield ["as in the zoo", *_figures(runs_of(usual, row.kind, reading), reading)]
    for runs in finished:
        yield [_otherwise(usual[0].config, runs[0].config), *_figures(runs, reading)]


def _figures(runs: Sequence[FinishedRun], reading: Reading) -> list[str]:
    spreads = [spread(runs, name, reading, EPSILON) for name in (*COLUMNS.values(), WORST_CASE)]
    return [*("-" if figure is None else str(figure) for figure in spreads), str(len(runs))]


def _otherwise(usual: ModelConfig, trial: ModelConfig) -> str:
    """The settings that a trial has in place of the zoo's."""
    before, now = _settings(usual), _settings(trial)
    return ", ".join(f"{key} {before[key]} -> {now[key]}" for key in now if now[key] != before[key])


def _settings(config: ModelConfig) -> dict[str, Any]:
    settings = config.training.model_dump() | config.objective.parameters
    return {key: value for key, value in settings.items() if key not in _NO_SETTINGS}
