"""Settings with which an attack would do nothing, or could not run, are refused when it is made."""

from collections.abc import Callable
from typing import Any

import pytest

from smdguard.attacks import (
    APGD,
    BIM,
    FAB,
    FGSM,
    MIM,
    PGD,
    RFGSM,
    Attack,
    MemberReweighing,
    Square,
    TargetedAPGD,
    Unsuspicious,
)
from smdguard.errors import InvalidInputError

COUNTS: list[tuple[Callable[..., Attack], str]] = [
    (BIM, "num_steps"),
    (MIM, "num_steps"),
    (PGD, "num_steps"),
    (PGD, "num_restarts"),
    (APGD, "num_steps"),
    (APGD, "num_restarts"),
    (TargetedAPGD, "num_target_classes"),
    (TargetedAPGD, "num_restarts"),
    (MemberReweighing, "num_steps"),
    (FAB, "num_steps"),
    (FAB, "num_target_classes"),
    (Square, "num_queries"),
]


@pytest.mark.parametrize("value", [0, -1, 2.5, "10", None, True])
@pytest.mark.parametrize(("attack", "name"), COUNTS)
def test_a_count_is_a_whole_number_of_at_least_one(attack: Callable[..., Attack], name: str, value: object) -> None:
    with pytest.raises(InvalidInputError, match=f"^{name} of .* must be a whole number of at least 1, not {value!r}$"):
        attack(**{name: value})
    assert getattr(attack(**{name: 1}), name) == 1


@pytest.mark.parametrize("attack", [FGSM, RFGSM, BIM, PGD, MIM, APGD])
def test_an_unknown_loss_is_refused_where_it_is_named(attack: Callable[..., Attack]) -> None:
    with pytest.raises(InvalidInputError, match=r"^loss of .* must be one of ce, cw, dlr, sce, not 'xent'$"):
        attack(loss="xent")


@pytest.mark.parametrize("value", [0, -0.1, float("nan"), float("inf"), "0.1", None])
@pytest.mark.parametrize(
    ("attack", "name"),
    [(BIM, "step_ratio"), (PGD, "step_ratio"), (RFGSM, "random_ratio"), (Square, "initial_ratio")],
)
def test_a_ratio_is_positive_and_finite(attack: Callable[..., Attack], name: str, value: object) -> None:
    with pytest.raises(InvalidInputError, match=f"^{name} of .* must be a finite number above 0, not {value!r}$"):
        attack(**{name: value})


@pytest.mark.parametrize("value", [-3, float("nan"), float("inf"), "1"])
@pytest.mark.parametrize(("attack", "name"), [(MIM, "decay"), (Unsuspicious, "threshold")])
def test_a_decay_and_a_threshold_are_finite_and_not_negative(
    attack: Callable[..., Attack], name: str, value: object
) -> None:
    with pytest.raises(InvalidInputError, match=f"^{name} of .* must be a finite number of at least 0, not {value!r}$"):
        attack(**{name: value})
    assert getattr(attack(**{name: 0}), name) == 0


@pytest.mark.parametrize("ratio", [1, 1.5])
def test_a_random_step_leaves_one_along_the_gradient(ratio: float) -> None:
    with pytest.raises(InvalidInputError, match=f"^random_ratio of RFGSM must leave a step to take, not {ratio}$"):
        RFGSM(random_ratio=ratio)


@pytest.mark.parametrize("shares", [(), (0.5, 1.5), (-0.1,), [0.5], ("a",)])
def test_shares_of_members_are_shares(shares: Any) -> None:
    with pytest.raises(
        InvalidInputError, match=r"^member_shares of MemberReweighing must be a tuple of shares between 0"
    ):
        MemberReweighing(member_shares=shares)


def test_what_is_inherited_is_checked_too() -> None:
    with pytest.raises(InvalidInputError, match=r"^num_target_classes of Unsuspicious"):
        Unsuspicious(threshold=0.1, num_target_classes=0)
