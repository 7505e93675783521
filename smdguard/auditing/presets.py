"""Named sets of attacks."""

from collections.abc import Callable
from typing import Literal

from smdguard.attacks import BIM, FGSM, MIM, PGD, RFGSM, Attack

PresetName = Literal["quick", "paper"]


def _paper() -> list[Attack]:
    """The paper's five attacks with its settings: ten steps of epsilon / 10, last iterate of every image."""
    return [attack(early_stop=False) for attack in (FGSM, RFGSM, PGD, BIM, MIM)]


def _quick() -> list[Attack]:
    """The paper's five, each keeping its first success, and one PGD with enough steps to count."""
    return [FGSM(), RFGSM(), PGD(), BIM(), MIM(), PGD(num_steps=40, step_ratio=0.1, loss="cw")]


PRESETS: dict[PresetName, Callable[[], list[Attack]]] = {"quick": _quick, "paper": _paper}
