"""Figures of a report: pure functions of its data, None where the report has no such data."""

import base64
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import PercentFormatter
from rich.cells import cell_len

from smdguard.errors import printable
from smdguard.render.style import BLUE, DARK_ORANGE, ORANGE, SIGNED, bare, laid_out, styled, to_png, to_svg, write_cells
from smdguard.report import AuditReport, CurvePoint, GalleryImage, Picture, SaliencyMaps
from smdguard.wording import counted, percent

_GALLERY_COLUMNS = 4
# Letters beside each other that fit above a picture, and into a legend; Chinese ones, and such, are as wide as two.
_LABEL_WIDTH, _LEGEND_WIDTH = 14, 40


@styled()
def accuracy_curve(report: AuditReport) -> Figure | None:
    """Accuracy against epsilon with its Wilson band, and an undefended baseline where there is one."""
    if len(report.whole_curve) < 2:
        return None
    figure = Figure(figsize=(4.6, 3.6), layout="constrained")
    axes = figure.subplots()
    _draw_curve(axes, report.whole_curve, _shortened(report.model), BLUE, "o-")
    if report.baseline is not None:
        _draw_curve(axes, report.baseline.curve, baseline_label(report), ORANGE, "s--")
    change = "largest change of a pixel" if report.threat.norm == "linf" else "length of the change"
    axes.set_xlabel(f"{change} (epsilon, {report.threat.norm})")
    axes.set_ylabel("accuracy in the worst case")
    axes.set_ylim(-0.02, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    # Left to find them, it would leave out names that begin with an underscore.
    figure.legend(axes.lines, [str(line.get_label()) for line in axes.lines], loc="outside upper left")
    return laid_out(figure)


def baseline_label(report: AuditReport) -> str:
    """What the baseline is called, with its attacks where they are not those of the report."""
    if report.baseline is None:
        return ""
    differs = f" (preset {report.baseline.preset})" if report.baseline.preset != report.preset else ""
    return f"{_shortened(report.baseline.name)}, undefended{differs}"


@styled()
def transfer_map(report: AuditReport) -> Figure | None:
    """How well each member stands images that were made to fool another one, as a heat map."""
    if report.transfer is None:
        return None
    figure = Figure(figsize=(4.2, 3.6), layout="constrained")
    axes = figure.subplots()
    shares = numpy.array(report.transfer.members)
    texts = [[percent(share, 0) for share in row] for row in shares]
    image = draw_matrix(axes, shares, texts, size=min(10, 45 / len(shares)))
    axes.set_ylabel("crafted on member")
    bar = figure.colorbar(image, label="accuracy", format=PercentFormatter(1.0, symbol=" %"))
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue] - the stub takes the outline for a property
    return laid_out(figure)


def draw_matrix(axes: Axes, shares: numpy.ndarray, texts: Sequence[Sequence[str]], size: float) -> AxesImage:
    """A transfer matrix (M, M) of accuracies, the target members from left to right, with a text in each cell."""
    image = axes.imshow(shares, cmap=SIGNED, vmin=0, vmax=1)
    write_cells(axes, shares, texts, dark_below=0.5, size=size)
    members = [str(index) for index in range(len(shares))]
    axes.set_xticks(range(len(shares)), members)
    axes.set_yticks(range(len(shares)), members)
    axes.set_xlabel("tried on member")
    bare(axes)
    return image


@styled()
def saliency_maps(report: AuditReport) -> Figure | None:
    """Where each member looks, a row an image, and the cosine of each pair of members."""
    if report.exhibits is None or not report.exhibits.saliency:
        return None
    rows = report.exhibits.saliency
    num_members = max(len(row.maps) for row in rows)
    labels = [_label(report, row.label) for row in rows]
    width = 1.05 * (num_members + 2) + 0.08 * max(cell_len(line) for label in labels for line in label.split("\n"))
    figure = Figure(figsize=(width, 1.05 * _tallness(rows[0].image) * len(rows) + 0.3), layout="constrained")
    grid = figure.subplots(len(rows), num_members + 2, squeeze=False)
    for row, all_axes, label in zip(rows, grid, labels, strict=True):
        _draw_saliency(row, list(all_axes), label)
    grid[0, 0].set_title("image", fontsize=9)
    for index in range(num_members):
        grid[0, index + 1].set_title(f"member {index}", fontsize=9)
    grid[0, -1].set_title("cosines", fontsize=9)
    return laid_out(figure)


@styled()
def gallery(report: AuditReport) -> Figure | None:
    """Images before and after the attack, the change between them, and the model's answers."""
    if report.exhibits is None or not report.exhibits.gallery:
        return None
    shown = report.exhibits.gallery
    num_columns = min(_GALLERY_COLUMNS, len(shown))
    num_blocks = -(-len(shown) // num_columns)
    height = 3.6 * _tallness(shown[0].clean) + 1.2
    figure = Figure(figsize=(1.25 * num_columns + 0.7, height * num_blocks), layout="constrained")
    for block, part in enumerate(figure.subfigures(num_blocks, 1, squeeze=False).flat):
        grid = part.subplots(3, num_columns, squeeze=False)
        for axes in grid.flat:
            axes.set_visible(False)
        specimens = shown[block * num_columns : (block + 1) * num_columns]
        for specimen, column in zip(specimens, grid.T, strict=False):
            _draw_specimen(report, specimen, list(column))
        for axes, name in zip(grid[:, 0], ("clean", "change", "attacked"), strict=True):
            _write_beside(axes, name)
    return laid_out(figure)


@styled()
def disagreement_histogram(report: AuditReport) -> Figure | None:
    """How far the members disagree, on clean images and on those that fool the ensemble."""
    if report.exhibits is None or report.exhibits.disagreement is None:
        return None
    values = report.exhibits.disagreement
    largest = max((*values.clean, *values.adversarial), default=0.0)
    bins = numpy.linspace(0, max(largest, 1e-6), 26).tolist()
    figure = Figure(figsize=(4.6, 3.4), layout="constrained")
    axes = figure.subplots()
    groups: list[tuple[str, tuple[float, ...], dict[str, Any]]] = [
        ("clean", values.clean, {"color": BLUE, "alpha": 0.8}),
        ("fooling", values.adversarial, {"facecolor": "none", "edgecolor": ORANGE, "hatch": "////"}),
    ]
    for name, scores, looks in groups:
        if scores:
            weights = [1 / len(scores)] * len(scores)
            axes.hist(scores, bins, weights=weights, label=f"{name}, {counted(len(scores), 'image')}", **looks)
    if report.suspicion is not None:
        axes.axvline(report.suspicion.threshold, color="black", linestyle=":", label="flagged beyond this")
    axes.set_xlabel("disagreement of the members (nats)")
    axes.set_ylabel("share of the images")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    figure.legend(loc="outside upper left")
    return laid_out(figure)


FIGURES: dict[str, Callable[[AuditReport], Figure | None]] = {
    "curve": accuracy_curve,
    "transfer": transfer_map,
    "saliency": saliency_maps,
    "gallery": gallery,
    "disagreement": disagreement_histogram,
}


def figure_names() -> set[str]:
    """The files of all figures that a report may have."""
    return {f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")}


def figure_files(report: AuditReport) -> dict[str, bytes]:
    """Every figure that the report has data for, as PNG and SVG: file name -> content."""
    files = {}
    for name, draw in FIGURES.items():
        figure = draw(report)
        if figure is not None:
            files |= {f"{name}.png": to_png(figure), f"{name}.svg": to_svg(figure)}
    return files


def class_name(report: AuditReport, label: int) -> str:
    """The name of a class where the report has it, else its number."""
    return report.class_names[label] if 0 <= label < len(report.class_names) else str(label)


def _label(report: AuditReport, label: int) -> str:
    """The name of a class, or its beginning, in at most two lines that are no wider than a picture."""
    name = printable(class_name(report, label))
    limit = _fitting(name, _LABEL_WIDTH)
    first, *others = textwrap.wrap(name, limit) or [""]
    if len(others) > 1:
        others = [f"{others[0][: limit - 1]}…"]
    return "\n".join([first, *others])


def _draw_curve(axes: Axes, curve: tuple[CurvePoint, ...], name: str, colour: str, line: str) -> None:
    radii = [point.epsilon for point in curve]
    low, high = [point.robust_accuracy.low for point in curve], [point.robust_accuracy.high for point in curve]
    axes.plot(radii, [point.robust_accuracy.value for point in curve], line, color=colour, label=name, markersize=5)
    axes.fill_between(radii, low, high, color=colour, alpha=0.2, linewidth=0)


def _draw_saliency(row: SaliencyMaps, all_axes: list[Axes], name: str) -> None:
    image_axes, *map_axes, cosine_axes = all_axes
    _show(image_axes, row.image)
    _write_beside(image_axes, name)
    for axes, saliency in zip(map_axes, row.maps, strict=False):
        axes.imshow(_pixels(saliency), cmap=SIGNED, vmin=1, vmax=255)
    cosines = numpy.eye(len(row.maps))
    cosines[numpy.triu_indices(len(row.maps), 1)] = row.cosines
    cosines += numpy.triu(cosines, 1).T
    cosine_axes.imshow(cosines, cmap=SIGNED, vmin=-1, vmax=1)
    texts = [[f"{cosine:.1f}" for cosine in line] for line in cosines]
    write_cells(cosine_axes, cosines, texts, dark_below=0.0, size=24 * min(1.0, _tallness(row.image)) / len(cosines))
    for axes in all_axes:
        axes.set_xticks([])
        axes.set_yticks([])
        bare(axes)


def _draw_specimen(report: AuditReport, specimen: GalleryImage, column: list[Axes]) -> None:
    clean, change, adversarial = column
    _show(clean, specimen.clean)
    change.imshow(_pixels(specimen.perturbation), cmap="gray", vmin=1, vmax=255)
    _show(adversarial, specimen.adversarial)
    clean.set_title(_answer(report, specimen.label, specimen.clean_probability), fontsize=9)
    answer = _answer(report, specimen.adversarial_label, specimen.adversarial_probability)
    if specimen.adversarial_label != specimen.label:
        adversarial.set_xlabel(f"taken for\n{answer}", fontsize=9, color=DARK_ORANGE, weight="bold")
    else:
        adversarial.set_xlabel(f"still\n{answer}", fontsize=9, color=BLUE)
    for axes in column:
        axes.set_visible(True)
        axes.set_xticks([])
        axes.set_yticks([])
        bare(axes)


def _answer(report: AuditReport, label: int, probability: float) -> str:
    return f"{_label(report, label)}\n({percent(probability, 0)})"


def _write_beside(axes: Axes, text: str) -> None:
    """To the left of a picture, in lines that are read without turning the head and fit beside flat pictures."""
    axes.set_ylabel(text, rotation="horizontal", ha="right", va="center", fontsize=9)


def _show(axes: Axes, picture: Picture) -> None:
    axes.imshow(_pixels(picture), cmap="gray", vmin=0, vmax=255)


def _pixels(picture: Picture) -> numpy.ndarray:
    """(H, W), or (H, W, 3) where the picture has three channels; of any other number the mean."""
    levels = numpy.frombuffer(base64.b64decode(picture.pixels), numpy.uint8)
    levels = levels.reshape(picture.shape)
    return levels.transpose(1, 2, 0) if picture.channels == 3 else levels.mean(axis=0).round().astype(numpy.uint8)


def _tallness(picture: Picture) -> float:
    """Height over width, within what a figure can be laid out for."""
    return min(3.0, max(0.5, picture.height / picture.width))


def _shortened(name: str) -> str:
    """The name on one line of printable letters, its end where it is too long: paths differ there."""
    name = printable(name)
    limit = _fitting(name, _LEGEND_WIDTH)
    return name if len(name) <= limit else f"…{name[1 - limit :]}"


def _fitting(name: str, width: int) -> int:
    """How many of a name's letters fit into a width, by how wide they are on average."""
    return round(width * len(name) / max(1, cell_len(name))) or width
