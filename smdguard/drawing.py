"""Drawings and photos of one thing on an even ground -> images such as MNIST's."""

import numpy
from PIL import Image

# A triangle as wide as the reduction: antialiased, and never beyond the values that it averages.
FILTER = Image.Resampling.BILINEAR

# Longest side of a digit in MNIST, of the image's.
DIGIT_INK_SHARE = 20 / 28
# Ink is looked for at this many times the model's size, which averages the grain of large photos.
_SEARCH_SCALE = 8
# Ink is further from the ground than this share of the furthest pixel, and this many standard deviations of its noise.
_INK_CONTRAST = 0.25
_INK_NOISE = 5


def fit_drawing(image: Image.Image, height: int, width: int, ink_share: float) -> numpy.ndarray:
    """The ink of an image, sized and centred as MNIST's digits are: float32 (1, H, W) in [0, 1], light on dark.

    The ground is a plane through the half of the border pixels nearest to their median, so the light may fall off to
    one side. The ink is what deviates from it, on the side that deviates more (the sign of the sum of cubes), by more
    than a quarter of the largest deviation and five times the border's noise. So dark on light and light on dark both
    come out light on dark. The ink's bounding box is resized to `ink_share` of the wanted size, scaled to a peak of 1,
    and placed with its centre of mass at the pixel (H/2, W/2), or as near as it stays inside. An image without ink
    gives zeros.

    Args:
        image: Of mode "L"; it is reduced in place.
        height: Wanted, in pixels.
        width: Wanted, in pixels.
        ink_share: Longest side of the ink as a share of the wanted size, in (0, 1].
    """
    canvas = numpy.zeros((1, height, width), numpy.float32)
    image.thumbnail((_SEARCH_SCALE * width, _SEARCH_SCALE * height), FILTER)
    ink = _ink(numpy.asarray(image, numpy.float32))
    if not ink.any():
        return canvas
    rows, columns = numpy.flatnonzero(ink.any(axis=1)), numpy.flatnonzero(ink.any(axis=0))
    box = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    drawing = _resize_within(box, ink_share * height, ink_share * width)
    drawing /= drawing.max()
    top = _start(drawing.sum(axis=1), height)
    left = _start(drawing.sum(axis=0), width)
    canvas[0, top : top + drawing.shape[0], left : left + drawing.shape[1]] = drawing
    return canvas


def _ink(grey: numpy.ndarray) -> numpy.ndarray:
    """How far each pixel of the ink is from the ground, and 0 for the ground: (H, W) -> (H, W), not negative."""
    ground, noise = _ground(grey)
    deviation = grey - ground
    # Cubes: a few far pixels of ink outweigh the many of a ground that is not quite a plane.
    if (deviation**3).sum() < 0:
        deviation = -deviation
    threshold = max(_INK_CONTRAST * deviation.max(), _INK_NOISE * noise)
    return numpy.where(deviation > threshold, deviation, 0).astype(numpy.float32)


def _ground(grey: numpy.ndarray) -> tuple[numpy.ndarray, float]:
    """Level of the ground at each pixel, (H, W), and its noise: a standard deviation of at least one grey level.

    A plane, least squares, through the half of the border pixels that is nearest to the border's median. Ink that
    reaches the border is left out as long as it covers less than half of it.
    """
    height, width = grey.shape
    vertical, horizontal = numpy.meshgrid(numpy.linspace(-1, 1, height), numpy.linspace(-1, 1, width), indexing="ij")
    positions = numpy.stack([numpy.ones_like(vertical), vertical, horizontal], axis=-1)
    on_border = numpy.ones(grey.shape, bool)
    on_border[1:-1, 1:-1] = False
    points, levels = positions[on_border], grey[on_border]
    calm = abs(levels - numpy.median(levels)).argsort(kind="stable")[: len(levels) // 2 + 1]
    plane = numpy.linalg.lstsq(points[calm], levels[calm])[0]
    # The standard deviation of a normal distribution is 1.4826 times its median distance from the mean.
    noise = 1.4826 * float(numpy.median(abs(levels - points @ plane)))
    return positions @ plane, max(1.0, noise)


def _resize_within(values: numpy.ndarray, height: float, width: float) -> numpy.ndarray:
    """Resize (H, W) to the largest size of the same aspect ratio within height and width, at least one pixel."""
    scale = min(height / values.shape[0], width / values.shape[1])
    rows, columns = (max(1, round(scale * length)) for length in values.shape)
    return numpy.array(Image.fromarray(values).resize((columns, rows), FILTER))


def _start(mass: numpy.ndarray, length: int) -> int:
    """Where to place a profile of mass along an axis, so that its centre is at `length / 2` and it stays inside."""
    centre = mass @ numpy.arange(len(mass)) / mass.sum()
    return int(numpy.clip(round(length / 2 - centre), 0, length - len(mass)))
