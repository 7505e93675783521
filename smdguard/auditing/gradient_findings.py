"""Findings told from the model's input gradients: where attacks that follow them can go wrong.

Reference:
    Athalye, Carlini, Wagner, "Obfuscated Gradients Give a False Sense of Security", 2018.
"""

import dataclasses
from collections.abc import Iterator, Sequence

from smdguard.auditing.gradients import GradientHealth
from smdguard.report import Finding
from smdguard.wording import percent

GRADIENT_MASKING = "gradient_masking"


def gradient_findings(health: GradientHealth | None) -> Iterator[Finding]:
    """Gradients that cannot be had, which is where there is no health of theirs, or cannot be used."""
    if health is None:
        message = (
            "The model gives no input gradients, so the strongest attacks could not be made on it, and those that do "
            "without find less. Audit the differentiable model behind it, or supply a surrogate."
        )
        yield Finding("no_gradients", "high", message)
    elif health.broken:
        evidence = dataclasses.asdict(health)
        shares = ", ".join(f"{name.replace('_', ' ')} {percent(share)}" for name, share in evidence.items())
        message = (
            f"Input gradients are unusable on too many images ({shares}). Gradient attacks may fail on such a model "
            "without it being robust. Rely on gradient-free and transferred attacks."
        )
        yield Finding(GRADIENT_MASKING, "high", message, evidence)


def blind_members(names: Sequence[str]) -> Iterator[Finding]:
    """Members without gradients among others that have them, which alone the attacks on the ensemble follow."""
    if names:
        message = (
            f"No input gradients come from {', '.join(names)}: attacks on the ensemble follow those of the other "
            "members alone, and find less. Audit differentiable members in their place."
        )
        yield Finding("blind_members", "high", message, {"num_blind": len(names)})
