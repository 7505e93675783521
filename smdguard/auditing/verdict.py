"""The verdict on an audit's worst case, and the sentence that says why."""

from collections.abc import Sequence

from smdguard.auditing.gradients import GradientHealth
from smdguard.auditing.outcomes import Outcome, comparison, is_gap, percent, strongest
from smdguard.report import Interval, Verdict
from smdguard.threat import ThreatModel


def judge(
    outcomes: Sequence[Outcome],
    threat: ThreatModel,
    health: GradientHealth | None,
    *,
    clean: Interval,
    worst: Interval,
    too_weak: bool = False,
    partial: bool = False,
) -> tuple[Verdict, str]:
    """The verdict, and the reason for it.

    Args:
        outcomes: What the attacks left standing.
        threat: The audit's threat model.
        health: Of the model's input gradients; None where it has none.
        clean: Accuracy on the clean images.
        worst: Share of the images that stood against every attack.
        too_weak: Whether a plain attack on a part of the images outdid all of them.
        partial: Whether the audit was stopped before all attacks were made.
    """
    at_radius = [outcome for outcome in outcomes if outcome.epsilon == threat.epsilon]
    direct = [outcome for outcome in at_radius if outcome.uses_gradients]
    indirect = [outcome for outcome in at_radius if not outcome.uses_gradients]
    radius = f"{threat.norm} {threat.epsilon:.3g}"
    if direct and indirect:
        best, rival = strongest(direct), strongest(indirect)
        if is_gap(rival.standing, best.standing):
            return "unreliable", (
                f"{comparison(rival, best)} at {radius}: white-box attacks are being misled, so the true figure is "
                f"likely below the {percent(worst.value)} of the worst case."
            )
    if (health is None or health.broken) and not any(outcome.attack.requires == "scores" for outcome in at_radius):
        lacking = "cannot be had" if health is None else "are zero, not finite or random"
        return "unreliable", (
            f"the model's input gradients {lacking}, and no gradient-free attack was run: the true figure is likely "
            f"below the {percent(worst.value)} of the worst case."
        )
    if worst.low < clean.value / 2:
        return "fragile", (
            f"an adversary who may change images by {radius} brings the accuracy from {percent(clean.value)} down to "
            f"{percent(worst.value)} or less."
        )
    if too_weak:
        return "unreliable", (
            f"one longer run of PGD on a part of the images outdid all attacks at {radius}: they are too weak for this "
            f"model, and the true figure is likely far below the {percent(worst.value)} of the worst case."
        )
    if partial:
        return "unreliable", (
            "the audit was stopped before all attacks were made: the true figure may lie far below "
            f"{percent(worst.value)}."
        )
    return "robust", (
        f"{percent(worst.value)} of the images stand against every attack tried at {radius}, of "
        f"{percent(clean.value)} classified rightly when clean; attacks that nobody tried may do better."
    )
