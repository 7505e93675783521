"""The paper's tables from what is finished, in Markdown, each figure beside the paper's."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from smdguard.manifest import WORST_CASE
from training.markdown import table
from training.paper import (
    ATTACKS,
    DATASET_TITLES,
    METHODS,
    READINGS,
    PaperRow,
    Reading,
    deviations_of,
    mean_rows,
    paper_rows,
)
from training.results import CLEAN, FinishedRun, Spread, runs_of, spread

Mark = Literal["=", "+", "-", "pending"]
MARKS: tuple[Mark, ...] = get_args(Mark)
COLUMNS = {CLEAN: CLEAN, **ATTACKS}

_LEGEND = """\
Accuracy in percent under attacks of epsilon 0.3: the mean over the seeds ± its standard deviation, and the paper's mean
in brackets. A mark before each says how the two compare:

- `=` they differ by at most two standard deviations: the paper's for three members without adversarial training, for
  which alone it gives them; elsewhere ours, plus 1 point;
- `+` ours is higher, `-` ours is lower by more than that;
- `pending` nothing is finished; tables without a finished run appear only in the overview.

One seed has no deviation; all figures are compared at the paper's one decimal. `clean` is on all test images, the
others on as many as each row says. An attack that leaves many images standing can be a weak attack: the worst case
counts an image as standing only if it withstood every attack of the same audit, white-box, black-box and on single
members, at all radii up to 0.3, and the longer attacks with which an audit checks itself, on 200 of the images: on
those few it is stricter than on the rest. The paper has no such figure. Adversarial training is ensemble adversarial
training. What black-box attacks were crafted on has seed 1, or 0 for the ensembles of seed 1, and was itself trained in
the same way; the paper's wording allows both readings of its black box. The paper trained for 50 epochs, on CIFAR-10
for 200, and took three to five seeds; each row says what ours had.
"""
_HEADER = ("data set", "method", *COLUMNS.values(), "worst case", "seeds", "epochs", "images")


def paper_tables(runs: Sequence[FinishedRun]) -> str:
    """All tables of which something is finished, and before them how many cells there are of each mark in any."""
    tables: list[tuple[int, Reading, list[PaperRow]]] = [
        (number, reading, [row for row in mean_rows() if row.table == number])
        for number in dict.fromkeys(row.table for row in mean_rows())
        for reading in READINGS[_first(number).access]
    ]
    overview = [[_title(number, reading), *map(str, _counts(runs, rows, reading))] for number, reading, rows in tables]
    sections = [
        f"## {_title(number, reading)}\n\n" + table(_HEADER, [_written(runs, row, reading) for row in rows])
        for number, reading, rows in tables
        if any(runs_of(runs, row.kind, reading) for row in rows)
    ]
    head = "# The paper's results and ours\n"
    return "\n".join([head, _LEGEND, table(["table", *(f"`{mark}`" for mark in MARKS)], overview), *sections])


@dataclass(frozen=True)
class _Cell:
    """A figure of ours beside the paper's; see mark."""

    ours: Spread | None
    paper: float
    paper_deviation: float | None

    @property
    def mark(self) -> Mark:
        return mark(self.ours, self.paper, self.paper_deviation)

    @property
    def text(self) -> str:
        written = "pending" if self.ours is None else f"`{self.mark}` {self.ours}"
        return f"{written} ({self.paper:.1f})"


def mark(ours: Spread | None, paper: float, paper_deviation: float | None) -> Mark:
    """How a figure of ours compares with the paper's; all are in percent.

    Args:
        ours: Over the seeds, or None where nothing is finished.
        paper: The paper's mean.
        paper_deviation: The paper's standard deviation, or None where it gives none.
    """
    if ours is None:
        return "pending"
    tolerance = 2 * (ours.deviation or 0.0) + 1 if paper_deviation is None else 2 * paper_deviation
    # Figures of one decimal, whose difference in floating point can be off by a little.
    gap = round(round(ours.mean, 1) - paper, 6)
    if abs(gap) <= round(tolerance, 6):
        return "="
    return "+" if gap > 0 else "-"


def _first(table: int) -> PaperRow:
    return next(row for row in paper_rows() if row.table == table)


def _title(number: int, reading: Reading) -> str:
    row = _first(number)
    adversarial = ", trained adversarially" if row.adversarial_training else ""
    return f"Table {number}: {row.num_members} members{adversarial}, {READINGS[row.access][reading]}"


def _counts(runs: Sequence[FinishedRun], rows: Iterable[PaperRow], reading: Reading) -> list[int]:
    """Cells of each mark."""
    marks = Counter(cell.mark for row in rows for cell in _cells(runs_of(runs, row.kind, reading), row, reading))
    return [marks[mark] for mark in MARKS]


def _written(runs: Sequence[FinishedRun], row: PaperRow, reading: Reading) -> list[str]:
    """The row as it is printed."""
    finished = runs_of(runs, row.kind, reading)
    worst = spread(finished, WORST_CASE, reading, row.epsilon)
    return [
        DATASET_TITLES[row.dataset],
        METHODS[row.method],
        *(cell.text for cell in _cells(finished, row, reading)),
        "pending" if worst is None else str(worst),
        str(len(finished)),
        _distinct(run.config.training.num_epochs for run in finished),
        _distinct(run.report.num_images for run in finished),
    ]


def _cells(finished: Sequence[FinishedRun], row: PaperRow, reading: Reading) -> list[_Cell]:
    deviations = deviations_of(row) or {}
    return [
        _Cell(spread(finished, name, reading, row.epsilon), row.accuracy_percent[column], deviations.get(column))
        for column, name in COLUMNS.items()
    ]


def _distinct(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(set(numbers)))) or "-"
