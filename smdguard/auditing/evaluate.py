"""Run attacks on a model and put what they leave standing into a report."""

import dataclasses
import hashlib
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from smdguard.attacks import PGD, Attack, Model, Transfer
from smdguard.attacks.attack import is_fooled
from smdguard.auditing.presets import PRESETS, PresetName
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

    Every attack is made white-box on the model and black-box on each surrogate; on an ensemble PGD is also made on
    each member alone. What an attack returns is not trusted: its ball and box are checked and the model is asked
    again. The clean image counts as an attack, so the worst case is never above the clean accuracy.

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
    if isinstance(attacks, str) and attacks not in PRESETS:
        raise InvalidInputError(f"unknown preset {attacks!r}; known are {', '.join(PRESETS)}")
    chosen = PRESETS[attacks]() if isinstance(attacks, str) else list(attacks)
    plan = [_Planned(attack, model, "white-box", name) for attack in chosen]
    for source, surrogate in (surrogates or {}).items():
        plan += [_Planned(Transfer(source, attack), surrogate, "black-box", source) for attack in chosen]

    counter = _Counter(progress, shards=-(-len(images) // SHARD_SIZE), runs=len(plan) * len(radii))
    clean = _standing(model, images, labels)
    outcomes = [
        Outcome(planned.attack, planned.access, planned.source, radius, clean & standing)
        for radius in radii
        for planned in plan
        for standing in [_run(planned, model, images, labels, _at(threat, radius), seed, counter)]
    ]
    transfer = None
    if isinstance(model, Ensemble):
        transfer, member_outcomes = _member_transfer(model, images, labels, threat, seed, clean)
        outcomes += member_outcomes
    health = gradient_health(model, images.split(SHARD_SIZE), labels.split(SHARD_SIZE))
    worst = _worst_case(outcomes, clean, threat.epsilon)
    findings = sanity_findings(outcomes, threat.epsilon, health)
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
    )


@dataclass(frozen=True)
class _Planned:
    attack: Attack
    made_on: Model
    access: Any
    source: str


class _Counter:
    def __init__(self, progress: Progress, *, shards: int, runs: int) -> None:
        self._progress, self._total, self._done = progress, shards * runs, 0

    def advance(self, description: str) -> None:
        self._done += 1
        self._progress(self._done, self._total, description)


def _run(
    planned: _Planned, model: Model, images: Tensor, labels: Tensor, threat: ThreatModel, seed: int, counter: _Counter
) -> Tensor:
    """Which images the model still gets right after the attack: bool (B,)."""
    standing = []
    where = "" if planned.access == "white-box" else f" from {planned.source}"
    for adversarial, _, truth in _adversarial(planned, images, labels, threat, seed):
        standing.append(_standing(model, adversarial, truth))
        counter.advance(f"{planned.attack.name}{where} at {threat.epsilon:.3g}")
    return torch.cat(standing)


def _adversarial(
    planned: _Planned, images: Tensor, labels: Tensor, threat: ThreatModel, seed: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Shard by shard: adversarial images, clean images, labels."""
    shards = zip(images.split(SHARD_SIZE), labels.split(SHARD_SIZE), strict=True)
    for number, (clean, truth) in enumerate(shards):
        generator = _generator(seed, f"{planned.attack!r} {planned.source}", number, images.device)
        adversarial = planned.attack(planned.made_on, clean, truth, threat, generator=generator)
        _check_adversarial(planned.attack, clean, adversarial, threat)
        yield adversarial, clean, truth


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
        for adversarial, _, truth in _adversarial(planned, images, labels, threat, seed):
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


def _at(threat: ThreatModel, epsilon: float) -> ThreatModel:
    return dataclasses.replace(threat, epsilon=epsilon)


def _result(outcome: Outcome) -> AttackResult:
    attack = outcome.attack.attack if isinstance(outcome.attack, Transfer) else outcome.attack
    return AttackResult(
        name=attack.name,
        repr=repr(attack),
        access=outcome.access,
        source=outcome.source,
        epsilon=outcome.epsilon,
        robust_accuracy=_interval(outcome.standing),
    )


def _interval(standing: Tensor) -> Interval:
    return wilson_interval(int(standing.sum()), len(standing))


def _generator(seed: int, attack: str, shard: int, device: torch.device) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}\n{attack}\n{shard}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in ("smdguard", "torch")}}
