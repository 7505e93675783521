"""Attacks of the user's own choice, checked before time is spent on them."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, get_args

from smdguard.attacks import Attack, Requirement, Transfer
from smdguard.auditing.preset_names import PresetName
from smdguard.errors import InvalidInputError

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
# What an audit reads of an attack beside calling it.
_PARTS = ("name", "requires", "needs_members")


def check_attacks(attacks: PresetName | Sequence[Attack]) -> None:
    """See that attacks given themselves are such as an audit can make.

    Raises:
        InvalidInputError: They are no list of attacks, there is none, or one of them is targeted or transferred,
            requires what is unknown, its repr is no more than its address, it cannot be hashed, or its early stop
            cannot be switched off.
    """
    if not isinstance(attacks, Sequence) or not attacks:
        raise InvalidInputError(f"attacks must be a preset's name or a list of attacks, not {attacks!r}")
    if isinstance(attacks, str):
        return
    for attack in attacks:
        if isinstance(attack, type) or not all(hasattr(attack, part) for part in _PARTS):
            raise InvalidInputError(f"every attack must be one such as PGD(), with {', '.join(_PARTS)}, not {attack!r}")
        if attack.requires not in get_args(Requirement):
            known = ", ".join(get_args(Requirement))
            raise InvalidInputError(f"requires of {attack!r} must be one of {known}, not {attack.requires!r}")
        # Draws and stored results go by the repr, and an address is another one in every run.
        if _ADDRESS.search(repr(attack)):
            raise InvalidInputError(
                f"the repr of an attack must be its settings, as a frozen dataclass's is, not {attack!r}, which holds "
                "an address in memory"
            )
        if not _is_hashable(attack):
            raise InvalidInputError(
                f"{attack!r} cannot be hashed; make the attack a dataclass with frozen=True, and with settings that "
                "can be hashed, such as tuples instead of lists"
            )
        if hasattr(attack, "early_stop") and not _can_go_on(attack):
            raise InvalidInputError(
                f"{attack!r} has an early_stop that dataclasses.replace cannot switch off, which an audit does in the "
                "end; make it a field of a dataclass, or give it another name"
            )
        if isinstance(attack, Transfer):
            raise InvalidInputError(
                f"{attack!r} is not for the audited model; give the attack itself, and the other model as one of the "
                "surrogates, on which attacks that need gradients, but for FAB and MORA, are crafted as well"
            )
        if getattr(attack, "targeted", False):
            raise InvalidInputError(
                f"{attack!r} would lead towards the true classes; leave targeted off, or use TargetedAPGD, which leads "
                "towards wrong ones"
            )


def _is_hashable(attack: Attack) -> bool:
    try:
        hash(attack)
    except TypeError:
        return False
    return True


def _can_go_on(attack: Any) -> bool:
    """Whether what follows an attack past its first success can be made of it."""
    return dataclasses.is_dataclass(attack) and any(
        field.name == "early_stop" and field.init for field in dataclasses.fields(attack)
    )
