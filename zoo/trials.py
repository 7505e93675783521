"""What became of the paper's experiment with another setting than the zoo's: what the figures' distance is due to."""

from collections.abc import Iterator, Mapping, Sequence

from smdguard.manifest import WORST_CASE
from training.audits import PRESET
from training.markdown import table
from training.paper import DATASET_TITLES, EPSILON, METHODS, READINGS, PaperRow, Reading, kind_name, mean_rows
from training.recipes import Recipe
from training.results import FinishedRun, runs_of, spread
from training.tables import COLUMNS

_FIGURES = (*COLUMNS.values(), WORST_CASE)
_HEADER = ("data set", "method", "attacks", "trial", *COLUMNS.values(), "worst case", "seeds")


def trials_table(ours: Sequence[FinishedRun], trials: Mapping[str, Sequence[FinishedRun]]) -> str:
    """Below the paper's figures those of each trial, and of the zoo's runs of the same seeds, in Markdown.

    Args:
        ours: The zoo's runs.
        trials: The runs of each trial, by what it is called.
    """
    rows = [
        [DATASET_TITLES[row.dataset], METHODS[row.method], attacks, *line]
        for row in mean_rows()
        for reading, attacks in READINGS[row.access].items()
        for line in _lines(row, reading, ours, trials)
    ]
    return table(_HEADER, rows, right=_HEADER[4:])


def _lines(
    row: PaperRow, reading: Reading, ours: Sequence[FinishedRun], trials: Mapping[str, Sequence[FinishedRun]]
) -> Iterator[list[str]]:
    """The lines of one row of the paper; none where no trial is of its kind."""
    finished = {name: found for name, runs in trials.items() if (found := _runs_of(runs, row, reading))}
    if not finished:
        return
    usual = runs_of(ours, row.kind, reading)
    yield ["the paper's", *(f"{row.accuracy_percent[column]:.1f}" for column in COLUMNS), "-", "-"]
    for name, runs in finished.items():
        seeds = {run.recipe.seed for run in runs}
        yield [name, *_figures(runs, reading)]
        yield ["without it", *_figures([run for run in usual if run.recipe.seed in seeds], reading)]


def _runs_of(trial: Sequence[FinishedRun], row: PaperRow, reading: Reading) -> list[FinishedRun]:
    """A trial's runs of the row's experiment, whatever their network is."""

    def kind(recipe: Recipe) -> str:
        return kind_name(recipe.method, recipe.dataset, recipe.num_members, recipe.adversary)

    return [run for run in trial if kind(run.recipe) == row.kind and run.was_attacked(reading)]


def _figures(runs: Sequence[FinishedRun], reading: Reading) -> list[str]:
    # The worst case over other attacks than the paper's would not compare.
    comparable = [run for run in runs if run.report.preset == PRESET]
    spreads = [spread(comparable if figure == WORST_CASE else runs, figure, reading, EPSILON) for figure in _FIGURES]
    return [*("-" if figure is None else str(figure) for figure in spreads), str(len(runs))]
