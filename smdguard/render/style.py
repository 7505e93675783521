"""How figures look, and how they become files.

The colours are told apart by the colour-blind and keep their order when printed in grey.
"""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from smdguard.log_levels import errors_alone
from smdguard.render import fonts

BLUE, ORANGE = "#0072B2", "#D55E00"
# Letters need more contrast to white than lines do: 4.5 to 1.
DARK_ORANGE = "#B34700"
# From dark blue over grey to yellow: zero is grey, and lightness grows with the value.
SIGNED = "cividis"
_STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "white",
    "font.family": fonts.OWN,
    "font.size": 11,
    "grid.color": "#dddddd",
    "legend.frameon": False,
    "savefig.dpi": 200,
    "svg.fonttype": "path",
    # The same report gives the same bytes.
    "svg.hashsalt": "smdguard",
    # Names are the user's; a dollar sign in them is no formula.
    "text.parse_math": False,
}


@contextmanager
def styled() -> Iterator[None]:
    """Our style, whatever the user's own; a letter that no font has becomes a box without a warning."""
    # Of a font that has no bold letters, matplotlib logs that it takes others.
    quiet_fonts = errors_alone("matplotlib.font_manager")
    with style.context(["default", _STYLE]), warnings.catch_warnings(), quiet_fonts:
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def laid_out(figure: Figure) -> Figure:
    """With fonts for its letters, and its parts in their places for good: laid out anew, they would shift by a hair."""
    texts = figure.findobj(Text)
    families = fonts.families("".join(text.get_text() for text in texts))
    for text in texts:
        text.set_fontfamily(families)
    # The first time matrices, whose shape is fixed, are not yet where they end.
    for _ in range(2):
        figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def bare(axes: Axes) -> None:
    """Leave only what is drawn, for pictures: neither grid nor ticks."""
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def write_cells(
    axes: Axes, values: numpy.ndarray, texts: Sequence[Sequence[str]], *, dark_below: float, size: float
) -> None:
    """Write a text into the cell of each value, in white on the darker ones."""
    for row, line in enumerate(texts):
        for column, text in enumerate(line):
            colour = "white" if values[row, column] < dark_below else "black"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)


@styled()
def to_svg(figure: Figure) -> bytes:
    """The figure as SVG; equal figures give equal bytes."""
    return _saved(figure, "svg", {"Date": None, "Creator": None})


@styled()
def to_png(figure: Figure) -> bytes:
    """The figure as PNG; equal figures give equal bytes."""
    return _saved(figure, "png", {"Software": None})


def _saved(figure: Figure, kind: str, metadata: dict[str, None]) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, metadata=metadata)
    return stream.getvalue()
