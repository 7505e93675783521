"""Findings told from what stood clean and what the attacks left standing: where such figures mislead.

References:
    Athalye, Carlini, Wagner, "Obfuscated Gradients Give a False Sense of Security", 2018.
    Carlini et al., "On Evaluating Adversarial Robustness", 2019.
"""

from collections.abc import Iterator, Sequence

from smdguard.attacks import BIM, FGSM, PGD, RFGSM, Transfer
from smdguard.auditing.gradient_findings import GRADIENT_MASKING
from smdguard.auditing.outcomes import (
    MAX_P_VALUE,
    Outcome,
    comparison,
    is_gap,
    is_wide,
    p_value,
    strongest,
    with_and_without_gradients,
)
from smdguard.report import Finding, Interval
from smdguard.wording import percent

MIN_CLEAN_ACCURACY = 0.5


def sanity_findings(outcomes: Sequence[Outcome], clean: Interval) -> list[Finding]:
    """Everything about these outcomes that the audit's reader must know.

    Args:
        outcomes: What the attacks left standing, all at one radius.
        clean: Accuracy on the clean images.
    """
    return [
        *_gradient_masking(outcomes),
        *_indirect_beats_white_box(outcomes),
        *_single_step_beats_iterative(outcomes),
        *_random_start_beats_clean_start(outcomes),
        *_low_clean_accuracy(clean),
    ]


def _gradient_masking(outcomes: Sequence[Outcome]) -> Iterator[Finding]:
    """White-box attacks that the same attack, made elsewhere and transferred, beats; one at least by a clear gap."""
    beaten = []
    for direct in outcomes:
        rivals = [
            outcome
            for outcome in outcomes
            if isinstance(outcome.attack, Transfer) and outcome.attack.attack == direct.attack
        ]
        if direct.access == "white-box" and direct.num_attacked is None and rivals:
            best = strongest(rivals)
            if p_value(best.standing, direct.standing) < MAX_P_VALUE:
                beaten.append((direct, best))
    if any(is_gap(best.standing, direct.standing) for direct, best in beaten):
        named = "; ".join(
            f"{direct.attack.name} {percent(direct.robust_accuracy)} white-box, {percent(best.robust_accuracy)} "
            f"transferred from {best.source}"
            for direct, best in beaten
        )
        evidence = {
            "attacks": [
                {
                    "attack": repr(direct.attack),
                    "name": direct.attack.name,
                    "white_box": direct.robust_accuracy,
                    "transferred": best.robust_accuracy,
                    "source": best.source,
                    "p_value": p_value(best.standing, direct.standing),
                }
                for direct, best in beaten
            ]
        }
        message = (
            f"The model's gradients mislead attacks: {named}. The same attacks crafted elsewhere do better, so "
            "these white-box figures overstate robustness. Rely on the worst case, and add stronger attacks."
        )
        yield Finding(GRADIENT_MASKING, "high", message, evidence)


def _indirect_beats_white_box(outcomes: Sequence[Outcome]) -> Iterator[Finding]:
    """Attacks without the model's gradients that do better than all with them."""
    if pair := with_and_without_gradients(outcomes):
        best, rival = pair
        chance = p_value(rival.standing, best.standing)
        # On few images a wide gap may be chance, and is worth a word all the same.
        if chance < MAX_P_VALUE or is_wide(rival.standing, best.standing):
            message = (
                f"{comparison(rival, best)}. {rival.description} does not use the whole model's gradients, so attacks "
                "that do are missing something. Rely on the worst case, and add stronger attacks."
            )
            evidence = {"indirect": rival.robust_accuracy, "white_box": best.robust_accuracy, "p_value": chance}
            severity = "high" if is_gap(rival.standing, best.standing) else "note"
            yield Finding("indirect_beats_white_box", severity, message, evidence)


def _single_step_beats_iterative(outcomes: Sequence[Outcome]) -> Iterator[Finding]:
    direct = [outcome for outcome in outcomes if outcome.uses_gradients and outcome.num_attacked is None]
    single = [outcome for outcome in direct if isinstance(outcome.attack, FGSM | RFGSM)]
    iterative = [outcome for outcome in direct if hasattr(outcome.attack, "num_steps")]
    if single and iterative:
        one, many = strongest(single), strongest(iterative)
        if is_gap(one.standing, many.standing):
            message = (
                f"{one.attack.name} with its single step leaves {percent(one.robust_accuracy)} standing, the best "
                f"iterative attack {percent(many.robust_accuracy)}. Iterative attacks are failing: their figures "
                "overstate robustness. Raise the number of steps or the step size."
            )
            evidence = {"single_step": one.robust_accuracy, "iterative": many.robust_accuracy}
            yield Finding("single_step_beats_iterative", "high", message, evidence)


def _random_start_beats_clean_start(outcomes: Sequence[Outcome]) -> Iterator[Finding]:
    """PGD differs from BIM in its start alone."""
    direct = [outcome for outcome in outcomes if outcome.uses_gradients and outcome.num_attacked is None]
    pairs = [
        (random, clean)
        for clean in direct
        for random in direct
        if type(clean.attack) is BIM and random.attack == PGD(**vars(clean.attack))
    ]
    for random, clean in pairs:
        if is_gap(random.standing, clean.standing):
            message = (
                f"From a random start PGD leaves {percent(random.robust_accuracy)} standing; from the clean image the "
                f"same steps (BIM) leave {percent(clean.robust_accuracy)}. The gradients at the clean images mislead "
                "attacks that start there. Rely on attacks with random starts, and add restarts."
            )
            evidence = {"random_start": random.robust_accuracy, "clean_start": clean.robust_accuracy}
            yield Finding("random_start_beats_clean_start", "medium", message, evidence)


def _low_clean_accuracy(clean: Interval) -> Iterator[Finding]:
    if clean.value < MIN_CLEAN_ACCURACY:
        message = (
            f"The model is right on {percent(clean.value)} of the clean images. If it should do better, the images may "
            "not be as it expects them (normalisation belongs in the model, and only once) or the labels may be in a "
            "different order."
        )
        yield Finding("low_clean_accuracy", "medium", message, {"clean_accuracy": clean.value})
