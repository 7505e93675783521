"""Run attacks on a model and put what they leave standing into a report."""

import dataclasses
import functools
import hashlib
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from smdguard.attacks import PGD, Attack, Model, Transfer
from smdguard.attacks.attack import is_fooled
from smdguard.auditing.exhibits import gather_exhibits
from smdguard.auditing.presets import PRESETS, Preset, PresetName
from smdguard.auditing.sanity import Outcome, gradient_health, judge, sanity_findings
from smdguard.auditing.statistics import wilson_interval
from smdguard.auditing.validation import check_model, checked_epsilons, checked_images, checked_labels
from smdguard.ensemble import Ensemble
from smdguard.errors import InvalidInputError
from smdguard.report import AttackResult, AuditReport, CurvePoint, Interval, RobustAccuracy, TransferMatrix
from smdguard.threat import ThreatModel

SHARD_SIZE = 250
Progress = Callable[[int, int, str], None]
"""Called with the shards done, the shards in all, and what is under way."""


def audit(
    model: Model,
    images: Any,
    labels: Any,
    threat: ThreatModel,
    *,
    attacks: PresetName | Sequence[Attack] = "quick",
    surrogates: Mapping[str, Model] | None = None,
    epsilons: Sequence[float] = (),
    seed: int = 0,
    name: str = "model",
    dataset: str | None = None,
    progress: Progress = lambda *_: None,
) -> AuditReport:
    """Find out how hard a model is to fool.

    Every attack is made white-box on the model and, where it needs gradients, black-box on each surrogate; on an
    ensemble PGD is also made on each member alone. A preset's stronger attacks pursue the images that the white-box
    attacks before them left standing. What an attack returns is not trusted: its ball and box are checked and the model
    is asked again. The clean image counts as an attack, so the worst case is never above the clean accuracy.

    The same seed gives the same result on one type of device and number of threads: the images are worked on in
    shards of 250, each with a generator made from (seed, attack, shard).

    Args:
        model: From images (B, C, H, W) in [0, 1] to logits or log-probabilities (B, K); in evaluation mode, with
            its normalisation inside.
        images: Clean images (B, C, H, W) in [0, 1], tensor or array.
        labels: Their classes (B,).
        threat: What the adversary may do.
        attacks: A preset's name or the attacks themselves.
        surrogates: Models to make black-box attacks on, by name.
        epsilons: Further radii, at most the threat model's, for the accuracy curve.
        seed: Seed of every random draw.
        name: What the report calls the model.
        dataset: What the report calls the images.
        progress: Hears of each finished shard.

    Raises:
        InvalidInputError: Images, labels, model, epsilons or preset are not as they have to be, or an attack left
            the ball or the box.
    """
    started = time.monotonic()
    images = checked_images(images)
    labels = checked_labels(labels, images)
    check_model(model, images, labels)
    radii = checked_epsilons(epsilons, threat)
    preset = _preset(attacks, has_members=hasattr(model, "member_logits"))
    surrogates = dict(surrogates or {})
    counter = _Counter(
        progress,
        num_shards=-(-len(images) // SHARD_SIZE),
        num_runs=len(radii) * (len(preset.attacks) * (1 + len(surrogates)) + len(preset.pursuits)),
    )
    clean = _standing(model, images, labels)
    run = functools.partial(_run, model=model, images=images, labels=labels, seed=seed, counter=counter)
    outcomes: list[Outcome] = []
    for radius in radii:
        at_radius = dataclasses.replace(threat, epsilon=radius)
        for attack in preset.attacks:
            standing = run(_Planned(attack, model, "white-box", name), threat=at_radius, pursued=None)
            outcomes.append(Outcome(attack, "white-box", name, radius, clean & standing))
        for attack in preset.pursuits:
            before = _worst_case([one for one in outcomes if one.access == "white-box"], clean, radius)
            standing = run(_Planned(attack, model, "white-box", name), threat=at_radius, pursued=before)
            outcomes.append(Outcome(attack, "white-box", name, radius, standing, num_attacked=int(before.sum())))
        for source, surrogate in surrogates.items():
            for attack in preset.attacks:
                if attack.requires == "gradients" and not attack.needs_members:
                    planned = _Planned(Transfer(source, attack), surrogate, "black-box", source)
                    standing = run(planned, threat=at_radius, pursued=None)
                    outcomes.append(Outcome(planned.attack, "black-box", source, radius, clean & standing))
    transfer = None
    if isinstance(model, Ensemble):
        transfer, member_outcomes = _member_transfer(model, images, labels, threat, seed, clean)
        outcomes += member_outcomes
    health = gradient_health(model, images.split(SHARD_SIZE), labels.split(SHARD_SIZE))
    worst = _worst_case(outcomes, clean, threat.epsilon)
    findings = sanity_findings(outcomes, threat.epsilon, health)
    exhibits = gather_exhibits(
        model,
        images,
        labels,
        threat,
        outcomes,
        surrogates,
        clean=clean,
        worst=worst,
        generator=_generator(seed, "exhibits", 0, images.device),
    )
    verdict, reason = judge(outcomes, threat, health, clean=_interval(clean), worst=_interval(worst))
    return AuditReport(
        model=name,
        dataset=dataset,
        num_images=len(images),
        threat=threat,
        clean_accuracy=_interval(clean),
        attacks=tuple(_result(outcome) for outcome in outcomes),
        worst_case=RobustAccuracy(_interval(worst)),
        curve=tuple(CurvePoint(radius, _interval(_worst_case(outcomes, clean, radius))) for radius in radii)
        if epsilons
        else (),
        transfer=transfer,
        findings=tuple(findings),
        verdict=verdict,
        verdict_reason=reason,
        preset=attacks if isinstance(attacks, str) else None,
        versions=_versions(),
        seed=seed,
        seconds=round(time.monotonic() - started, 2),
        exhibits=exhibits,
    )


@dataclass(frozen=True)
class _Planned:
    attack: Attack
    made_on: Model
    access: Any
    source: str


class _Counter:
    def __init__(self, progress: Progress, *, num_shards: int, num_runs: int) -> None:
        self._progress, self._total, self._done = progress, num_shards * num_runs, 0

    def advance(self, description: str) -> None:
        self._done += 1
        self._progress(self._done, self._total, description)


def _preset(attacks: PresetName | Sequence[Attack], *, has_members: bool) -> Preset:
    if not isinstance(attacks, str):
        return Preset(tuple(attacks))
    if attacks not in PRESETS:
        raise InvalidInputError(f"unknown preset {attacks!r}; known are {', '.join(PRESETS)}")
    preset = PRESETS[attacks]()
    pursuits = tuple(attack for attack in preset.pursuits if has_members or not attack.needs_members)
    return dataclasses.replace(preset, pursuits=pursuits)


def _run(
    planned: _Planned,
    *,
    model: Model,
    images: Tensor,
    labels: Tensor,
    threat: ThreatModel,
    seed: int,
    counter: _Counter,
    pursued: Tensor | None,
) -> Tensor:
    """Which images the model gets right after the attack, bool (B,); others than the pursued are left out as fooled."""
    standing = torch.ones_like(labels, dtype=torch.bool) if pursued is None else pursued.clone()
    where = "" if planned.access == "white-box" else f" from {planned.source}"
    for number, rows in enumerate(torch.arange(len(images), device=images.device).split(SHARD_SIZE)):
        rows = rows[standing[rows]]
        if len(rows):
            adversarial = _adversarial(planned, images[rows], labels[rows], threat, seed, number)
            standing[rows] = _standing(model, adversarial, labels[rows])
        counter.advance(f"{planned.attack.name}{where} at {threat.epsilon:.3g}")
    return standing


def _adversarial(
    planned: _Planned, images: Tensor, labels: Tensor, threat: ThreatModel, seed: int, shard: int
) -> Tensor:
    generator = _generator(seed, f"{planned.attack!r} {planned.source}", shard, images.device)
    adversarial = planned.attack(planned.made_on, images, labels, threat, generator=generator)
    _check_adversarial(planned.attack, images, adversarial, threat)
    return adversarial


def _check_adversarial(attack: Attack, images: Tensor, adversarial: Tensor, threat: ThreatModel) -> None:
    if adversarial.shape != images.shape:
        raise InvalidInputError(f"{attack!r} turned images {tuple(images.shape)} into {tuple(adversarial.shape)}")
    excess = (threat.distance(images, adversarial) - threat.epsilon).max().item()
    outside = torch.maximum(-adversarial, adversarial - 1).max().item()
    # Rounding of image + perturbation in float32 is below 1e-6; NaN fails both comparisons.
    if not (excess <= 1e-6 * max(1.0, threat.epsilon) and outside <= 0):
        raise InvalidInputError(
            f"{attack!r} left the threat model: {excess:.3g} outside the ball, {max(outside, 0.0):.3g} outside [0, 1]"
        )


def _member_transfer(
    ensemble: Ensemble, images: Tensor, labels: Tensor, threat: ThreatModel, seed: int, clean: Tensor
) -> tuple[TransferMatrix, list[Outcome]]:
    """Attack each member alone; how do the other members and the ensemble fare?"""
    num_members = len(ensemble.members)
    rows, outcomes = [], []
    for source in range(num_members):
        attack = Transfer(f"member {source}", PGD())
        planned = _Planned(attack, _Member(ensemble, source), "member", f"member {source}")
        right, standing = [], []
        for number, (clean_images, truth) in enumerate(
            zip(images.split(SHARD_SIZE), labels.split(SHARD_SIZE), strict=True)
        ):
            adversarial = _adversarial(planned, clean_images, truth, threat, seed, number)
            with torch.no_grad():
                log_probabilities = ensemble.member_log_probabilities(adversarial)
            right.append(log_probabilities.argmax(dim=-1) == truth[:, None])
            standing.append(_standing(ensemble, adversarial, truth))
        rows.append(tuple(torch.cat(right).double().mean(dim=0).tolist()))
        outcomes.append(Outcome(attack, "member", f"member {source}", threat.epsilon, clean & torch.cat(standing)))
    return TransferMatrix(tuple(rows), threat.epsilon, repr(PGD())), outcomes


class _Member:
    """One member of an ensemble as a model of its own."""

    def __init__(self, ensemble: Ensemble, index: int) -> None:
        self._ensemble, self._index = ensemble, index

    def __call__(self, images: Tensor) -> Tensor:
        return self._ensemble.members[self._index](self._ensemble.normalise(images))


def _standing(model: Model, images: Tensor, labels: Tensor) -> Tensor:
    """Which images the model gets right: bool (B,)."""
    with torch.no_grad():
        fooled = [
            is_fooled(model(shard), truth)
            for shard, truth in zip(images.split(SHARD_SIZE), labels.split(SHARD_SIZE), strict=True)
        ]
    return ~torch.cat(fooled)


def _worst_case(outcomes: Sequence[Outcome], clean: Tensor, epsilon: float) -> Tensor:
    """Which images no attack up to this radius fooled: what was found in a smaller ball lies in the larger one."""
    standing = clean
    for outcome in outcomes:
        if outcome.epsilon <= epsilon:
            standing = standing & outcome.standing
    return standing


def _result(outcome: Outcome) -> AttackResult:
    attack = outcome.attack.attack if isinstance(outcome.attack, Transfer) else outcome.attack
    return AttackResult(
        name=attack.name,
        repr=repr(attack),
        access=outcome.access,
        source=outcome.source,
        epsilon=outcome.epsilon,
        num_attacked=len(outcome.standing) if outcome.num_attacked is None else outcome.num_attacked,
        robust_accuracy=_interval(outcome.standing),
    )


def _interval(standing: Tensor) -> Interval:
    return wilson_interval(int(standing.sum()), len(standing))


def _generator(seed: int, attack: str, shard: int, device: torch.device) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}\n{attack}\n{shard}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in ("smdguard", "torch")}}
