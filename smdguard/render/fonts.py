"""Fonts of the figures: one that comes with matplotlib, and installed ones for the letters that it lacks."""

from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

OWN = "DejaVu Sans"


def families(text: str) -> list[str]:
    """The figures' own font and, for each letter that it lacks, an installed one, where there is any.

    Those with the most of these letters come first: what one font has of a script fits together.
    """
    chosen, lacking = [OWN], set(map(ord, text)) - _letters(OWN) - {ord("\n")}
    found = {family: lacking & _letters(family) for family in _installed()} if lacking else {}
    while any(found.values()):
        best = max(found, key=lambda family: len(found[family]))
        chosen.append(best)
        found = {family: letters - found[best] for family, letters in found.items()}
    return chosen


def _installed() -> list[str]:
    """Their families, plain ones first, without those that have a box for every letter there is."""
    names = {font.name for font in fontManager.ttflist if not font.name.startswith(("Last Resort", ".LastResort"))}
    return sorted(names, key=lambda name: ("Sans" not in name, name))


def _letters(family: str) -> set[int]:
    return set(get_font(findfont(FontProperties(family=[family]))).get_charmap())
