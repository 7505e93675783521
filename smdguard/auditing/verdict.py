"""The verdict on an audit's worst case, and the sentence that says why."""

from collections.abc import Sequence

from smdguard.auditing.gradient_findings import GRADIENT_MASKING
from smdguard.auditing.gradients import GradientHealth
from smdguard.auditing.outcomes import Outcome, comparison, is_gap, with_and_without_gradients
from smdguard.report import DEPENDS_ON_BATCH, RANDOM_OUTPUT, Finding, Interval, Verdict
from smdguard.threat import ThreatModel
from smdguard.wording import percent

# Of 8-bit images: what changes a pixel by less is rounded away.
HALF_A_GREY_LEVEL = 0.5 / 255


def judge(
    outcomes: Sequence[Outcome],
    findings: Sequence[Finding],
    threat: ThreatModel,
    health: GradientHealth | None,
    *,
    clean: Interval,
    worst: Interval,
    partial: bool = False,
) -> tuple[Verdict, str]:
    """The verdict, and the reason for it.

    What was shown to fall has fallen, whatever else is wrong, unless the answers are not steady, or something stands
    while the gradients lead attacks astray; that much stands is believed only where nothing speaks against it.

    Args:
        outcomes: What the attacks left standing at the threat model's radius.
        findings: All of the audit.
        threat: The audit's threat model.
        health: Of the model's input gradients; None where it has none.
        clean: Accuracy on the clean images.
        worst: Share of the images that stood against every attack.
        partial: Whether the audit was stopped before all attacks were made.
    """
    radius = f"{threat.norm} {threat.epsilon:.3g}"
    fallen = (
        f"an adversary who may change images by up to {radius} brings the accuracy from {percent(clean.value)} down to "
        f"{percent(worst.value)}{' or less' if worst.value else ''}."
    )
    if clean.value == 0:
        return "unreliable", (
            "the model is right on none of the clean images, so there is nothing to attack: check the order of the "
            "labels and the normalisation."
        )
    if threat.epsilon == 0:
        return "unreliable", "a radius of 0 allows no change of an image, so nothing was attacked."
    if threat.epsilon < HALF_A_GREY_LEVEL:
        return "unreliable", f"at {radius} no pixel of an 8-bit image can become another, so nothing was tested."
    unsteady = [finding.check for finding in findings if finding.check in (RANDOM_OUTPUT, DEPENDS_ON_BATCH)]
    if unsteady:
        return "unreliable", (
            f"the model's outputs are not reproducible ({', '.join(unsteady)}): what fell at {radius} may have fallen "
            "without any change of its image."
        )
    if worst.value == 0:
        return "fragile", fallen
    if misled := _misled(outcomes, health):
        return "unreliable", (
            f"{misled}: at {radius} the true figure is likely below the {percent(worst.value)} of the worst case."
        )
    too_low = is_too_low(worst, clean)
    if too_low and worst.value < clean.value:
        return "fragile", fallen
    if doubt := _doubt(findings, health, partial=partial):
        return "unreliable", f"{doubt}: the true figure may lie far below {percent(worst.value)}."
    if too_low:
        return "unreliable", (
            f"no attack fooled an image at {radius}, but the images are too few: the lower 95 % bound on the worst "
            f"case is only {percent(worst.low)}."
        )
    return "robust", (
        f"{percent(worst.value)} of the images withstand every attack tried at {radius}, of {percent(clean.value)} "
        "classified correctly when clean; attacks that nobody tried may do better."
    )


def is_too_low(worst: Interval, clean: Interval) -> bool:
    """Whether too little stands to be called robust."""
    return worst.low < clean.value / 2


def _misled(outcomes: Sequence[Outcome], health: GradientHealth | None) -> str | None:
    """How the attacks show that those along the model's gradients go astray, if they do."""
    if pair := with_and_without_gradients(outcomes):
        best, rival = pair
        if is_gap(rival.standing, best.standing):
            return f"{comparison(rival, best)}, so white-box gradient attacks are being misled"
    do_without = any(each.access == "white-box" and each.attack.requires != "gradients" for each in outcomes)
    if _lacking(health) and not do_without:
        return f"the model's input gradients {_lacking(health)}, and no gradient-free attack was made on all images"
    return None


def _doubt(findings: Sequence[Finding], health: GradientHealth | None, *, partial: bool) -> str | None:
    """What speaks against believing that images stand, if anything does.

    Attacks that a transferred version beats are named by a finding; the stronger ones beside them count all the same.
    """
    if _lacking(health):
        return f"the model's input gradients {_lacking(health)}, and attacks that do without them are weak"
    grave = [finding.check for finding in findings if finding.severity == "high" and finding.check != GRADIENT_MASKING]
    if grave:
        return f"the audit's own checks failed ({', '.join(grave)})"
    return "the audit was stopped before all attacks were made" if partial else None


def _lacking(health: GradientHealth | None) -> str | None:
    if health is None:
        return "are not available"
    return "are zero, not finite, random or misleading" if health.broken else None
