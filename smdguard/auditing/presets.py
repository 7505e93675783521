"""Named sets of attacks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from smdguard.attacks import APGD, BIM, FGSM, MIM, PGD, RFGSM, Attack, MemberReweighing, Square

PresetName = Literal["quick", "standard", "paper"]


@dataclass(frozen=True)
class Preset:
    """Which attacks an audit makes.

    Args:
        attacks: Each made on all images, on the model and on every surrogate.
        pursuits: Stronger ones, each made on the model and only on the images that still stand after those before it.
    """

    attacks: tuple[Attack, ...]
    pursuits: tuple[Attack, ...] = ()


def _paper() -> Preset:
    """The paper's five attacks with its settings: ten steps of epsilon / 10, last iterate of every image."""
    return Preset(tuple(attack(early_stop=False) for attack in (FGSM, RFGSM, PGD, BIM, MIM)))


def _quick() -> Preset:
    """The paper's five, each image's first success kept, and short runs of two stronger attacks."""
    return Preset(_first_successes(), (APGD(num_steps=20), MemberReweighing(num_steps=20, member_shares=(0.5,))))


def _standard() -> Preset:
    """The paper's five, each image's first success kept, and full runs of what is known to be strong."""
    return Preset(_first_successes(), (MemberReweighing(), APGD(), APGD(loss="dlr"), Square(num_queries=1000)))


def _first_successes() -> tuple[Attack, ...]:
    return (FGSM(), RFGSM(), PGD(), BIM(), MIM())


PRESETS: dict[PresetName, Callable[[], Preset]] = {"quick": _quick, "standard": _standard, "paper": _paper}
