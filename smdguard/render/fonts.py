"""Fonts of the figures: one that comes with matplotlib, and installed ones for the letters that it lacks."""

from array import array
from collections.abc import Iterable
from functools import cache

from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

OWN = "DejaVu Sans"


def families(text: str) -> list[str]:
    """The figures' own font and, for each letter that it lacks, an installed one, where there is any.

    Those with the most of these letters come first: what one font has of a script fits together.
    """
    chosen, lacking = [OWN], set(map(ord, text)).difference(_letters(OWN), map(ord, "\n"))
    found = _holders(lacking) if lacking else {}
    while any(found.values()):
        best = max(found, key=lambda family: len(found[family]))
        chosen.append(best)
        found = {family: letters - found[best] for family, letters in found.items()}
    return chosen


def _holders(letters: set[int]) -> dict[str, set[int]]:
    """What each family has of the letters, up to the first that has them all: none after it would be preferred."""
    found: dict[str, set[int]] = {}
    for family in _installed():
        found[family] = letters.intersection(_letters(family))
        if found[family] == letters:
            break
    return found


def _installed() -> list[str]:
    """Their families, plain ones first, without those that have a box for every letter there is."""
    names = {font.name for font in fontManager.ttflist if not font.name.startswith(("Last Resort", ".LastResort"))}
    return sorted(names, key=lambda name: ("Sans" not in name, name))


@cache
def _letters(family: str) -> Iterable[int]:
    """Those of a family, kept in little memory: to find its file and read it takes long where hundreds are installed.

    Empty where the file cannot be read, so that no font of the machine's keeps a report from being drawn.
    """
    try:
        return array("I", get_font(findfont(FontProperties(family=[family]))).get_charmap())
    except (OSError, RuntimeError):
        return ()
