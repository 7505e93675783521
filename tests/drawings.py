"""A drawing that tests share."""

from PIL import Image, ImageDraw


def seven(size: tuple[int, int] = (200, 150), paper: int = 255, ink: int = 0) -> Image.Image:
    """A 7 drawn off the centre of a grey sheet."""
    image = Image.new("L", size, paper)
    ImageDraw.Draw(image).line([(50, 30), (110, 30), (75, 125)], fill=ink, width=12)
    return image


DRAWING = seven()
