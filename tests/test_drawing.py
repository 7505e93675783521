"""Drawings: the ink is told from its ground, sized and centred, whatever the paper and the light."""

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageDraw, ImageOps

from smdguard.preprocess import ImageShape, prepare, prepare_array
from tests.drawings import DRAWING, MNIST


def on_paper(light: numpy.ndarray, noise: float) -> Image.Image:
    """A 7 of black ink under an uneven light (150, 200), in a photo with noise."""
    grain = numpy.random.default_rng(0).normal(0, noise, light.shape)
    reflectance = 0.15 + 0.85 * numpy.asarray(DRAWING) / 255
    return Image.fromarray((reflectance * light + grain).clip(0, 255).astype(numpy.uint8))


@pytest.mark.parametrize("paper", ["noisy", "lit from the left", "lit from a corner", "dim", "vignetted"])
def test_fit_takes_the_paper_off(paper: str) -> None:
    down, right = numpy.meshgrid(numpy.linspace(-1, 1, 150), numpy.linspace(-1, 1, 200), indexing="ij")
    light = {
        "noisy": 225 + 0 * right,
        "lit from the left": 170 - 60 * right,
        "lit from a corner": 170 + 30 * right + 30 * down,
        "dim": 95 + 20 * right,
        "vignetted": 225 - 20 * (down**2 + right**2),
    }[paper]
    prepared = prepare(on_paper(light, noise=4), MNIST, "fit", source=paper)
    expected = prepare(DRAWING, MNIST, "fit", source="drawing")
    assert (prepared[expected == 0] > 0).mean() < 0.02
    assert numpy.abs(prepared - expected).mean() < 0.03


def test_fit_tells_ink_from_ground_where_the_ink_reaches_the_border() -> None:
    cropped = DRAWING.crop(ImageChops.invert(DRAWING).getbbox())
    expected = prepare(DRAWING, MNIST, "fit", source="drawing")
    for image in (cropped, ImageOps.invert(cropped)):
        numpy.testing.assert_allclose(prepare(image, MNIST, "fit", source="cropped"), expected, atol=0.05)


@pytest.mark.parametrize(
    ("level", "noise"), [(0, 0), (100, 0), (255, 0), (0, 3), (255, 3), (100, 1), (100, 10), (100, 20)]
)
def test_a_blank_image_gives_zeros(level: int, noise: float) -> None:
    grain = numpy.random.default_rng(0).normal(level, noise, (300, 400))
    assert not prepare_array(grain.clip(0, 255).astype(numpy.uint8), MNIST, "fit", source="blank").any()


def test_a_fully_transparent_image_is_blank() -> None:
    assert not prepare(Image.new("RGBA", (50, 50)), MNIST, "fit", source="glass").any()


@given(
    ellipses=st.lists(
        st.tuples(st.integers(40, 200), st.integers(40, 160), st.integers(8, 35), st.integers(8, 35)),
        min_size=1,
        max_size=5,
    ),
    dark=st.booleans(),
    height=st.integers(16, 64),
    width=st.integers(16, 64),
    share=st.sampled_from([20 / 28, 1.0]),
)
@settings(max_examples=60, deadline=None)
def test_fit_centres_the_ink_and_bounds_its_size(
    ellipses: list[tuple[int, int, int, int]], dark: bool, height: int, width: int, share: float
) -> None:
    image = Image.new("L", (240, 200), 255 if dark else 0)
    for x, y, a, b in ellipses:
        ImageDraw.Draw(image).ellipse((x - a, y - b, x + a, y + b), fill=0 if dark else 255)
    drawing = prepare(image, ImageShape(1, height, width), "fit", source="blobs", ink_share=share)[0]
    fills = []
    for length, mass in ((height, drawing.sum(axis=1)), (width, drawing.sum(axis=0))):
        inked = numpy.flatnonzero(mass)
        fills.append((inked[-1] + 1 - inked[0]) / length)
        centre = mass @ numpy.arange(length) / mass.sum()
        assert abs(centre - length / 2) <= 0.51 or inked[0] == 0 or inked[-1] == length - 1
    assert max(fills) == pytest.approx(share, abs=0.51 / min(height, width))
