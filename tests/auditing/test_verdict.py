"""What the verdict makes of what stands and of what speaks against it."""

from typing import Any

import pytest

from smdguard.attacks import PGD, Square
from smdguard.auditing.gradients import GradientHealth
from smdguard.auditing.outcomes import Outcome
from smdguard.auditing.statistics import wilson_interval
from smdguard.auditing.verdict import judge
from smdguard.report import Finding, Severity
from smdguard.threat import ThreatModel
from tests.auditing.planted_outcomes import EPSILON, NUM_IMAGES, USABLE, outcome


def judged(
    *outcomes: Outcome,
    health: GradientHealth | None = USABLE,
    found: str = "",
    severity: Severity = "high",
    clean: int = 190,
    worst: int = 160,
    num_images: int = NUM_IMAGES,
    partial: bool = False,
) -> tuple[str, str]:
    return judge(
        outcomes or [outcome(PGD(), worst), outcome(Square(), worst, pursued=True)],
        [Finding(found, severity, "")] if found else [],
        ThreatModel("linf", EPSILON),
        health,
        clean=wilson_interval(clean, num_images),
        worst=wilson_interval(worst, num_images),
        partial=partial,
    )


def test_what_stands_is_believed_where_nothing_speaks_against_it() -> None:
    assert judged()[0] == "robust"
    assert judged(found="too_few_steps", severity="note")[0] == "robust"
    # FGSM may be misled while stronger attacks are not.
    assert judged(found="gradient_masking")[0] == "robust"


# The lower bounds of 113 and 114 of 200 are 49.6 and 50.1 %, those of 88 and 89 are 37.3 and 37.8 %.
@pytest.mark.parametrize(("clean", "worst"), [(200, 114), (150, 89)])
def test_robust_is_what_certainly_keeps_half_of_the_clean_accuracy(clean: int, worst: int) -> None:
    assert judged(clean=clean, worst=worst)[0] == "robust"
    assert judged(clean=clean, worst=worst - 1)[0] == "fragile"


@pytest.mark.parametrize(
    ("doubt", "reason"),
    [
        ({"found": "attacks_too_weak"}, "checks failed (attacks_too_weak): the true figure may lie far below 80.0 %"),
        ({"health": None}, "gradients are not available, and attacks that do without them are weak"),
        (
            {"health": GradientHealth(0.02, 0.0, 0.0, 0.0)},
            "are zero, not finite, random or misleading, and attacks that do without",
        ),
        ({"partial": True}, "stopped before all attacks were made"),
    ],
)
def test_what_stands_is_not_believed_where_something_speaks_against_it(doubt: dict[str, Any], reason: str) -> None:
    verdict, why = judged(**doubt)
    assert verdict == "unreliable"
    assert reason in why
    # What has fallen has fallen all the same.
    assert judged(**doubt, worst=20)[0] == "fragile"


@pytest.mark.parametrize("found", ["random_output", "depends_on_batch"])
def test_what_fell_may_have_fallen_by_itself_where_answers_are_not_steady(found: str) -> None:
    verdict, reason = judged(found=found, worst=0)
    assert verdict == "unreliable"
    assert f"({found}): what fell at linf 0.1 may have fallen without any change" in reason


def test_attacks_without_gradients_that_do_better_make_the_figure_unreliable_unless_nothing_is_left() -> None:
    misled = outcome(PGD(), 60), outcome(Square(), 20, pursued=True)
    verdict, reason = judged(*misled, worst=20)
    assert verdict == "unreliable"
    assert "gradient attacks are being misled: at linf 0.1 the true figure is likely below the 10.0 %" in reason
    assert judged(*misled, worst=0)[0] == "fragile"


def test_a_model_that_is_never_right_is_not_robust() -> None:
    verdict, reason = judged(clean=0, worst=0)
    assert verdict == "unreliable"
    assert "right on none of the clean images" in reason


def test_few_images_tell_nothing_where_none_fell_and_enough_where_some_did() -> None:
    assert judged(clean=2, worst=2, num_images=2) == (
        "unreliable",
        "no attack fooled an image at linf 0.1, but the images are too few: the lower 95 % bound on the worst case is "
        "only 34.2 %.",
    )
    assert judged(clean=2, worst=1, num_images=2)[0] == "fragile"
    assert judged(clean=20, worst=20, num_images=20)[0] == "robust"
