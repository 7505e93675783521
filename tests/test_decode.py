"""Decoding: every kind of image file comes out as the same drawing, and every bad one as one clear line."""

import contextlib
import struct
import zlib
from io import BytesIO

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from smdguard.errors import ImageError
from smdguard.preprocess import decode, is_grey, prepare
from tests.drawings import DRAWING, MNIST, encode, seven


def png(width: int, height: int, bit_depth: int, colour: int, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG made by hand: `rows` are the bytes of each line, each behind a filter byte of 0."""
    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return content


def sixteen_bit_png(values: numpy.ndarray, colour: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """(H, W) or (H, W, channels) of 16-bit values -> a PNG of them."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png(values.shape[1], values.shape[0], 16, colour, rows, *chunks)


def sixteen_bits(image: Image.Image) -> numpy.ndarray:
    return numpy.asarray(image).astype(numpy.uint16) * 257


def with_opacity(ink: Image.Image, colour: tuple[int, ...]) -> Image.Image:
    """Ink (255 where it is) of a colour on a transparent sheet, in "LA" or "RGBA"."""
    mode = "L" if len(colour) == 1 else "RGB"
    image = Image.new(mode, ink.size, colour if mode == "RGB" else colour[0])
    image.putalpha(ink)
    return image


def transparent_palette() -> bytes:
    """Black ink, index 1, on a sheet of index 0 that is black as well but transparent."""
    image = Image.frombytes("P", (200, 150), (numpy.array(seven()) < 128).astype(numpy.uint8).tobytes())
    image.putpalette([0, 0, 0] * 2)
    return encode(image, transparency=bytes([0, 255]))


def grey_alpha_sixteen() -> bytes:
    ink = sixteen_bits(ImageOps.invert(seven()))
    return sixteen_bit_png(numpy.stack([numpy.zeros_like(ink), ink], axis=-1), colour=4)


def keyed_sixteen() -> bytes:
    """16-bit grey: ink at 10 on a sheet at 0 that is marked as transparent."""
    values = numpy.where(numpy.asarray(seven()) < 128, 10, 0)
    return sixteen_bit_png(values, 0, (b"tRNS", b"\0\0"))


INK = ImageOps.invert(DRAWING)
COLOUR = DRAWING.convert("RGB")

SAME_DRAWING = {
    "light on dark": encode(INK),
    "1 bit": encode(DRAWING.convert("1")),
    "2 bits": encode(DRAWING.convert("P", palette=Image.Palette.ADAPTIVE, colors=4)),
    "grey JPEG": encode(DRAWING, "JPEG", quality=95),
    "RGB": encode(COLOUR),
    "RGB JPEG": encode(COLOUR, "JPEG", quality=95),
    "progressive JPEG": encode(COLOUR, "JPEG", quality=95, progressive=True),
    "CMYK JPEG": encode(COLOUR.convert("CMYK"), "JPEG", quality=95),
    "palette": encode(COLOUR.convert("P")),
    "transparent palette": transparent_palette(),
    "transparent index": encode(INK.convert("P"), transparency=0),
    "transparent grey": encode(DRAWING, transparency=255),
    "transparent RGB": encode(COLOUR, transparency=(255, 255, 255)),
    "dark grey + alpha": encode(with_opacity(INK, (0,))),
    "light grey + alpha": encode(with_opacity(INK, (255,))),
    "dark RGBA": encode(with_opacity(INK, (40, 0, 60))),
    "light RGBA": encode(with_opacity(INK, (255, 250, 240))),
    "16-bit grey": sixteen_bit_png(sixteen_bits(DRAWING), colour=0),
    "16-bit grey + alpha": grey_alpha_sixteen(),
    "16-bit keyed grey": keyed_sixteen(),
    "16-bit RGB": sixteen_bit_png(sixteen_bits(COLOUR), colour=2),
    "faint": encode(seven(paper=180, ink=140)),
    "large": encode(DRAWING.resize((1600, 1200), Image.Resampling.BICUBIC)),
}


@pytest.mark.parametrize("name", SAME_DRAWING)
def test_every_kind_of_file_gives_the_same_drawing(name: str) -> None:
    expected = prepare(DRAWING, MNIST, "fit", source="drawing")
    actual = prepare(decode(SAME_DRAWING[name], name), MNIST, "fit", source=name)
    assert 0.05 < expected.mean() < 0.3
    numpy.testing.assert_allclose(actual, expected, atol=0.15)


@pytest.mark.parametrize("name", SAME_DRAWING)
def test_decode_gives_eight_bits_grey_or_colour_of_the_files_size(name: str) -> None:
    image = decode(SAME_DRAWING[name], name)
    assert image.mode in ("L", "RGB")
    assert image.size == ((1600, 1200) if name == "large" else (200, 150))


def test_the_header_alone_tells_grey_from_colour() -> None:
    def told(content: bytes) -> bool:
        cut_off = content[:-100]
        with pytest.raises(ImageError):
            decode(cut_off, "cut-off.png")
        return is_grey(BytesIO(cut_off), "cut-off.png")

    grey = {"light on dark", "1 bit", "grey JPEG", "transparent grey", "faint", "large"}
    grey |= {"dark grey + alpha", "light grey + alpha", "16-bit grey", "16-bit keyed grey"}
    assert {name for name, content in SAME_DRAWING.items() if told(content)} == grey
    with pytest.raises(ImageError, match=r"^a\.gif is a GIF file; only PNG and JPEG can be read"):
        is_grey(BytesIO(encode(DRAWING, "GIF")), "a.gif")


@pytest.mark.parametrize("adobe_transform", [0, 2])
def test_cmyk_and_ycck_jpegs_of_adobe_are_not_inverted(adobe_transform: int) -> None:
    # Pillow writes the complement, as Adobe does. Read as YCCK, 215 is the luma of a grey: C, M and Y are 255 - 40.
    image = Image.merge("CMYK", [Image.new("L", (16, 16), value) for value in (40, 127, 127, 20)])
    content = bytearray(encode(image, "JPEG", quality=100))
    content[content.index(b"Adobe") + 11] = adobe_transform
    expected = {0: (198, 118, 118), 2: (37, 37, 37)}[adobe_transform]
    assert decode(bytes(content), "cmyk.jpg").getpixel((8, 8)) == pytest.approx(expected, abs=3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_exif_orientation_is_applied(orientation: int, format: str) -> None:
    # How the pixels lie in the file where the viewer is told to turn them by each orientation.
    stored = {
        1: DRAWING,
        2: DRAWING.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: DRAWING.transpose(Image.Transpose.ROTATE_180),
        4: DRAWING.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: DRAWING.transpose(Image.Transpose.TRANSPOSE),
        6: DRAWING.transpose(Image.Transpose.ROTATE_90),
        7: DRAWING.transpose(Image.Transpose.TRANSVERSE),
        8: DRAWING.transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode(stored, format, exif=exif, **({"quality": 100} if format == "JPEG" else {}))
    upright = decode(content, "turned")
    assert upright.size == DRAWING.size
    assert numpy.abs(numpy.asarray(upright, int) - numpy.asarray(DRAWING, int)).max() < 12

    expected = prepare(DRAWING, MNIST, "resize", source="drawing")
    for image in (upright, Image.open(BytesIO(content))):  # turned once, never twice
        numpy.testing.assert_allclose(prepare(image, MNIST, "resize", source="turned"), expected, atol=0.05)


def test_a_damaged_exif_block_does_not_cost_the_image() -> None:
    # Pillow warns of it, which is an error in these tests.
    content = encode(DRAWING, "JPEG", quality=100, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01")
    assert decode(content, "photo.jpg").size == DRAWING.size


@pytest.mark.parametrize(
    "exif",
    [
        # The width as an integer of a type of its own, which cannot be written again.
        b"MM\0*\0\0\0\x08\0\x02\x01\0\0\x02\0\0\0\x01a\0\0\0\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0",
        b"no block at all",
    ],
    ids=["odd type", "no block"],
)
@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_nothing_else_in_an_exif_block_costs_the_image(format: str, exif: bytes) -> None:
    content = encode(DRAWING, format, exif=b"Exif\0\0" + exif)
    turned = exif.startswith(b"MM")
    assert decode(content, "photo").size == (DRAWING.size[::-1] if turned else DRAWING.size)


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    values = numpy.linspace(0, 65535, 28 * 28).reshape(28, 28).round().astype(numpy.uint16)
    prepared = prepare(decode(sixteen_bit_png(values, 0), "ramp.png"), MNIST, "none", source="ramp.png")
    numpy.testing.assert_allclose(prepared[0], values / 65535, atol=0.5 / 255 + 1e-6)


def jpeg_claiming(width: int, height: int) -> bytes:
    content = encode(DRAWING, "JPEG")
    frame = content.index(b"\xff\xc0")
    return content[: frame + 5] + struct.pack(">HH", height, width) + content[frame + 9 :]


SMALL_PNG, SMALL_JPEG = encode(DRAWING), encode(DRAWING, "JPEG")
BAD_FILES = {
    "empty": (b"", "is empty; give a PNG or JPEG"),
    "text": (b"hello, world\n", "starts with b'hello, w'"),
    "gif": (encode(DRAWING, "GIF"), "a GIF file; only PNG and JPEG"),
    "bmp": (encode(DRAWING, "BMP"), "a BMP file; only PNG and JPEG"),
    "tiff": (encode(DRAWING, "TIFF"), "a TIFF file; only PNG and JPEG"),
    "webp": (b"RIFF\x24\0\0\0WEBPVP8 ", "a WebP file; only PNG and JPEG"),
    "no pixels": (png(0, 0, 8, 0, b""), "without pixels"),
    "no pixels in a JPEG": (jpeg_claiming(0, 0), "without pixels"),
    "huge": (png(20_000, 20_000, 8, 0, b""), "20000 x 20000 pixels.*at most 16,000,000"),
    "huge beyond all reason": (png(2**31 - 1, 2**31 - 1, 8, 2, b""), "at most 16,000,000"),
    "huge JPEG": (jpeg_claiming(20_000, 20_000), "20000 x 20000 pixels.*at most 16,000,000"),
    "one row too many": (png(4000, 4001, 8, 0, b""), "4000 x 4001 pixels.*at most 16,000,000"),
    "cut PNG": (SMALL_PNG[: len(SMALL_PNG) // 2], "cut off"),
    "cut JPEG": (SMALL_JPEG[: len(SMALL_JPEG) * 3 // 4], "cut off"),
    "signature only": (SMALL_PNG[:8], "cut off"),
    "JPEG signature only": (SMALL_JPEG[:3], "cut off"),
    "a flipped bit": (SMALL_PNG[:60] + bytes([SMALL_PNG[60] ^ 1]) + SMALL_PNG[61:], "damaged"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_one_clear_line(name: str) -> None:
    content, message = BAD_FILES[name]
    with pytest.raises(ImageError, match=message) as refusal:
        decode(content, f"{name}.png")
    assert str(refusal.value).startswith(f"{name}.png ")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_a_damaged_file_is_read_or_refused_but_nothing_else(format: str, data: st.DataObject) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    content = bytearray(encode(DRAWING, format, exif=exif))
    for position in data.draw(st.lists(st.integers(8, len(content) - 1) | st.integers(8, 200), min_size=1, max_size=8)):
        content[position] = data.draw(st.integers(0, 255))
    content = bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    with contextlib.suppress(ImageError):
        assert decode(content, "damaged").mode in ("L", "RGB")
