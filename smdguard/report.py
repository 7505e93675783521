"""What an audit found: data only. Accuracies are fractions."""

from dataclasses import dataclass, field
from typing import Any, Literal

from smdguard.threat import ThreatModel

SCHEMA_VERSION = 1
Access = Literal["white-box", "black-box", "member"]
Severity = Literal["high", "medium", "note"]
Verdict = Literal["robust", "fragile", "unreliable"]


@dataclass(frozen=True)
class Interval:
    """An estimated share with its 95 % confidence bounds, all in [0, 1]."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class AttackResult:
    """How many images one attack leaves standing.

    Args:
        name: What tables call the attack.
        repr: Its settings.
        access: "white-box" made on the audited model, "black-box" on a surrogate, "member" on one member.
        source: What it was made on.
        epsilon: Radius it was made for.
        num_attacked: Images it was made on: all, or only those that the white-box attacks before it left standing.
        robust_accuracy: Share of all images that are still classified rightly, after it and, where it pursued what
            others left standing, after them.
    """

    name: str
    repr: str
    access: Access
    source: str
    epsilon: float
    num_attacked: int
    robust_accuracy: Interval


@dataclass(frozen=True)
class RobustAccuracy:
    """The share of images that no attack of the audit fooled."""

    robust_accuracy: Interval


@dataclass(frozen=True)
class CurvePoint:
    """The worst case at one radius: over all attacks up to that radius."""

    epsilon: float
    robust_accuracy: Interval


@dataclass(frozen=True)
class TransferMatrix:
    """members[i][j] is member j's accuracy on images made with `attack` on member i alone."""

    members: tuple[tuple[float, ...], ...]
    epsilon: float
    attack: str


@dataclass(frozen=True)
class Finding:
    """Something about the audit that its reader must know.

    Args:
        check: Name of the check, such as "gradient_masking".
        severity: "high" where figures are not to be trusted, "medium", or "note".
        message: What was seen, what it means and what to do.
        evidence: The numbers behind it.
    """

    check: str
    severity: Severity
    message: str
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AuditReport:
    """Everything an audit found; see the fields' own types.

    `verdict_reason` says the verdict in one sentence; `versions` names the software; `seconds` is wall-clock time.
    """

    model: str
    dataset: str | None
    num_images: int
    threat: ThreatModel
    clean_accuracy: Interval
    attacks: tuple[AttackResult, ...]
    worst_case: RobustAccuracy
    curve: tuple[CurvePoint, ...]
    transfer: TransferMatrix | None
    findings: tuple[Finding, ...]
    verdict: Verdict
    verdict_reason: str
    preset: str | None
    versions: dict[str, str]
    seed: int
    seconds: float
    schema_version: int = SCHEMA_VERSION
