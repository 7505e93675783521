"""The paper's figures from what is finished: accuracy against epsilon, and how attacks transfer between members."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter
from matplotlib.typing import LineStyleType

from smdguard.manifest import WORST_CASE
from smdguard.render.figures import draw_matrix
from smdguard.render.style import BLUE, ORANGE, laid_out, styled, to_png, to_svg
from smdguard.report import TransferMatrix
from training.paper import ATTACKS, DATASET_TITLES, EPSILON, METHODS, RADII, Reading, kind_name
from training.results import FinishedRun, Spread, runs_of, spread

# Colours that the colour-blind tell apart (Okabe and Ito, 2008); line and marker tell the methods apart in grey.
_LOOKS: dict[str, tuple[str, str, LineStyleType]] = {
    "naive": ("#666666", "o", ":"),
    "adp": ("#E69F00", "s", "--"),
    "gal": ("#009E73", "^", "--"),
    "dverge": ("#CC79A7", "D", "-."),
    "smd": (BLUE, "v", "-"),
    "smd-plus": (ORANGE, "P", "-"),
}
# Shorter than READINGS, whose words do not fit above a single panel.
_MADE_ON: dict[Reading, str] = {
    "white-box": "white-box",
    "black-box-naive": "black-box from a naive ensemble",
    "black-box-own": "black-box from the same method",
}
_TRAINED = {None: "", "eat": ", ensemble adversarial training", "pgd": ", adversarial training"}


@dataclass(frozen=True)
class Family:
    """Ensembles that one figure compares: alike but for the method and the data set."""

    num_members: int
    adversary: str | None

    @property
    def description(self) -> str:
        """For titles."""
        return f"{self.num_members} members{_TRAINED[self.adversary]}"

    @property
    def suffix(self) -> str:
        """For names of files."""
        return f"x{self.num_members}" + (f"-{self.adversary}" if self.adversary else "")

    def kind(self, method: str, dataset: str) -> str:
        """What its ensembles of a method on a data set are called."""
        return kind_name(method, dataset, self.num_members, self.adversary)


@dataclass(frozen=True)
class Curve:
    """A method's accuracy at each radius from 0 on, in percent, over the seeds."""

    method: str
    runs: Sequence[FinishedRun]
    points: dict[float, Spread]


def figure_files(runs: Sequence[FinishedRun]) -> dict[str, bytes]:
    """Every figure that there are results for, as PNG and SVG: file name -> content."""
    files: dict[str, bytes] = {}
    for name, figure in _figures(runs):
        files |= {f"{name}.png": to_png(figure), f"{name}.svg": to_svg(figure)}
    return files


def accuracy_curves(
    runs: Sequence[FinishedRun], family: Family, attack: str, reading: Reading
) -> dict[str, list[Curve]]:
    """The curves for each data set that has any."""
    panels: dict[str, list[Curve]] = {}
    for dataset, method in product(DATASET_TITLES, METHODS):
        finished = runs_of(runs, family.kind(method, dataset), reading)
        points = {radius: spread(finished, attack, reading, radius) for radius in (0.0, *RADII)}
        found = {radius: point for radius, point in points.items() if point is not None}
        if found:
            panels.setdefault(dataset, []).append(Curve(method, finished, found))
    return panels


def transfer_matrices(
    runs: Sequence[FinishedRun], family: Family, attack: str, dataset: str
) -> dict[str, list[tuple[FinishedRun, TransferMatrix]]]:
    """For each method its runs, which differ by the seed, and their matrices."""
    found: dict[str, list[tuple[FinishedRun, TransferMatrix]]] = {}
    for method in METHODS:
        finished = [run for run in runs if run.kind == family.kind(method, dataset)]
        pairs = [(run, matrix) for run in finished for matrix in (run.report.transfer, *run.report.further_transfers)]
        found[method] = [(run, matrix) for run, matrix in pairs if matrix is not None and matrix.name == attack]
    return {method: pairs for method, pairs in found.items() if pairs}


@styled()
def draw_curves(panels: Mapping[str, Sequence[Curve]], title: str) -> Figure:
    """A panel for each data set, a curve for each method, a band of one standard deviation over the seeds."""
    figure = Figure(figsize=(1.2 + 3.4 * len(panels), 4.4), layout="constrained")
    figure.suptitle(title)
    all_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (dataset, curves) in zip(all_axes, panels.items(), strict=True):
        for curve in curves:
            _draw_curve(axes, curve)
        axes.set_title(f"{DATASET_TITLES[dataset]}, {_made_of([curve.runs for curve in curves])}", fontsize=11)
        axes.set_xlabel("epsilon (linf)")
        axes.set_xticks([0, 0.1, 0.2, 0.3])
        axes.set_ylim(-2, 102)
        axes.yaxis.set_major_formatter(PercentFormatter(symbol=" %"))
    all_axes[0].set_ylabel("accuracy, mean ± deviation")
    handles = {METHODS[curve.method]: _handle(curve.method) for curves in panels.values() for curve in curves}
    in_order = [name for name in METHODS.values() if name in handles]
    columns = min(len(in_order), 2 * len(panels) + 1)
    figure.legend([handles[name] for name in in_order], in_order, loc="outside lower center", ncols=columns)
    return laid_out(figure)


@styled()
def draw_transfer(matrices: Mapping[str, Sequence[tuple[FinishedRun, TransferMatrix]]], title: str) -> Figure:
    """A heat map for each method: mean accuracy over the seeds, with the standard deviation in points below it."""
    num_columns = min(3, len(matrices))
    num_rows = -(-len(matrices) // num_columns)
    figure = Figure(figsize=(1.4 + 2.9 * num_columns, 0.6 + 3.1 * num_rows), layout="constrained")
    figure.suptitle(title)
    grid = figure.subplots(num_rows, num_columns, squeeze=False)
    for axes in grid.flat[len(matrices) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel("crafted on member")
    images = []
    for axes, (method, of_seeds) in zip(grid.flat, matrices.items(), strict=False):
        images.append(_draw_matrix(axes, numpy.array([matrix.members for _, matrix in of_seeds])))
        axes.set_title(f"{METHODS[method]}, {_made_of([[run for run, _ in of_seeds]])}", fontsize=11)
    bar = figure.colorbar(
        images[0], ax=grid, label="accuracy, mean ± deviation", format=PercentFormatter(1.0, symbol=" %")
    )
    bar.outline.set_visible(False)
    return laid_out(figure)


def _figures(runs: Sequence[FinishedRun]) -> Iterator[tuple[str, Figure]]:
    for family in dict.fromkeys(Family(run.recipe.num_members, run.recipe.adversary) for run in runs):
        for attack, (reading, made_on) in product(ATTACKS.values(), _MADE_ON.items()):
            if panels := accuracy_curves(runs, family, attack, reading):
                title = f"{attack}, {made_on}\n{family.description}"
                yield f"{attack.lower()}-{reading}-{family.suffix}", draw_curves(panels, title)
        if panels := accuracy_curves(runs, family, WORST_CASE, "white-box"):
            title = f"Worst case of all attacks of an audit\n{family.description}"
            yield f"worst-case-{family.suffix}", draw_curves(panels, title)
        for attack, (dataset, name) in product(ATTACKS.values(), DATASET_TITLES.items()):
            if matrices := transfer_matrices(runs, family, attack, dataset):
                title = f"{attack} crafted on one member, epsilon {EPSILON:g}\n{name}, {family.description}"
                yield f"transfer-{attack.lower()}-{dataset}-{family.suffix}", draw_transfer(matrices, title)


def _draw_curve(axes: Axes, curve: Curve) -> None:
    colour, marker, line = _LOOKS[curve.method]
    means = numpy.array([point.mean for point in curve.points.values()])
    deviations = numpy.array([point.deviation or 0.0 for point in curve.points.values()])
    axes.plot(list(curve.points), means, color=colour, marker=marker, linestyle=line, markersize=5)
    low, high = (means - deviations).clip(0, 100), (means + deviations).clip(0, 100)
    axes.fill_between(list(curve.points), low, high, color=colour, alpha=0.2, linewidth=0)


def _handle(method: str) -> Line2D:
    """A piece of the method's line, for the legend."""
    colour, marker, line = _LOOKS[method]
    return Line2D([], [], color=colour, marker=marker, linestyle=line, markersize=5)


def _draw_matrix(axes: Axes, shares: numpy.ndarray) -> AxesImage:
    """The mean of matrices (S, M, M) over S seeds."""
    mean = shares.mean(axis=0)
    deviation = shares.std(axis=0, ddof=1) if len(shares) > 1 else None

    def text(cell: tuple[int, int]) -> str:
        share = f"{100 * mean[cell]:.0f} %"
        return share if deviation is None else f"{share}\n±{100 * deviation[cell]:.1f}"

    members = range(len(mean))
    texts = [[text((row, column)) for column in members] for row in members]
    return draw_matrix(axes, mean, texts, size=min(10, 36 / len(mean)))


def _made_of(methods: Sequence[Sequence[FinishedRun]]) -> str:
    """How many seeds, epochs and attacked images there are, for titles; one run may have more of them than another."""
    runs = [run for finished in methods for run in finished]
    epochs, images = [run.recipe.num_epochs for run in runs], [run.report.num_images for run in runs]
    seeds = [len(finished) for finished in methods]
    return f"{_range(seeds, 'seed')}\n{_range(epochs, 'epoch')}\n{_range(images, 'image')}"


def _range(numbers: Sequence[int], noun: str) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,} to {high:,} {noun}s" if low < high else f"{low:,} {noun}{'s' if low > 1 else ''}"
