"""Can the figures be trusted? Findings after Athalye et al. 2018 and Pintor et al. 2022, and the verdict.

References:
    Athalye, Carlini, Wagner, "Obfuscated Gradients Give a False Sense of Security", 2018.
    Pintor et al., "Indicators of Attack Failure: Debugging and Improving Optimization of Adversarial Examples", 2022.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from smdguard.attacks import Attack, Model, Transfer
from smdguard.attacks.losses import cross_entropy_direction
from smdguard.auditing.statistics import paired_p_value
from smdguard.report import Access, Finding, Interval, Verdict
from smdguard.threat import ThreatModel

MIN_GAP = 0.05
MAX_P_VALUE = 0.01
MAX_BROKEN_GRADIENTS = 0.01


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
        return self.standing.double().mean().item()


@dataclass(frozen=True)
class GradientHealth:
    """Shares of the images whose input gradient is zero, not finite, or another one when asked again."""

    zero: float
    not_finite: float
    random: float

    @property
    def broken(self) -> bool:
        """Whether gradient attacks cannot be expected to work."""
        return max(self.zero, self.not_finite, self.random) > MAX_BROKEN_GRADIENTS


def gradient_health(model: Model, images: Iterable[Tensor], labels: Iterable[Tensor]) -> GradientHealth:
    """Look at the input gradients of clean images, given in batches, twice."""
    zero, not_finite, random = [], [], []
    for batch, truth in zip(images, labels, strict=True):
        first, second = _input_gradient(model, batch, truth), _input_gradient(model, batch, truth)
        largest = first.flatten(1).abs().amax(dim=1)
        difference = (first - second).flatten(1).abs().amax(dim=1)
        zero.append(largest == 0)
        not_finite.append(~first.flatten(1).isfinite().all(dim=1))
        random.append(difference > 1e-3 * largest)
    return GradientHealth(*(torch.cat(part).double().mean().item() for part in (zero, not_finite, random)))


def sanity_findings(outcomes: Sequence[Outcome], epsilon: float, health: GradientHealth) -> list[Finding]:
    """Everything about these outcomes at the audit's radius that its reader must know, gravest first."""
    at_radius = [outcome for outcome in outcomes if outcome.epsilon == epsilon]
    return [*_gradient_masking(at_radius), *_broken_gradients(health), *_single_step_beats_iterative(at_radius)]


def judge(
    outcomes: Sequence[Outcome], threat: ThreatModel, health: GradientHealth, *, clean: Interval, worst: Interval
) -> tuple[Verdict, str]:
    """The verdict on the worst case, and the sentence that says why."""
    at_radius = [outcome for outcome in outcomes if outcome.epsilon == threat.epsilon]
    direct = [outcome for outcome in at_radius if outcome.access == "white-box" and _uses_gradients(outcome)]
    indirect = [outcome for outcome in at_radius if outcome not in direct]
    radius = f"{threat.norm} {threat.epsilon:.3g}"
    if direct and indirect:
        best, rival = min(direct, key=_accuracy), min(indirect, key=_accuracy)
        if _beats(rival, best):
            return "unreliable", (
                f"{_described(rival)} leaves {_percent(rival.robust_accuracy)} standing at {radius}, the best "
                f"white-box attack {_percent(best.robust_accuracy)}: white-box attacks are being misled, so the "
                f"true figure is likely below the {_percent(worst.value)} of the worst case."
            )
    if health.broken and not any(outcome.attack.requires == "scores" for outcome in at_radius):
        return "unreliable", (
            "the model's input gradients are zero, not finite or random, and no gradient-free attack was run: "
            f"the true figure is likely below the {_percent(worst.value)} of the worst case."
        )
    if worst.low >= clean.value / 2:
        return "robust", (
            f"{_percent(worst.value)} of the images stand against every attack tried at {radius}, of "
            f"{_percent(clean.value)} classified rightly when clean; attacks that nobody tried may do better."
        )
    return "fragile", (
        f"an adversary who may change images by {radius} brings the accuracy from {_percent(clean.value)} down to "
        f"{_percent(worst.value)} or less."
    )


def _gradient_masking(outcomes: Sequence[Outcome]) -> Iterator[Finding]:
    """White-box attacks that the same attack, made elsewhere and transferred, beats."""
    overstated = []
    for direct in outcomes:
        rivals = [
            outcome
            for outcome in outcomes
            if isinstance(outcome.attack, Transfer) and outcome.attack.attack == direct.attack
        ]
        if direct.access == "white-box" and direct.num_attacked is None and rivals:
            best = min(rivals, key=_accuracy)
            if _beats(best, direct):
                overstated.append((direct, best))
    if overstated:
        named = "; ".join(
            f"{direct.attack.name} {_percent(direct.robust_accuracy)} white-box, {_percent(best.robust_accuracy)} "
            f"transferred from {best.source}"
            for direct, best in overstated
        )
        evidence = {
            "attacks": [
                {
                    "attack": repr(direct.attack),
                    "name": direct.attack.name,
                    "white_box": direct.robust_accuracy,
                    "transferred": best.robust_accuracy,
                    "source": best.source,
                    "p_value": _p_value(best, direct),
                }
                for direct, best in overstated
            ]
        }
        message = (
            f"The model's gradients mislead attacks: {named}. An adversary with less knowledge does better, so these "
            "white-box figures overstate robustness. Go by the worst case, and add stronger attacks."
        )
        yield Finding("gradient_masking", "high", message, evidence)


def _broken_gradients(health: GradientHealth) -> Iterator[Finding]:
    if health.broken:
        evidence = {"zero": health.zero, "not_finite": health.not_finite, "random": health.random}
        shares = ", ".join(f"{name.replace('_', ' ')} {_percent(share)}" for name, share in evidence.items())
        message = (
            f"Input gradients are unusable on too many images ({shares}). Gradient attacks fail on such a model "
            "without it being robust. Go by gradient-free and transferred attacks."
        )
        yield Finding("gradient_masking", "high", message, evidence)


def _single_step_beats_iterative(outcomes: Sequence[Outcome]) -> Iterator[Finding]:
    direct = [outcome for outcome in outcomes if outcome.access == "white-box" and outcome.num_attacked is None]
    single = [outcome for outcome in direct if not hasattr(outcome.attack, "num_steps") and _uses_gradients(outcome)]
    iterative = [outcome for outcome in direct if hasattr(outcome.attack, "num_steps")]
    if single and iterative:
        one, many = min(single, key=_accuracy), min(iterative, key=_accuracy)
        if _beats(one, many):
            message = (
                f"{one.attack.name} with its single step leaves {_percent(one.robust_accuracy)} standing, the best "
                f"iterative attack {_percent(many.robust_accuracy)}. Iterative attacks are failing: their figures "
                "overstate robustness. Raise the number of steps or the step size."
            )
            evidence = {"single_step": one.robust_accuracy, "iterative": many.robust_accuracy}
            yield Finding("single_step_beats_iterative", "high", message, evidence)


def _input_gradient(model: Model, images: Tensor, labels: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = images.detach().requires_grad_()
        return torch.autograd.grad(cross_entropy_direction(model(leaf), labels).sum(), leaf)[0]


def _uses_gradients(outcome: Outcome) -> bool:
    return outcome.attack.requires == "gradients"


def _beats(rival: Outcome, direct: Outcome) -> bool:
    """Whether the rival leaves at least five points less standing, by more than chance on the same images."""
    gap = direct.robust_accuracy - rival.robust_accuracy
    return gap >= MIN_GAP and _p_value(rival, direct) < MAX_P_VALUE


def _p_value(rival: Outcome, direct: Outcome) -> float:
    only_rival = int((direct.standing & ~rival.standing).sum())
    only_direct = int((rival.standing & ~direct.standing).sum())
    return paired_p_value(only_rival, only_direct)


def _accuracy(outcome: Outcome) -> float:
    return outcome.robust_accuracy


def _described(outcome: Outcome) -> str:
    where = "" if outcome.access == "white-box" else f" made on {outcome.source}"
    return f"{outcome.attack.name}{where}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
