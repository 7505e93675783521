"""Findings on an audit's attacks that need a few runs of their own, on a small part of the images.

References:
    Athalye, Carlini, Wagner, "Obfuscated Gradients Give a False Sense of Security", 2018.
    Pintor et al., "Indicators of Attack Failure: Debugging and Improving Optimization of Adversarial Examples", 2022.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from smdguard.attacks import APGD, BIM, MIM, PGD, Attack, BoundaryWalk, Model
from smdguard.attacks.attack import is_fooled
from smdguard.attacks.losses import cross_entropy_direction
from smdguard.auditing.outcomes import is_gap
from smdguard.auditing.statistics import share_of
from smdguard.report import Finding
from smdguard.threat import ThreatModel
from smdguard.wording import counted, percent

FEW_STEPS, MANY_STEPS, LAST_STEPS = 10, 40, 10
MAX_UNBOUNDED_SHARE = 0.1
MIN_SHARE = 0.05
MAX_LATE_GAIN = 0.1
UNBOUNDED = (PGD(num_steps=2 * FEW_STEPS), BIM(num_steps=2 * FEW_STEPS))
TRACED = PGD(num_steps=MANY_STEPS, early_stop=False)
SCALE_FREE = APGD(loss="sce", num_steps=50)
BOUNDARY_WALK = BoundaryWalk(num_steps=50)


def probe_gradient_attacks(
    model: Model,
    images: Tensor,
    labels: Tensor,
    threat: ThreatModel,
    attacks: Sequence[Attack],
    standing: Tensor,
    generator: torch.Generator,
) -> tuple[list[Finding], Tensor]:
    """What a long run of PGD tells about the attacks of an audit on a model with gradients.

    Args:
        model: The audited model.
        images: Some of the images (B, C, H, W).
        labels: Their classes (B,).
        threat: What the adversary may do.
        attacks: The audit's.
        standing: Which of these images they left standing, bool (B,).
        generator: Source of the random draws.

    Returns:
        The findings, and which of the images stand against the long run as well.
    """
    unbounded = list(_stands_at_any_distance(model, images, labels, threat, generator))
    trace = _Trace(model, images, labels)
    end = TRACED(trace, images, labels, threat, generator=generator)
    with torch.no_grad():
        trace(end)
        # Where the run ends as well: what it took for its first success may be none when the model is asked plainly.
        fooled = is_fooled(model(trace.fooling), labels) | is_fooled(model(end), labels)
    few_steps = any(
        getattr(attack, "num_steps", 1) <= FEW_STEPS for attack in attacks if attack.requires == "gradients"
    )
    last_iterate = any(isinstance(attack, PGD | BIM | MIM) and not attack.early_stop for attack in attacks)
    after = standing & ~fooled
    findings = [
        *unbounded,
        *attacks_too_weak(standing, after, f"PGD with {MANY_STEPS} steps"),
        *_more_steps_do_worse(trace),
        *(_success_lost_on_the_way(trace) if last_iterate else ()),
        *(_too_few_steps(trace) if few_steps else ()),
        *_loss_still_rising(trace),
    ]
    return findings, after


class _Trace:
    """Asks the model on behalf of an attack and writes down how each image fares from step to step.

    `right` and `loss` have one tensor (B,) for the start and one after each step; `fooling` is each image where it
    first fooled the model, or as it was.
    """

    def __init__(self, model: Model, images: Tensor, labels: Tensor) -> None:
        self._model, self._labels = model, labels
        self.right: list[Tensor] = []
        self.loss: list[Tensor] = []
        self.fooling, self._standing = images.clone(), torch.ones_like(labels, dtype=torch.bool)

    def __call__(self, images: Tensor) -> Tensor:
        logits = self._model(images)
        fooled = is_fooled(logits.detach(), self._labels)
        first, self._standing = fooled & self._standing, ~fooled & self._standing
        self.fooling[first] = images.detach()[first]
        self.right.append(~fooled)
        self.loss.append(cross_entropy_direction(logits.detach(), self._labels))
        return logits

    def standing(self, num_steps: int) -> Tensor:
        """Which images were right all the way through the first steps."""
        return torch.stack(self.right[: num_steps + 1]).all(dim=0)


def _stands_at_any_distance(
    model: Model, images: Tensor, labels: Tensor, threat: ThreatModel, generator: torch.Generator
) -> Iterator[Finding]:
    """With a radius as large as the box, every image can become any other.

    From a random point and, as gradients may vanish there alone, from the image itself.
    """
    radius = 1.0 if threat.norm == "linf" else math.sqrt(images[0].numel())
    unbounded = dataclasses.replace(threat, epsilon=radius)
    with torch.no_grad():
        right = ~is_fooled(model(images), labels)
    clean = share = share_of(right)
    for attack in UNBOUNDED:
        adversarial = attack(model, images, labels, unbounded, generator=generator)
        with torch.no_grad():
            right &= ~is_fooled(model(adversarial), labels)
        share = share_of(right)
        # Of what is right when clean: whoever always gives the same answer is right on few images, and stays so.
        if share <= MAX_UNBOUNDED_SHARE * clean:
            return
    message = (
        f"Of {percent(clean)} that are right when clean, PGD and BIM leave {percent(share)} standing at {threat.norm} "
        f"{radius:.3g}, where an image may be replaced by any other: no model that looks at its images can be robust "
        "there. The gradients lead attacks nowhere. Rely on gradient-free and transferred attacks."
    )
    evidence = {"epsilon": radius, "clean_accuracy": clean, "robust_accuracy": share}
    yield Finding("stands_at_any_distance", "high", message, evidence)


def scale_free_attacks(labels: Tensor) -> dict[str, Attack]:
    """What is not content with a model that becomes unsure, as attacks that climb the cross-entropy may be.

    Args:
        labels: Of the audit's images; the scores of two classes have no proportions, only their boundary does not
            depend on their scale.

    Returns:
        The attacks, by what findings call them.
    """
    attacks: dict[str, Attack] = {f"APGD on standardised scores with {SCALE_FREE.num_steps} steps": SCALE_FREE}
    if len(labels.unique()) == 2:
        attacks[f"a walk along the boundary of {BOUNDARY_WALK.num_steps} steps"] = BOUNDARY_WALK
    return attacks


def attacks_too_weak(before: Tensor, after: Tensor, probe: str) -> Iterator[Finding]:
    """Does one plain attack fool images, or even many, that all attacks of the audit left standing?

    Args:
        before: What those left standing, bool (B,).
        after: What the one left of these, bool (B,).
        probe: What the one is.
    """
    evidence = {"attacks": share_of(before), "with_probe": share_of(after)}
    message = (
        f"All attacks of the audit together leave {percent(evidence['attacks'])} of {counted(len(before), 'image')} "
        f"standing; {probe}, run on these as a check, leaves {percent(evidence['with_probe'])}, which counts in the "
        "worst case. "
    )
    if is_gap(after, before):
        message += "The attacks are too weak for this model. Choose stronger ones, which may find more."
        yield Finding("attacks_too_weak", "high", message, evidence)
    elif evidence["with_probe"] < evidence["attacks"]:
        yield Finding("attacks_too_weak", "note", message + "Stronger attacks may find more.", evidence)


def _too_few_steps(trace: _Trace) -> Iterator[Finding]:
    few, many = trace.standing(FEW_STEPS), trace.standing(MANY_STEPS)
    if is_gap(many, few):
        evidence = {"few_steps": share_of(few), "many_steps": share_of(many)}
        message = (
            f"PGD leaves {percent(evidence['few_steps'])} standing after {FEW_STEPS} steps and "
            f"{percent(evidence['many_steps'])} after {MANY_STEPS}. The figures of attacks with so few steps are too "
            "high; that says nothing about the model. Rely on the attacks with more steps."
        )
        yield Finding("too_few_steps", "note", message, evidence)


def _more_steps_do_worse(trace: _Trace) -> Iterator[Finding]:
    few, many = trace.right[FEW_STEPS], trace.right[MANY_STEPS]
    if is_gap(few, many):
        evidence = {"few_steps": share_of(few), "many_steps": share_of(many)}
        message = (
            f"Where PGD ends, {percent(evidence['few_steps'])} are classified correctly after {FEW_STEPS} steps and "
            f"{percent(evidence['many_steps'])} after {MANY_STEPS}: more steps do worse. The gradients do not lead to "
            "larger losses. Rely on gradient-free and transferred attacks."
        )
        yield Finding("more_steps_do_worse", "high", message, evidence)


def _loss_still_rising(trace: _Trace) -> Iterator[Finding]:
    """Of the images that stand at the end, how many gained a good part of their loss in the last steps?"""
    standing = trace.standing(MANY_STEPS)
    start, before, end = trace.loss[0], trace.loss[-1 - LAST_STEPS], trace.loss[-1]
    late = standing & (end - before > MAX_LATE_GAIN * (end - start)) & (end > start)
    share = share_of(late)
    if share >= MIN_SHARE:
        message = (
            f"On {percent(share)} of {counted(len(standing), 'image')}, which PGD with {MANY_STEPS} steps does not "
            f"fool, the loss still rises by more than a tenth of its whole gain in the last {LAST_STEPS} steps. "
            "Attacks stop too early on them, and their figures are too high. Add attacks with more steps, such as APGD."
        )
        yield Finding("loss_still_rising", "note", message, {"share": share})


def _success_lost_on_the_way(trace: _Trace) -> Iterator[Finding]:
    lost = trace.right[FEW_STEPS] & ~trace.standing(FEW_STEPS)
    share = share_of(lost)
    if share >= MIN_SHARE:
        message = (
            f"PGD with {FEW_STEPS} steps passes an adversarial image on its way and ends at one that is classified "
            f"correctly for {percent(share)} of {counted(len(lost), 'image')}. Attacks that return their last "
            "iterate, as some here do, throw those away, and their figures are too high. Keep the first success "
            "(early_stop=True)."
        )
        yield Finding("success_lost_on_the_way", "medium", message, {"share": share})
