"""Attacks that an audit cannot make are refused in one line, before anything is attacked."""

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from smdguard.attacks import APGD, FGSM, PGD, Square, TargetedAPGD, Transfer
from smdguard.auditing.attack_validation import check_attacks
from smdguard.errors import InvalidInputError
from tests.auditing.stripes import run, stripes_model


@dataclass(frozen=True)
class Unfinished:
    name: ClassVar[str] = "Unfinished"
    needs_members: ClassVar[bool] = False


@dataclass(frozen=True)
class Misspelt:
    name: ClassVar[str] = "Misspelt"
    requires: ClassVar[str] = "gradient"
    needs_members: ClassVar[bool] = False


REFUSED: list[tuple[Any, str]] = [
    (
        [FGSM(targeted=True)],
        r"^FGSM\(.*\) would lead towards the true classes; leave targeted off, or use TargetedAPGD",
    ),
    ([PGD(), APGD(targeted=True)], r"^APGD\(.*\) would lead towards the true classes"),
    ([Square(targeted=True)], r"^Square\(.*\) would lead towards the true classes"),
    ([Transfer("other", PGD())], r"^Transfer\(.*\) is not for the audited model; give the attack itself"),
    (FGSM(), r"^attacks must be a preset's name or a list of attacks, not FGSM\(loss='ce'"),
    (None, "^attacks must be a preset's name or a list of attacks, not None$"),
    ([], r"^attacks must be a preset's name or a list of attacks, not \[\]$"),
    ([FGSM(), PGD], r"^every attack must be one such as PGD\(\), with name, requires, needs_members, not <class"),
    (["FGSM"], r"^every attack must be one such as PGD\(\), with name, requires, needs_members, not 'FGSM'$"),
    (
        [Unfinished()],
        r"^every attack must be one such as PGD\(\), with name, requires, needs_members, not Unfinished\(\)$",
    ),
    ([Misspelt()], r"^requires of Misspelt\(\) must be one of gradients, scores, labels, not 'gradient'$"),
]


@pytest.mark.parametrize(("attacks", "message"), REFUSED)
def test_attacks_that_no_audit_can_make_are_refused(attacks: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        check_attacks(attacks)
    with pytest.raises(InvalidInputError, match=message):
        run(stripes_model(), attacks=attacks)


def test_an_attack_without_a_repr_of_its_own_is_refused() -> None:
    class Nameless:
        name, requires, needs_members = "nameless", "labels", False

    with pytest.raises(
        InvalidInputError, match=r"frozen dataclass's is, not <.*Nameless object at 0x\w+>, which holds"
    ):
        run(stripes_model(), attacks=[Nameless()])  # type: ignore[list-item]


@dataclass
class Thawed:
    num_steps: int = 3
    name: ClassVar[str] = "Thawed"
    requires: ClassVar[str] = "labels"
    needs_members: ClassVar[bool] = False


class NeverEnding:
    name, requires, needs_members, early_stop = "NeverEnding", "labels", False, True

    def __repr__(self) -> str:
        return "NeverEnding()"


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (Thawed(), r"^Thawed\(num_steps=3\) cannot be hashed; make the attack a dataclass with frozen=True"),
        (NeverEnding(), r"^NeverEnding\(\) has an early_stop that dataclasses.replace cannot switch off"),
    ],
)
def test_an_attack_that_would_fail_once_all_is_done_is_refused_at_first(attack: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        run(stripes_model(), attacks=[attack])


@pytest.mark.parametrize("attacks", ["standard", [FGSM(), TargetedAPGD()], (Square(),)])
def test_other_attacks_pass(attacks: Any) -> None:
    check_attacks(attacks)
