"""A drawing that tests share, files of images, and the shape that models of digits take them in."""

from io import BytesIO

from PIL import Image, ImageDraw

from smdguard.preprocess import ImageShape

MNIST = ImageShape(1, 28, 28)


def seven(size: tuple[int, int] = (200, 150), paper: int = 255, ink: int = 0) -> Image.Image:
    """A 7 drawn off the centre of a grey sheet."""
    image = Image.new("L", size, paper)
    ImageDraw.Draw(image).line([(50, 30), (110, 30), (75, 125)], fill=ink, width=12)
    return image


def encode(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    file = BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


DRAWING = seven()
