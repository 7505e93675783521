"""Reports with everything that one can hold, and with next to nothing."""

import base64
import dataclasses

import pytest

from smdguard import render
from smdguard.report import (
    AttackResult,
    AuditReport,
    Baseline,
    CurvePoint,
    Disagreement,
    Exhibits,
    Finding,
    GalleryImage,
    Impossible,
    Interval,
    Picture,
    RobustAccuracy,
    SaliencyMaps,
    SuspicionReport,
    SuspicionUnderAttack,
    TransferMatrix,
)
from smdguard.threat import ThreatModel

HOSTILE = '<script>alert("1")</script> $\\frac{ \x07 \N{CJK UNIFIED IDEOGRAPH-4E2D}\n&amp; url(http://example.org)'
RADII = (0.0, 0.1, 0.2)


def share(value: float) -> Interval:
    return Interval(value, max(0.0, value - 0.03), min(1.0, value + 0.03))


def curve(*values: float) -> tuple[CurvePoint, ...]:
    return tuple(CurvePoint(radius, share(value)) for radius, value in zip(RADII, values, strict=True))


def picture(channels: int = 1, level: int = 7) -> Picture:
    pixels = bytes((level * number) % 256 for number in range(channels * 6 * 5))
    return Picture(channels, 6, 5, base64.b64encode(pixels).decode())


def attack(name: str, value: float, access: str = "white-box", source: str = "a-model") -> AttackResult:
    settings = f"{name}(num_steps=10)"
    return AttackResult(name, settings, access, source, 0.2, 1000, share(value))  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def bare() -> AuditReport:
    return AuditReport(
        model="a-model",
        dataset=None,
        num_images=1000,
        threat=ThreatModel("linf", 0.2),
        clean_accuracy=share(0.987),
        attacks=(attack("FGSM", 0.521),),
        worst_case=RobustAccuracy(share(0.123)),
        curve=(),
        transfer=None,
        findings=(),
        verdict="fragile",
        verdict_reason="an adversary can fool it.",
        preset=None,
        versions={"smdguard": "0.1.0"},
        seed=17,
        seconds=12.0,
    )


@pytest.fixture(scope="session")
def full(bare: AuditReport) -> AuditReport:
    gallery = tuple(
        GalleryImage(label, picture(3), 0.9, picture(3, level=8), label % 2, 0.6, "PGD crafted on other", picture(3))
        for label in range(6)
    )
    saliency = tuple(
        SaliencyMaps(label, picture(), (picture(), picture(), picture()), (0.5, -0.25, 0.0)) for label in range(2)
    )
    under_attack = SuspicionUnderAttack("Unsuspicious", "Unsuspicious()", share(0.1), share(0.4), share(0.54), 0.814)
    return dataclasses.replace(
        bare,
        dataset="fashion-mnist",
        class_names=("T-shirt/top", "Trouser"),
        attacks=(*bare.attacks, attack("FGSM", 0.163, "black-box", "other"), attack("PGD", 0.7, "member", "member 0")),
        curve=curve(0.987, 0.4, 0.123),
        transfer=TransferMatrix(((0.0, 0.8, 0.9), (0.7, 0.1, 0.6), (0.5, 0.4, 0.2)), 0.2, "PGD()", "PGD"),
        findings=(
            Finding("gradient_masking", "high", "FGSM misleads", {"white_box": 0.521, "transferred": 0.163}),
            Finding("few_steps", "note", "a note", {}),
        ),
        preset="standard",
        exhibits=Exhibits(gallery, saliency, Disagreement((0.0, 0.01, 0.1), (0.5, 0.9))),
        baseline=Baseline("naive-model", "quick", 500, curve(0.99, 0.2, 0.0)),
        impossible=(Impossible("Square", "it is too slow"),),
        suspicion=SuspicionReport(0.3, share(0.01), 100, (under_attack,)),
    )


@pytest.fixture(scope="session")
def single(full: AuditReport) -> AuditReport:
    """One of everything that is counted."""
    exhibits = full.exhibits
    assert exhibits is not None
    assert full.baseline is not None
    assert full.suspicion is not None
    maps = dataclasses.replace(exhibits.saliency[0], maps=(picture(),), cosines=())
    return dataclasses.replace(
        full,
        num_images=1,
        attacks=tuple(dataclasses.replace(result, num_attacked=1) for result in full.attacks),
        transfer=TransferMatrix(((0.0,),), 0.2, "PGD()", "PGD"),
        exhibits=Exhibits(exhibits.gallery[:1], (maps,), Disagreement((0.0,), (0.5,))),
        baseline=dataclasses.replace(full.baseline, num_images=1),
        suspicion=dataclasses.replace(full.suspicion, num_images=1),
    )


@pytest.fixture(scope="session")
def hostile(full: AuditReport) -> AuditReport:
    """Hostile wherever a user or a file has a say."""
    attacks = tuple(dataclasses.replace(result, name=HOSTILE, repr=HOSTILE, source=HOSTILE) for result in full.attacks)
    exhibits = full.exhibits
    assert exhibits is not None
    gallery = tuple(dataclasses.replace(image, attack=HOSTILE) for image in exhibits.gallery)
    # A class that there is no name for, beside those with a hostile one.
    gallery = (dataclasses.replace(gallery[0], label=-1), *gallery[1:])
    assert full.suspicion is not None
    noticed = tuple(dataclasses.replace(one, name=HOSTILE, repr=HOSTILE) for one in full.suspicion.attacks)
    return dataclasses.replace(
        full,
        model=HOSTILE,
        dataset=HOSTILE,
        class_names=(HOSTILE, HOSTILE),
        attacks=attacks,
        findings=(Finding(HOSTILE, "high", HOSTILE, {HOSTILE: HOSTILE}),),
        verdict_reason=HOSTILE,
        preset=HOSTILE,
        versions={HOSTILE: HOSTILE},
        device=HOSTILE,
        command=HOSTILE,
        exhibits=dataclasses.replace(exhibits, gallery=gallery),
        baseline=Baseline(HOSTILE, HOSTILE, 500, full.curve),
        impossible=(Impossible(HOSTILE, HOSTILE),),
        suspicion=dataclasses.replace(full.suspicion, attacks=noticed),
    )


@pytest.fixture(scope="session")
def pages(bare: AuditReport, full: AuditReport, hostile: AuditReport) -> dict[str, str]:
    """The page of each report."""
    return {name: render.html(report) for name, report in (("bare", bare), ("full", full), ("hostile", hostile))}
