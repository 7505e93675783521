"""Image files, Pillow images and arrays -> arrays (C, H, W) of a model's shape with values in [0, 1]."""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import BinaryIO, Literal, NamedTuple, get_args

import numpy
from PIL import ExifTags, Image, ImageOps, ImageStat
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from smdguard.drawing import DIGIT_INK_SHARE, FILTER, fit_drawing
from smdguard.errors import ImageError, InvalidInputError

Mode = Literal["fit", "resize", "none"]
Crop = Callable[[Image.Image], Image.Image]

MAX_PIXELS = 16_000_000

_READERS = {b"\x89PNG\r\n\x1a\n": PngImageFile, b"\xff\xd8\xff": JpegImageFile}
_REFUSED = {b"GIF8": "GIF", b"BM": "BMP", b"RIFF": "WebP", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"%PDF": "PDF"}

# What makes an image upright again, by the orientation that EXIF gives it.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_WARNING_FILTERS = threading.Lock()


class ImageShape(NamedTuple):
    """What a model takes: channels (1 or 3), height and width in pixels."""

    channels: int
    height: int
    width: int


def decode(content: bytes, source: str) -> Image.Image:
    """Read a PNG or JPEG file of any mode: upright, 8 bits a channel, in Pillow's mode "L" or "RGB".

    The EXIF rotation is applied, 16-bit grey is divided by 257, and transparent pixels are laid on white where what is
    opaque is dark in the mean, else on black.

    Args:
        content: The whole file.
        source: What to call the image in messages, such as its path.

    Raises:
        ImageError: Neither PNG nor JPEG, damaged, without pixels, or of more than `MAX_PIXELS`, which is checked before
            any pixel is decoded.
    """
    reader = _reader(content, source)
    with _pillow(source):
        return _normalise(reader(BytesIO(content)), source)


def is_grey(file: BinaryIO, source: str) -> bool:
    """Whether a PNG or JPEG file is grey, by its header; no pixel is decoded.

    Palettes count as colours, and so does 16-bit grey with opacity, which Pillow reads as RGBA.

    Raises:
        ImageError: Neither PNG nor JPEG, or its header is damaged.
    """
    reader = _reader(file.read(max(map(len, _READERS))), source)
    file.seek(0)
    with _pillow(source):
        return Image.getmodebase(reader(file).mode) == "L"


def prepare(
    image: Image.Image,
    shape: ImageShape,
    mode: Mode,
    *,
    source: str,
    ink_share: float = DIGIT_INK_SHARE,
    crop: Crop | None = None,
) -> numpy.ndarray:
    """Bring an image to the model's shape: float32 (C, H, W) in [0, 1].

    Colours become grey by the ITU-R 601 luma where the model takes one channel. An image of the model's height and
    width is then taken as it is, whatever the mode. Any other one is, by mode:

    - "none": refused.
    - "resize": resized as a whole, its aspect ratio not kept.
    - "fit", three channels: cropped around its centre to the model's aspect ratio, and resized.
    - "fit", one channel: taken for a drawing or photo of one thing on an even ground, and treated as MNIST was made,
      see `smdguard.drawing.fit_drawing`. The same rule serves Fashion-MNIST, but its articles reach from edge to
      edge: an `ink_share` of 1.

    Args:
        image: Of any mode that Pillow converts to RGB, or 16-bit grey.
        shape: The model's.
        mode: See above.
        source: What to call the image in messages.
        ink_share: Longest side of the ink as a share of the model's size, in (0, 1]; MNIST's is 20/28.
        crop: What a model's own recipe does to an image of the model's channels, before anything else is.

    Raises:
        ImageError: The image cannot be read or converted, has no pixels or more than `MAX_PIXELS`, or in mode "none" is
            not of the model's size.
        InvalidInputError: An unknown mode.
    """
    _check_mode(mode)
    with _pillow(source):
        image = _normalise(image, source).convert("L" if shape.channels == 1 else "RGB")
        image = crop(image) if crop else image
    size = (shape.width, shape.height)
    if image.size == size:
        return _scaled(image)
    if mode == "none":
        raise ImageError(
            f"{source} is {image.width} x {image.height} pixels where the model takes {shape.width} x {shape.height}; "
            "resize it, or choose the mode 'fit' or 'resize' instead of 'none'"
        )
    if mode == "resize":
        # Without the gap, Pillow would first widen an image of 1 x 16,000,000 pixels at its full height.
        return _scaled(image.resize(size, FILTER, reducing_gap=3.0))
    if shape.channels == 1:
        return fit_drawing(image, shape.height, shape.width, ink_share)
    return _scaled(ImageOps.fit(image, size, FILTER))


def prepare_array(
    image: numpy.ndarray, shape: ImageShape, mode: Mode, *, source: str, ink_share: float = DIGIT_INK_SHARE
) -> numpy.ndarray:
    """Bring an array to the model's shape: float32 (C, H, W) in [0, 1].

    Args:
        image: 8-bit integers, or floats in [0, 1]; (H, W), (H, W, C) or (C, H, W) with C 1, 3, or 4 (RGB and opacity).
            One of the model's own channels, height and width is taken exactly as it is. Floats of any other size are
            rounded to 8 bits on the way.
        shape: The model's.
        mode: As in `prepare`.
        source: What to call the array in messages.
        ink_share: As in `prepare`.

    Raises:
        ImageError: As in `prepare`.
        InvalidInputError: Another type or shape, a value that is not finite or outside [0, 1], or an unknown mode.
    """
    _check_mode(mode)
    if image.dtype != numpy.uint8 and not numpy.issubdtype(image.dtype, numpy.floating):
        raise InvalidInputError(
            f"{source} holds values of type {image.dtype}; give 8-bit integers (numpy.uint8) or floats in [0, 1]"
        )
    pixels = _channels_first(image, shape, source)
    if image.dtype != numpy.uint8 and not ((pixels >= 0) & (pixels <= 1)).all():
        raise InvalidInputError(
            f"{source} holds values from {pixels.min():g} to {pixels.max():g}; floats have to lie in [0, 1], "
            "divide values of 8 bits by 255"
        )
    if pixels.shape == shape:
        floats = pixels.astype(numpy.float32, order="C")
        return floats / numpy.float32(255) if image.dtype == numpy.uint8 else floats
    if image.dtype != numpy.uint8:
        pixels = numpy.rint(pixels * 255).astype(numpy.uint8)
    picture = pixels[0] if len(pixels) == 1 else numpy.moveaxis(pixels, 0, -1)
    as_image = Image.fromarray(numpy.ascontiguousarray(picture))
    return prepare(as_image, shape, mode, source=source, ink_share=ink_share)


def _check_mode(mode: str) -> None:
    if mode not in get_args(Mode):
        raise InvalidInputError(f"mode must be one of {', '.join(get_args(Mode))}, not {mode!r}")


def _reader(content: bytes, source: str) -> type[PngImageFile | JpegImageFile]:
    """What reads a file that begins like this.

    Not Image.open: it guesses among all formats, and warns of large images instead of refusing them.

    Raises:
        ImageError: Nothing does.
    """
    if not content:
        raise ImageError(f"{source} is empty; give a PNG or JPEG image")
    reader = next((reader for signature, reader in _READERS.items() if content.startswith(signature)), None)
    if reader is None:
        raise ImageError(f"{source} is {_describe(content)}; only PNG and JPEG can be read, convert it to one of them")
    return reader


def _describe(content: bytes) -> str:
    """What a file is by its first bytes, for a message."""
    known = next((name for signature, name in _REFUSED.items() if content.startswith(signature)), None)
    return f"a {known} file" if known else f"not a known kind of image (it starts with {content[:8]!r})"


@contextmanager
def _pillow(source: str) -> Iterator[None]:
    """Work in Pillow: whatever it raises becomes an ImageError, and it warns of nothing.

    The lock is there because the filters of warnings belong to the whole process, not to one thread.
    """
    try:
        with _WARNING_FILTERS, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ImageError:
        raise
    # Damaged files make Pillow raise nearly anything: OSError, SyntaxError, ValueError, struct.error, ...
    except Exception as error:
        raise ImageError(
            f"{source} cannot be read: it is damaged, cut off, without pixels or of a rare kind ({error}); "
            "save it again as an 8-bit PNG or JPEG"
        ) from error


def _normalise(image: Image.Image, source: str) -> Image.Image:
    """Any image -> upright, opaque, in mode "L" or "RGB". To be called within `_pillow`."""
    num_pixels = image.width * image.height
    if not 0 < num_pixels <= MAX_PIXELS:
        raise ImageError(
            f"{source} is {image.width} x {image.height} pixels; give an image of at least one and at most "
            f"{MAX_PIXELS:,} pixels"
        )
    image = _upright(image)
    if image.mode == "F":
        raise ImageError(f"{source} has pixels that are not integers, whose range is not known; give it as an array")
    if image.mode.startswith("I"):
        image = _sixteen_to_eight_bits(image)
    if image.has_transparency_data:
        return _on_contrasting_ground(image.convert("RGBA"))
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF block says; one that cannot be read says nothing, and nothing else in it matters."""
    image.load()
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # As for whole images, nearly anything.
        return image
    if orientation not in _TURNS:
        return image
    turned = image.transpose(_TURNS[orientation])
    # The rest would have it turned again.
    turned.info = {key: value for key, value in image.info.items() if key == "transparency"}
    return turned


def _sixteen_to_eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey -> mode "L", or "LA" where one value stands for transparent. Pillow itself would clip at 255."""
    values = numpy.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"grey values from {values.min()} to {values.max()} are beyond 16 bits")
    grey = Image.fromarray(((values.astype(numpy.uint32) + 128) // 257).astype(numpy.uint8))
    if "transparency" in image.info:
        grey.putalpha(Image.fromarray(values != image.info["transparency"]).convert("L"))
    return grey


def _on_contrasting_ground(image: Image.Image) -> Image.Image:
    """RGBA -> RGB: on white where the opaque part is dark in the mean, else on black, so that ink stays visible."""
    on_black = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image).convert("RGB")
    light, opacity = (ImageStat.Stat(band).mean[0] for band in (on_black.convert("L"), image.getchannel("A")))
    if light > opacity / 2:
        return on_black
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _scaled(image: Image.Image) -> numpy.ndarray:
    """Mode "L" or "RGB" -> float32 (C, H, W) in [0, 1]."""
    pixels = numpy.asarray(image).reshape(image.height, image.width, -1)
    return pixels.transpose(2, 0, 1).astype(numpy.float32, order="C") / numpy.float32(255)


def _channels_first(image: numpy.ndarray, shape: ImageShape, source: str) -> numpy.ndarray:
    """(H, W), (H, W, C) or (C, H, W) -> (C, H, W). The model's own shape is never taken for (H, W, C)."""
    if image.size and image.ndim == 2:
        return image[None]
    if image.size and image.ndim == 3:
        if image.shape == shape:
            return image
        if image.shape[2] in (1, 3, 4):
            return numpy.moveaxis(image, -1, 0)
        if image.shape[0] in (1, 3, 4):
            return image
    raise InvalidInputError(
        f"{source} has the shape {image.shape}; give one image, (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels"
    )
