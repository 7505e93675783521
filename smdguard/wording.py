"""How the sentences of a report write counts, shares and names."""

from collections.abc import Sequence


def counted(number: int, noun: str) -> str:
    """So many of something: 1 image, 2 images."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def percent(share: float, num_decimals: int = 1) -> str:
    """A share of one in percent: 62.0 %."""
    return f"{100 * share:.{num_decimals}f} %"


def quoted(name: str) -> str:
    """A name that may be any folder's, and so any word, told apart from the words around it."""
    return f'"{name}"'


def listed(names: Sequence[str]) -> str:
    """One name or more as a sentence lists them: A, B and C."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def images_of(num_images: int, dataset: str | None) -> str:
    """How many images of which data set, where it has a name."""
    images = counted(num_images, "image")
    return f"{images} of {quoted(dataset)}" if dataset else images
