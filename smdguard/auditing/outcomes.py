"""What each attack of an audit left standing, and which of two attacks did better."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from torch import Tensor

from smdguard.attacks import Attack
from smdguard.auditing.statistics import paired_p_value, share_of
from smdguard.report import Access
from smdguard.wording import percent

MIN_GAP = Fraction(5, 100)
MAX_P_VALUE = 0.01


@dataclass(frozen=True)
class Outcome:
    """What an attack left standing.

    Args:
        attack: The attack.
        access: How it was made.
        source: What it was made on.
        epsilon: Radius it was made for.
        standing: bool (B,), never true where the clean image was wrong already.
        num_attacked: For an attack that pursued only what others had left standing, how many images that were;
            `standing` is then what stands after all of them.
    """

    attack: Attack
    access: Access
    source: str
    epsilon: float
    standing: Tensor
    num_attacked: int | None = None

    @property
    def robust_accuracy(self) -> float:
        """Share of the images still standing."""
        return share_of(self.standing)

    @property
    def uses_gradients(self) -> bool:
        """Whether it was made along the audited model's own gradients."""
        return self.access == "white-box" and self.attack.requires == "gradients"

    @property
    def description(self) -> str:
        """Its name, and what it was made on where that is not the audited model."""
        return self.attack.name if self.access == "white-box" else f"{self.attack.name} crafted on {self.source}"


def strongest(outcomes: Iterable[Outcome]) -> Outcome:
    """The one that leaves the fewest images standing."""
    return min(outcomes, key=lambda outcome: outcome.robust_accuracy)


def with_and_without_gradients(outcomes: Sequence[Outcome]) -> tuple[Outcome, Outcome] | None:
    """The strongest attack along the model's gradients, and the strongest other one; None where one kind is missing."""
    direct = [outcome for outcome in outcomes if outcome.uses_gradients]
    indirect = [outcome for outcome in outcomes if not outcome.uses_gradients]
    return (strongest(direct), strongest(indirect)) if direct and indirect else None


def comparison(rival: Outcome, other: Outcome) -> str:
    """What two attacks leave standing; one that pursued what the others left is not said to do so much alone."""
    left, others_left = percent(rival.robust_accuracy), percent(other.robust_accuracy)
    if rival.num_attacked is None:
        return f"{rival.description} leaves {left} standing, the best white-box gradient attack {others_left}"
    return (
        f"white-box gradient attacks leave {others_left} standing, and {rival.description}, run on those, leaves {left}"
    )


def worst_case(outcomes: Sequence[Outcome], clean: Tensor, epsilon: float) -> Tensor:
    """Which images no attack up to this radius fooled: what was found in a smaller ball lies in the larger one."""
    standing = clean
    for outcome in outcomes:
        if outcome.epsilon <= epsilon:
            standing = standing & outcome.standing
    return standing


def p_value(rival: Tensor, other: Tensor) -> float:
    """How likely chance alone would make the first of two attacks fool so many more: standing (B,), (B,) -> [0, 1]."""
    return paired_p_value(int((other & ~rival).sum()), int((rival & ~other).sum()))


def is_gap(rival: Tensor, other: Tensor) -> bool:
    """Whether the first leaves at least five points less standing, by more than chance on the same images."""
    return is_wide(rival, other) and p_value(rival, other) < MAX_P_VALUE


def is_wide(rival: Tensor, other: Tensor) -> bool:
    """Whether the first leaves at least five points less standing, be it by chance."""
    # Counted, because 0.85 - 0.8 is less than 0.05 in floating point.
    return int(other.sum()) - int(rival.sum()) >= MIN_GAP * len(other)
