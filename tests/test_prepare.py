"""Preparing: images and arrays come out in the model's shape, and those that cannot are refused in one line."""

import math
from io import BytesIO

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from smdguard.errors import ImageError, InvalidInputError
from smdguard.preprocess import MAX_PIXELS, ImageShape, Mode, decode, prepare, prepare_array
from tests.drawings import DRAWING, MNIST, encode, seven

CIFAR = ImageShape(3, 32, 32)
MODES = ("fit", "resize", "none")


@pytest.mark.parametrize("mode", MODES)
@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_an_image_of_the_models_size_is_taken_as_it_is(mode: Mode, data: st.DataObject) -> None:
    grey = data.draw(arrays.arrays(numpy.uint8, (28, 28)))
    colour = data.draw(arrays.arrays(numpy.uint8, (32, 32, 3)))
    expected_grey = grey[None].astype(numpy.float32) / numpy.float32(255)
    expected_colour = colour.transpose(2, 0, 1).astype(numpy.float32) / numpy.float32(255)
    from_file = prepare(decode(encode(Image.fromarray(grey)), "grey"), MNIST, mode, source="grey")
    numpy.testing.assert_array_equal(from_file, expected_grey)
    from_file = prepare(decode(encode(Image.fromarray(colour)), "colour"), CIFAR, mode, source="colour")
    numpy.testing.assert_array_equal(from_file, expected_colour)
    for array in (grey, grey[None], grey[..., None], expected_grey, expected_grey[0]):
        numpy.testing.assert_array_equal(prepare_array(array, MNIST, mode, source="array"), expected_grey)
    for array in (colour, colour.transpose(2, 0, 1), expected_colour, expected_colour.transpose(1, 2, 0)):
        numpy.testing.assert_array_equal(prepare_array(array, CIFAR, mode, source="array"), expected_colour)


def test_grey_is_the_luma_of_itu_r_601() -> None:
    colours = numpy.zeros((28, 28, 3), numpy.uint8)
    colours[0, :3] = 255 * numpy.eye(3)
    prepared = prepare_array(colours, MNIST, "none", source="colours")
    numpy.testing.assert_allclose(prepared[0, 0, :3], [0.299, 0.587, 0.114], atol=1 / 255)


def test_none_refuses_any_other_size_and_names_both() -> None:
    with pytest.raises(ImageError, match=r"seven\.png is 200 x 150 pixels.*28 x 28.*'fit' or 'resize'"):
        prepare(DRAWING, MNIST, "none", source="seven.png")


def test_resize_keeps_the_ground_and_the_whole_image() -> None:
    quarters = numpy.kron(numpy.array([[0, 85], [170, 255]], numpy.uint8), numpy.ones((150, 50), numpy.uint8))
    prepared = prepare_array(quarters, MNIST, "resize", source="quarters")[0]
    corners = prepared[[0, 0, -1, -1], [0, -1, 0, -1]]
    numpy.testing.assert_allclose(corners, [0, 1 / 3, 2 / 3, 1], atol=1e-6)


def test_a_crop_comes_first_and_its_failure_is_refused_by_name() -> None:
    quarters = numpy.kron(numpy.array([[0, 85], [170, 255]], numpy.uint8), numpy.ones((28, 28), numpy.uint8))
    image = Image.fromarray(quarters)
    prepared = prepare(image, MNIST, "none", source="quarters", crop=lambda image: image.crop((28, 0, 56, 28)))
    assert numpy.unique(prepared).tolist() == [numpy.float32(85 / 255)]

    def too_large(image: Image.Image) -> Image.Image:
        raise MemoryError

    with pytest.raises(ImageError, match="quarters cannot be read"):
        prepare(image, MNIST, "none", source="quarters", crop=too_large)


def test_resizing_is_antialiased() -> None:
    checks = numpy.indices((560, 560)).sum(0) % 2 * numpy.uint8(255)
    prepared = prepare_array(checks.astype(numpy.uint8), MNIST, "resize", source="checks")
    numpy.testing.assert_allclose(prepared, 0.5, atol=0.02)


@pytest.mark.parametrize("size", [(300, 100), (100, 300)])
def test_fit_crops_colour_images_around_their_centre(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, "red")
    left, top = (size[0] - 100) // 2, (size[1] - 100) // 2
    image.paste((0, 0, 255), (left, top, left + 100, top + 100))
    image.paste((0, 255, 0), (left + 45, top + 45, left + 55, top + 55))
    prepared = prepare(image, CIFAR, "fit", source="flag")
    assert prepared[0, 1:-1, 1:-1].max() == 0  # none of the red sides
    numpy.testing.assert_allclose(prepared[1, 15:17, 15:17], 1, atol=0.01)
    numpy.testing.assert_allclose(prepared[1], prepared[1, ::-1, ::-1], atol=0.01)


@given(
    width=st.integers(1, 80),
    height=st.integers(1, 80),
    kind=st.sampled_from(["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I;16", "I"]),
    shape=st.builds(ImageShape, st.sampled_from([1, 3]), st.integers(1, 40), st.integers(1, 40)),
    mode=st.sampled_from(["fit", "resize"]),
    seed=st.integers(0, 99),
)
@settings(max_examples=200, deadline=None)
def test_every_image_comes_out_in_the_models_shape_and_in_the_unit_interval(
    width: int, height: int, kind: str, shape: ImageShape, mode: Mode, seed: int
) -> None:
    if kind.startswith("I"):
        image = Image.new(kind, (width, height), seed * 600)
    else:
        num_bytes = len(Image.new(kind, (width, height)).tobytes())
        image = Image.frombytes(kind, (width, height), numpy.random.default_rng(seed).bytes(num_bytes))
    prepared = prepare(image, shape, mode, source=kind)
    assert (prepared.dtype, prepared.shape) == (numpy.float32, shape)
    assert prepared.flags.c_contiguous
    assert prepared.min() >= 0
    assert prepared.max() <= 1


@pytest.mark.parametrize("size", [(1, 16_000_000), (1_000_000, 16)])
@pytest.mark.parametrize("shape", [MNIST, CIFAR])
@pytest.mark.parametrize("mode", ["fit", "resize"])
def test_extreme_aspect_ratios(size: tuple[int, int], shape: ImageShape, mode: Mode) -> None:
    assert size[0] * size[1] == MAX_PIXELS
    assert prepare(Image.new("L", size, 200), shape, mode, source="thread").shape == shape


def test_prepare_leaves_the_image_alone() -> None:
    image = seven()
    prepare(image, MNIST, "fit", source="drawing")
    assert image == DRAWING


def test_a_pillow_image_is_held_to_the_same_limits() -> None:
    content = encode(DRAWING)
    with pytest.raises(ImageError, match="0 x 0 pixels"):
        prepare(Image.new("L", (0, 0)), MNIST, "fit", source="nothing")
    with pytest.raises(ImageError, match="4000 x 4001 pixels"):
        prepare(Image.new("1", (4000, 4001)), MNIST, "fit", source="large")
    with pytest.raises(ImageError, match="cut cannot be read"):
        prepare(Image.open(BytesIO(content[: len(content) // 2])), MNIST, "fit", source="cut")
    with pytest.raises(ImageError, match="beyond 16 bits"):
        prepare(Image.new("I", (9, 9), 70_000), MNIST, "fit", source="deep")
    with pytest.raises(ImageError, match=r"fractions has pixels that are not integers, .*; give it as an array"):
        prepare(Image.fromarray(numpy.full((9, 9), 0.5, numpy.float32)), MNIST, "fit", source="fractions")


@pytest.mark.parametrize("shape", [(28, 28), (60, 50), (1, 28, 28), (28, 28, 3)])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -0.01, 1.01, 255.0])
def test_an_array_outside_the_unit_interval_is_refused(shape: tuple[int, ...], bad: float) -> None:
    image = numpy.full(shape, 0.5)
    image.flat[7] = bad
    with pytest.raises(InvalidInputError, match=r"array holds values from .* to .*\[0, 1\]"):
        prepare_array(image, MNIST, "fit", source="array")


@pytest.mark.parametrize("dtype", [numpy.int64, numpy.uint16, bool, complex, object, str])
def test_an_array_of_another_type_is_refused(dtype: type) -> None:
    with pytest.raises(InvalidInputError, match=r"array holds values of type .*numpy\.uint8"):
        prepare_array(numpy.zeros((28, 28), dtype), MNIST, "fit", source="array")


@pytest.mark.parametrize("shape", [(), (28,), (0, 0), (0, 28, 3), (28, 28, 2), (5, 28, 28), (2, 1, 28, 28)])
def test_an_array_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError, match=r"array has the shape \(.*\(H, W\), \(H, W, C\) or \(C, H, W\)"):
        prepare_array(numpy.zeros(shape, numpy.uint8), MNIST, "fit", source="array")


@pytest.mark.parametrize("model", [MNIST, CIFAR])
@pytest.mark.parametrize("mode", ["fit", "resize"])
def test_an_array_means_the_same_as_the_image_it_holds(model: ImageShape, mode: Mode) -> None:
    colour = numpy.array(DRAWING.convert("RGB"))
    colour[40:90, 20:60] = numpy.random.default_rng(0).integers(0, 256, (50, 40, 3))
    expected = prepare(Image.fromarray(colour), model, mode, source="image")
    floats = (colour / 255).astype(numpy.float32)
    opaque = numpy.dstack([colour, numpy.full((150, 200), 255, numpy.uint8)])
    for array in (colour, colour.transpose(2, 0, 1), colour / 255, floats.transpose(2, 0, 1), opaque):
        numpy.testing.assert_array_equal(prepare_array(array, model, mode, source="array"), expected)


def test_the_models_own_shape_goes_before_channels_last() -> None:
    image = numpy.random.default_rng(0).random((3, 40, 3), numpy.float32)
    numpy.testing.assert_array_equal(prepare_array(image, ImageShape(3, 40, 3), "none", source="array"), image)


def test_float_arrays_of_the_models_shape_keep_their_precision_and_share_no_memory() -> None:
    image = numpy.full((28, 28), 0.123456789, numpy.float32)
    prepared = prepare_array(image, MNIST, "fit", source="array")
    numpy.testing.assert_array_equal(prepared[0], image)
    prepared[:] = 0
    assert image.min() > 0


def test_floats_are_rounded_not_cut_to_eight_bits() -> None:
    prepared = prepare_array(numpy.full((50, 40), 0.999), MNIST, "resize", source="array")
    numpy.testing.assert_array_equal(prepared, 1)


@pytest.mark.parametrize("size", [(28, 28), (50, 40)])
def test_an_unknown_mode_is_refused(size: tuple[int, int]) -> None:
    message = "mode must be one of fit, resize, none, not 'stretch'"
    with pytest.raises(InvalidInputError, match=message):
        prepare(Image.new("L", size), MNIST, "stretch", source="image")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidInputError, match=message):
        prepare_array(numpy.zeros(size), MNIST, "stretch", source="array")  # pyright: ignore[reportArgumentType]
