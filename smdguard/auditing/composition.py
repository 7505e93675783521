"""What an audit has found, put into a report."""

import time
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from smdguard.attacks import Transfer
from smdguard.auditing.fingerprint import describe_device, software_versions
from smdguard.auditing.gradient_findings import gradient_findings
from smdguard.auditing.gradients import GradientHealth
from smdguard.auditing.outcomes import Outcome, worst_case
from smdguard.auditing.sanity import sanity_findings
from smdguard.auditing.statistics import interval
from smdguard.auditing.verdict import judge
from smdguard.report import (
    RANDOM_OUTPUT,
    AttackResult,
    AuditReport,
    CurvePoint,
    Exhibits,
    Finding,
    Impossible,
    RobustAccuracy,
    SuspicionReport,
    TransferMatrix,
)
from smdguard.threat import ThreatModel


@dataclass(frozen=True)
class Assignment:
    """What is audited, and how.

    Args:
        name: What the report calls the model.
        dataset: What the report calls the images.
        class_names: What the report calls the classes.
        threat: What the adversary may do.
        radii: Radii of the attacks, ascending; the last is the threat model's.
        with_curve: Whether the report shows the accuracy at each of them.
        preset: Name of the set of attacks, if it has one.
        seed: Seed of every random draw.
        impossible: Attacks and exhibits that the model does not allow.
        started: When, on the monotonic clock.
    """

    name: str
    dataset: str | None
    class_names: tuple[str, ...]
    threat: ThreatModel
    radii: list[float]
    with_curve: bool
    preset: str | None
    seed: int
    impossible: tuple[Impossible, ...]
    started: float = field(default_factory=time.monotonic)

    @property
    def attacked(self) -> list[float]:
        """Radii at which attacks are made: at 0, on the way to others, nothing can fall."""
        return [radius for radius in self.radii if radius > 0] or self.radii


@dataclass
class Evidence:
    """What has been found so far.

    Args:
        clean: Which images the model gets right, bool (B,).
        health: Of the model's input gradients; None where it has none.
        outcomes: What each attack left standing.
        transfers: Between the members of an ensemble.
        probed: Findings of the probes.
        suspicion: Whether the members' disagreement gives adversarial images away.
        asides: Outcomes of attacks on a part of the images, which count in the worst case but are listed elsewhere.
        exhibits: What there is to see.
    """

    clean: Tensor
    health: GradientHealth | None
    outcomes: list[Outcome] = field(default_factory=list)
    transfers: list[TransferMatrix] = field(default_factory=list)
    probed: list[Finding] = field(default_factory=list)
    suspicion: SuspicionReport | None = None
    asides: list[Outcome] = field(default_factory=list)
    exhibits: Exhibits | None = None

    @property
    def has_steady_gradients(self) -> bool:
        """Whether a run along the gradients tells of them, and not of answers that are drawn at random.

        Of a model that answers at random, a long run finds by mere repetition what is no attack's doing.
        """
        return self.health is not None and all(finding.check != RANDOM_OUTPUT for finding in self.probed)

    def standing(self, radius: float) -> Tensor:
        """Which images no attack up to this radius fooled: bool (B,)."""
        return worst_case([*self.outcomes, *self.asides], self.clean, radius)

    def outcomes_at(self, radius: float) -> list[Outcome]:
        """Those of the attacks that were made for just this radius."""
        return [outcome for outcome in self.outcomes if outcome.epsilon == radius]


def compose_report(assignment: Assignment, evidence: Evidence, *, partial: bool = False) -> AuditReport:
    """The report of an audit that is done, or was stopped before."""
    threat, clean, health = assignment.threat, interval(evidence.clean), evidence.health
    attacked = {0.0, *(outcome.epsilon for outcome in evidence.outcomes)} if partial else assignment.radii
    curve = tuple(
        CurvePoint(radius, interval(evidence.standing(radius))) for radius in assignment.radii if radius in attacked
    )
    worst = interval(evidence.standing(threat.epsilon))
    at_radius = evidence.outcomes_at(threat.epsilon)
    findings = [*sanity_findings(at_radius, clean), *gradient_findings(health), *evidence.probed]
    verdict, reason = judge(at_radius, findings, threat, health, clean=clean, worst=worst, partial=partial)
    return AuditReport(
        model=assignment.name,
        dataset=assignment.dataset,
        num_images=len(evidence.clean),
        threat=threat,
        clean_accuracy=clean,
        attacks=tuple(_result(outcome) for outcome in evidence.outcomes),
        worst_case=RobustAccuracy(worst),
        curve=curve if assignment.with_curve else (),
        transfer=next(iter(evidence.transfers), None),
        findings=_by_severity(findings),
        verdict=verdict,
        verdict_reason=reason,
        preset=assignment.preset,
        versions=software_versions(),
        seed=assignment.seed,
        seconds=round(time.monotonic() - assignment.started, 2),
        exhibits=evidence.exhibits,
        impossible=assignment.impossible,
        partial=partial,
        suspicion=evidence.suspicion,
        further_transfers=tuple(evidence.transfers[1:]),
        class_names=assignment.class_names,
        device=describe_device(evidence.clean.device),
    )


def _by_severity(findings: list[Finding]) -> tuple[Finding, ...]:
    ranks: dict[Any, int] = {"high": 0, "medium": 1, "note": 2}
    return tuple(sorted(findings, key=lambda finding: ranks[finding.severity]))


def _result(outcome: Outcome) -> AttackResult:
    attack = outcome.attack.attack if isinstance(outcome.attack, Transfer) else outcome.attack
    return AttackResult(
        name=attack.name,
        repr=repr(attack),
        access=outcome.access,
        source=outcome.source,
        epsilon=outcome.epsilon,
        num_attacked=len(outcome.standing) if outcome.num_attacked is None else outcome.num_attacked,
        robust_accuracy=interval(outcome.standing),
    )
