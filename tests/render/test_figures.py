"""Figures: there where the report has data, the same bytes each time, showing the report's numbers."""

import base64
import dataclasses
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from dataclasses import astuple
from typing import Any

import numpy
import pytest
from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, findfont, get_font
from matplotlib.ft2font import FT2Font

from smdguard.render import figures, fonts
from smdguard.render.style import to_png, to_svg
from smdguard.report import AuditReport, Disagreement, Exhibits, Picture

ALL = {
    f"{name}.{kind}" for name in ("curve", "transfer", "saliency", "gallery", "disagreement") for kind in ("png", "svg")
}


def drawn(draw: Callable[[AuditReport], Figure | None], report: AuditReport) -> Figure:
    figure = draw(report)
    assert figure is not None
    return figure


@pytest.fixture
def only(full: AuditReport) -> Callable[..., AuditReport]:
    """The full report with other exhibits."""

    def replaced(**changes: Any) -> AuditReport:
        assert full.exhibits is not None
        return dataclasses.replace(full, exhibits=dataclasses.replace(full.exhibits, **changes))

    return replaced


@pytest.fixture(scope="module")
def files(full: AuditReport) -> dict[str, bytes]:
    return figures.figure_files(full)


def test_every_figure_is_written_as_png_and_svg(files: dict[str, bytes]) -> None:
    assert files.keys() == figures.figure_names() == ALL
    for name, content in files.items():
        if name.endswith(".png"):
            assert content.startswith(b"\x89PNG")
        else:
            assert ElementTree.fromstring(content).tag == "{http://www.w3.org/2000/svg}svg"
            assert b"<dc:date>" not in content


@pytest.mark.parametrize("name", figures.FIGURES)
def test_svg_is_the_same_each_time(files: dict[str, bytes], full: AuditReport, name: str) -> None:
    assert to_svg(drawn(figures.FIGURES[name], full)) == files[f"{name}.svg"]


def test_a_report_without_data_has_no_figures(bare: AuditReport) -> None:
    assert figures.figure_files(bare) == {}
    empty = dataclasses.replace(bare, exhibits=Exhibits((), (), None))
    assert figures.figure_files(empty) == {}


def test_a_single_radius_is_no_curve(full: AuditReport) -> None:
    assert figures.accuracy_curve(dataclasses.replace(full, curve=full.curve[:1])) is None


def test_curve_begins_with_the_clean_accuracy(full: AuditReport) -> None:
    (axes,) = drawn(figures.accuracy_curve, dataclasses.replace(full, curve=full.curve[1:])).axes
    assert list(zip(*axes.lines[0].get_data(), strict=True))[:2] == [(0.0, full.clean_accuracy.value), (0.1, 0.4)]


def test_curve_shows_both_models_with_bands(full: AuditReport) -> None:
    figure = drawn(figures.accuracy_curve, full)
    (axes,) = figure.axes
    model, baseline = axes.lines
    assert list(model.get_xdata()) == [0.0, 0.1, 0.2]
    assert list(model.get_ydata()) == [0.987, 0.4, 0.123]
    assert list(baseline.get_ydata()) == [0.99, 0.2, 0.0]
    assert full.baseline is not None
    for band, curve in zip(axes.collections, (full.curve, full.baseline.curve), strict=True):
        edges = {(point.epsilon, end) for point in curve for end in astuple(point.robust_accuracy)[1:]}
        assert set(map(tuple, band.get_paths()[0].vertices.tolist())) == edges  # type: ignore[union-attr]
    # Other attacks on the baseline than on the model: the figure by itself says so.
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "a-model",
        "naive-model, undefended (preset quick)",
    ]
    assert axes.get_xlabel() == "largest change of a pixel (epsilon, linf)"


def test_transfer_map_writes_each_share(full: AuditReport) -> None:
    axes = drawn(figures.transfer_map, full).axes[0]
    assert [text.get_text() for text in axes.texts][:4] == ["0 %", "80 %", "90 %", "70 %"]


def test_saliency_maps_show_symmetric_cosines(full: AuditReport) -> None:
    axes = drawn(figures.saliency_maps, full).axes
    assert len(axes) == 2 * 5
    assert [text.get_text() for text in axes[4].texts] == [
        "1.0",
        "0.5",
        "-0.2",
        "0.5",
        "1.0",
        "0.0",
        "-0.2",
        "0.0",
        "1.0",
    ]


def test_gallery_tells_fooled_from_standing(full: AuditReport) -> None:
    visible = [axes for axes in drawn(figures.gallery, full).axes if axes.get_visible()]
    assert len(visible) == 6 * 3
    answers = [axes.get_xlabel() for axes in visible if axes.get_xlabel()]
    assert answers[0] == "still\nT-shirt/top\n(60 %)"
    assert answers[2] == "taken for\nT-shirt/top\n(60 %)"


def test_the_change_is_shown_with_zero_in_grey(full: AuditReport, only: Callable[..., AuditReport]) -> None:
    assert full.exhibits is not None
    held = Picture(1, 1, 3, base64.b64encode(bytes([1, 128, 255])).decode())
    specimen = dataclasses.replace(full.exhibits.gallery[0], perturbation=held)
    _, change, _ = drawn(figures.gallery, only(gallery=(specimen,))).axes
    image = change.images[0]
    assert numpy.asarray(image.norm(image.get_array())).tolist() == [[0.0, 0.5, 1.0]]


def test_gallery_of_unknown_classes_shows_numbers(full: AuditReport) -> None:
    figure = drawn(figures.gallery, dataclasses.replace(full, class_names=()))
    assert figure.axes[0].get_title() == "0\n(90 %)"


# The figures' own font lacks all three; others that matplotlib brings have the first two.
JAPANESE, BRACKET, UNKNOWN = "\N{HIRAGANA LETTER NO}", "\N{TOP SQUARE BRACKET}", "\N{CJK UNIFIED IDEOGRAPH-4E2D}"

LONG_NAMES = (
    "American Staffordshire terrier, Staffordshire terrier, American pit bull terrier",
    "pneumonoultramicroscopicsilicovolcanoconiosis",
    "black-and-tan coonhound",
    "great white shark, white shark, man-eater",
    "German short-haired pointer",
    "Cardigan, Cardigan Welsh corgi",
)


@pytest.mark.parametrize("draw", [figures.gallery, figures.saliency_maps])
@pytest.mark.parametrize(("height", "width"), [(6, 5), (4, 8)])
def test_long_names_are_shortened_and_cover_nothing(
    full: AuditReport, only: Callable[..., AuditReport], draw: Callable[..., Figure | None], height: int, width: int
) -> None:
    assert full.exhibits is not None
    shown = Picture(1, height, width, base64.b64encode(bytes(height * width)).decode())
    report = dataclasses.replace(
        only(
            gallery=tuple(dataclasses.replace(one, clean=shown, adversarial=shown) for one in full.exhibits.gallery),
            saliency=tuple(dataclasses.replace(one, image=shown, maps=(shown,) * 3) for one in full.exhibits.saliency),
        ),
        class_names=LONG_NAMES,
    )
    figure = drawn(draw, report)
    texts = [text for axes in figure.axes for text in (axes.title, axes.xaxis.label, axes.yaxis.label)]
    texts = [text for text in texts if text.get_text()]
    assert any("American\nStaffordshire…" in text.get_text() for text in texts)
    boxes = [text.get_window_extent() for text in texts]
    pictures = [axes.get_window_extent() for axes in figure.axes if axes.get_visible()]
    for number, box in enumerate(boxes):
        assert not box.count_overlaps([*boxes[:number], *boxes[number + 1 :], *pictures])
        assert all(figure.bbox.contains(*corner) for corner in box.corners())


def test_names_that_no_space_divides_are_shortened_by_the_width_of_their_letters(full: AuditReport) -> None:
    terrier = "\u7f8e\u56fd\u65af\u5854\u798f\u90e1\u6897\u72ac"
    report = dataclasses.replace(full, model=5 * terrier, class_names=(3 * terrier, terrier))
    titles = [axes.get_title() for axes in drawn(figures.gallery, report).axes[:2]]
    assert titles == [f"{terrier[:7]}\n{(terrier[7:] + terrier)[:6]}…\n(90 %)", f"{terrier[:7]}\n{terrier[7:]}\n(90 %)"]
    assert drawn(figures.accuracy_curve, report).legends[0].get_texts()[0].get_text() == f"…{(5 * terrier)[-19:]}"


def test_names_are_neither_formulas_nor_hidden(full: AuditReport) -> None:
    report = dataclasses.replace(full, model="_own:$x_1$", class_names=("$x_1$", "_x_"))
    name, *_ = drawn(figures.accuracy_curve, report).legends[0].get_texts()
    title = drawn(figures.gallery, report).axes[0].title
    assert (name.get_text(), title.get_text()) == ("_own:$x_1$", "$x_1$\n(90 %)")
    assert not name.get_parse_math()
    assert not title.get_parse_math()


@pytest.mark.parametrize(("letter", "family"), [(JAPANESE, "STIXGeneral"), (BRACKET, "STIXSizeFiveSym")])
def test_a_letter_that_the_font_lacks_is_drawn_from_another(
    full: AuditReport, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, letter: str, family: str
) -> None:
    installed = [font for font in fonts.fontManager.ttflist if font.name in (fonts.OWN, family)]
    monkeypatch.setattr(fonts.fontManager, "ttflist", installed)
    assert fonts.families(f"cat\n{UNKNOWN}") == [fonts.OWN]
    report = dataclasses.replace(full, class_names=(letter, UNKNOWN))
    figure = drawn(figures.gallery, report)
    assert figure.axes[0].title.get_fontfamily() == [fonts.OWN, family]
    to_png(figure)
    # The bracket's font has no bold letters.
    assert caplog.records == []
    monkeypatch.setattr(fonts, "families", lambda _: [fonts.OWN])
    assert to_svg(figure) != to_svg(drawn(figures.gallery, report))


def test_of_fonts_the_one_with_the_most_letters_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    letters = {fonts.OWN: "ab", "A Sans": "xy", "B": "xyz", "C": "w", "Last Resort": "vwxyz"}
    monkeypatch.setattr(fonts, "_letters", lambda family: set(map(ord, letters[family])))
    monkeypatch.setattr(fonts.fontManager, "ttflist", [FontEntry(name=name) for name in letters])
    assert fonts.families("abx") == [fonts.OWN, "A Sans"]
    assert fonts.families("vwxyz") == [fonts.OWN, "B", "C"]


@pytest.fixture
def only_stix(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One font beside the figures' own is installed, and neither has been read."""
    installed = [font for font in fonts.fontManager.ttflist if font.name in (fonts.OWN, "STIXGeneral")]
    monkeypatch.setattr(fonts.fontManager, "ttflist", installed)
    fonts._letters.cache_clear()
    yield
    fonts._letters.cache_clear()


@pytest.mark.usefixtures("only_stix")
def test_each_font_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(fonts, "findfont", lambda wanted: read.append(wanted.get_name()) or findfont(wanted))
    assert fonts.families(UNKNOWN) == fonts.families(f"{UNKNOWN}x") == [fonts.OWN]
    assert read == [fonts.OWN, "STIXGeneral"]


@pytest.mark.parametrize("error", [OSError, RuntimeError])
@pytest.mark.usefixtures("only_stix")
def test_a_font_that_cannot_be_read_is_left_out(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def read(file: str) -> FT2Font:
        if "STIXGeneral" in file:
            raise error
        return get_font(file)

    monkeypatch.setattr(fonts, "get_font", read)
    assert fonts.families(JAPANESE) == [fonts.OWN]


def test_histogram_counts_shares(full: AuditReport, only: Callable[..., AuditReport]) -> None:
    figure = drawn(figures.disagreement_histogram, only(disagreement=Disagreement((0.0, 0.01, 0.1), (0.5,))))
    texts = {text.get_text() for text in figure.legends[0].get_texts()}
    assert texts == {"clean, 3 images", "fooling, 1 image", "flagged beyond this"}
    heights = [bar.get_height() for bar in figure.axes[0].patches]  # type: ignore[attr-defined]
    assert sum(heights) == pytest.approx(2)
    drawn(figures.disagreement_histogram, only(disagreement=Disagreement((0.0, 0.0), ())))
