"""At which radius our ensembles have the accuracies that the paper gives for its own: how far apart the two are."""

from collections.abc import Sequence
from itertools import pairwise

from training.markdown import table
from training.paper import ATTACKS, DATASET_TITLES, EPSILON, METHODS, RADII, READINGS, PaperRow, Reading, mean_rows
from training.results import FinishedRun, runs_of, spread

_HEADER = ("data set", "method", "members", "attacks", *ATTACKS.values())


def radii_table(runs: Sequence[FinishedRun]) -> str:
    """For every row of the paper of which something is finished, and every attack, that radius, in Markdown."""
    rows = [
        [
            DATASET_TITLES[row.dataset],
            METHODS[row.method],
            str(row.num_members),
            attacks,
            *(_radius(finished, row, attack, reading) for attack in ATTACKS),
        ]
        for row in mean_rows()
        for reading, attacks in READINGS[row.access].items()
        if (finished := runs_of(runs, row.kind, reading))
    ]
    return table(_HEADER, rows, right=list(ATTACKS.values()))


def radius_of(curve: Sequence[tuple[float, float]], accuracy: float) -> float | None:
    """Where a curve first comes down to an accuracy, on straight lines between its points; None where it never does.

    Args:
        curve: Radii from 0 on, each with its accuracy.
        accuracy: In the unit of the curve's.
    """
    if curve[0][1] <= accuracy:
        return curve[0][0]
    for (radius, before), (next_radius, after) in pairwise(curve):
        if after <= accuracy:
            return radius + (next_radius - radius) * (before - accuracy) / (before - after)
    return None


def _radius(runs: Sequence[FinishedRun], row: PaperRow, attack: str, reading: Reading) -> str:
    """That of one cell as it is printed, from the mean over the seeds."""
    figures = [(radius, spread(runs, ATTACKS[attack], reading, radius)) for radius in (0.0, *RADII)]
    curve = [(radius, ours.mean) for radius, ours in figures if ours is not None]
    radius = radius_of(curve, row.accuracy_percent[attack])
    return f"> {EPSILON}" if radius is None else f"{radius:.2f}"
