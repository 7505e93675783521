"""The figures of many runs: which there are, and that they show the runs' means, deviations and matrices."""

import io
import xml.etree.ElementTree as ElementTree

import numpy
import pytest
from PIL import Image

from smdguard.manifest import WORST_CASE
from smdguard.render.style import to_png, to_svg
from tests.training.finished_runs import finished_run
from training import figures
from training.figures import Family, accuracy_curves, draw_curves, draw_transfer, figure_files, transfer_matrices
from training.paper import RADII
from training.results import FinishedRun

THREE = Family(3, None)
FIRST = ((0.1, 0.6), (0.7, 0.0))
SECOND = ((0.3, 0.4), (0.7, 0.2))


@pytest.fixture(scope="module")
def runs() -> list[FinishedRun]:
    """Two seeds of one method on MNIST, and another method on two data sets."""
    return [
        finished_run("smd-lenet-mnist", white={"*": 0.2}, worst=0.1, transfer=FIRST, black={"smd-lenet-mnist-s1": 0.5}),
        finished_run("smd-lenet-mnist-s1", white={"*": 0.4}, worst=0.1, transfer=SECOND),
        finished_run("naive-lenet-mnist", white={"*": 0.1}),
        finished_run("naive-lenet-fashion-mnist", clean=0.9, white={"*": 0.0}),
        finished_run("naive-lenet-mnist-x5-eat", white={"*": 0.1}),
    ]


def test_every_figure_with_results_is_drawn(runs: list[FinishedRun], monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("png", "svg"):
        monkeypatch.setattr(figures, f"to_{kind}", lambda figure, kind=kind: kind.encode())
    attacks = ("fgsm", "r-fgsm", "pgd", "bim", "mim")
    names = [f"{attack}-white-box-{family}" for attack in attacks for family in ("x3", "x5-eat")]
    names += [f"{attack}-black-box-own-x3" for attack in attacks]
    names += ["worst-case-x3", "worst-case-x5-eat", "transfer-pgd-mnist-x3", "transfer-mim-mnist-x3"]
    assert figure_files(runs) == {f"{name}.{kind}": kind.encode() for name in names for kind in ("png", "svg")}
    assert figure_files([]) == {}


def test_equal_runs_give_equal_bytes(runs: list[FinishedRun]) -> None:
    panels = accuracy_curves(runs, THREE, "PGD", "white-box")
    first, second = (to_svg(draw_curves(panels, "PGD")) for _ in range(2))
    assert ElementTree.fromstring(first).tag == "{http://www.w3.org/2000/svg}svg"
    assert first == second


def test_curves_begin_at_the_clean_accuracy_and_have_a_band(runs: list[FinishedRun]) -> None:
    panels = accuracy_curves(runs, THREE, "PGD", "white-box")
    assert {dataset: [curve.method for curve in curves] for dataset, curves in panels.items()} == {
        "mnist": ["naive", "smd"],
        "fashion-mnist": ["naive"],
    }
    mnist, fashion = draw_curves(panels, "PGD").axes
    assert mnist.get_title() == "MNIST, 1 to 2 seeds\n50 epochs\n1,000 images"
    assert fashion.get_title() == "Fashion-MNIST, 1 seed\n50 epochs\n1,000 images"
    _, smd = mnist.lines
    assert list(smd.get_xdata()) == [0.0, *RADII]
    assert smd.get_ydata()[0] == pytest.approx(99.0)
    assert smd.get_ydata()[-1] == pytest.approx(30.0)
    # Of 20 and 40 % the deviation is 10 times the root of 2.
    band = mnist.collections[1].get_paths()[0].vertices
    at_last = band[numpy.isclose(band[:, 0], RADII[-1]), 1]
    assert [at_last.min(), at_last.max()] == pytest.approx([30 - 200**0.5, 30 + 200**0.5])


def test_runs_of_other_epochs_and_images_are_told_of() -> None:
    mixed = [
        finished_run("smd-lenet-mnist", transfer=FIRST, num_epochs=1, num_images=1),
        finished_run("smd-lenet-mnist-s1", transfer=SECOND, num_epochs=50, num_images=10_000),
        finished_run("naive-lenet-mnist-s1", num_epochs=2, num_images=100),
    ]
    told = "1 to 50 epochs\n1 to 10,000 images"
    curves = draw_curves(accuracy_curves(mixed, THREE, "PGD", "white-box"), "PGD")
    assert curves.axes[0].get_title() == f"MNIST, 1 to 2 seeds\n{told}"
    transfer = draw_transfer(transfer_matrices(mixed, THREE, "PGD", "mnist"), "PGD")
    assert transfer.axes[0].get_title() == f"SMD, 2 seeds\n{told}"


def test_every_method_has_a_colour_and_a_marker_of_its_own() -> None:
    looks = figures._LOOKS.values()
    assert len({colour for colour, _, _ in looks}) == len({marker for _, marker, _ in looks}) == 6


def test_black_box_curves_are_of_the_runs_that_have_the_surrogate(runs: list[FinishedRun]) -> None:
    (curve,) = accuracy_curves(runs, THREE, "FGSM", "black-box-own")["mnist"]
    assert (len(curve.runs), curve.points[RADII[-1]].mean) == (1, pytest.approx(50.0))
    assert accuracy_curves(runs, THREE, "FGSM", "black-box-naive") == {}


def test_the_worst_case_has_a_figure(runs: list[FinishedRun]) -> None:
    _, smd = accuracy_curves(runs, THREE, WORST_CASE, "white-box")["mnist"]
    assert smd.points[RADII[-1]].mean == pytest.approx(10.0)


def test_matrices_show_mean_and_deviation_over_the_seeds(runs: list[FinishedRun]) -> None:
    matrices = transfer_matrices(runs, THREE, "PGD", "mnist")
    assert list(matrices) == ["smd"]
    axes = draw_transfer(matrices, "PGD").axes[0]
    assert axes.get_title() == "SMD, 2 seeds\n50 epochs\n1,000 images"
    # Deviations of (10, 30), (60, 40), (70, 70) and (0, 20) in points.
    assert [text.get_text() for text in axes.texts] == ["20 %\n±14.1", "50 %\n±14.1", "70 %\n±0.0", "10 %\n±14.1"]
    single = draw_transfer({"smd": matrices["smd"][:1]}, "PGD").axes[0]
    assert [text.get_text() for text in single.texts] == ["10 %", "60 %", "70 %", "0 %"]


def test_matrices_of_many_members_stay_off_the_edges() -> None:
    transfer = tuple(tuple(0.1 * abs(row - column) for column in range(5)) for row in range(5))
    runs = [finished_run(f"{method}-lenet-mnist-x5", transfer=transfer) for method in ("naive", "gal", "smd")]
    figure = draw_transfer(transfer_matrices(runs, Family(5, None), "PGD", "mnist"), "PGD crafted on one member\nMNIST")
    inked = numpy.asarray(Image.open(io.BytesIO(to_png(figure))).convert("L")) < 250
    rows, columns = numpy.flatnonzero(inked.any(axis=1)), numpy.flatnonzero(inked.any(axis=0))
    height, width = inked.shape
    assert min(rows[0], columns[0], height - 1 - rows[-1], width - 1 - columns[-1]) >= 3
