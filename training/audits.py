"""Audits of trained ensembles: any, and as the paper's: its five attacks at its radii, white-box and transferred."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from smdguard import auditing, render
from smdguard.auditing import PresetName
from smdguard.auditing.evaluate import Progress
from smdguard.auditing.partial_results import PartialResults
from smdguard.datasets import LabelledImages
from smdguard.files import write_atomically
from smdguard.guard import load
from smdguard.model_folder import AUDIT
from smdguard.report import AuditReport
from smdguard.threat import ThreatModel
from training.paper import EPSILON, RADII

PRESET: PresetName = "paper"
PARTIAL = "audit-partial"


def audit_folder(
    folder: Path,
    images: LabelledImages,
    preset: PresetName,
    *,
    epsilon: float,
    radii: Sequence[float],
    surrogates: Mapping[str, Path | str],
    device: str,
    store: PartialResults | None,
    progress: Progress = lambda *_: None,
) -> AuditReport:
    """Audit the model in a folder in the L-infinity norm.

    Args:
        folder: The model.
        images: What to attack.
        preset: Which attacks.
        epsilon: Radius.
        radii: Smaller ones to attack at as well.
        surrogates: Models to make black-box attacks on, by name: folders, or names of the zoo.
        device: "auto", "cpu" or "cuda".
        store: Where finished work is kept, for an audit that is cut off to go on from.
        progress: Hears of each finished shard.

    Raises:
        SmdguardError: A model is damaged, or cannot be attacked.
    """
    guard = load(folder, backend="torch", device=device)
    place = guard.ensemble.mean.device
    return auditing.audit(
        guard.ensemble,
        images.scaled().to(place),
        images.labels.to(place),
        ThreatModel(norm="linf", epsilon=epsilon),
        attacks=preset,
        surrogates={name: load(source, backend="torch", device=device).ensemble for name, source in surrogates.items()},
        epsilons=radii,
        name=guard.config.name,
        dataset=guard.config.training.dataset,
        class_names=guard.config.labels,
        progress=progress,
        store=store,
        suspicion_threshold=guard.config.suspicion_threshold,
    )


def audit_run(
    folder: Path, surrogates: Mapping[str, Path], images: LabelledImages, *, device: str, progress: Progress
) -> AuditReport:
    """Audit the model in a folder as the paper does and leave the report there, from where it was cut off before.

    Args:
        folder: The model; gets audit.json.
        surrogates: See audit_folder.
        images: What to attack.
        device: "auto", "cpu" or "cuda".
        progress: Hears of each finished shard.

    Raises:
        SmdguardError: A model is damaged, or cannot be attacked.
    """
    store = PartialResults(folder / PARTIAL)
    report = audit_folder(
        folder,
        images,
        PRESET,
        epsilon=EPSILON,
        radii=RADII,
        surrogates=surrogates,
        device=device,
        store=store,
        progress=progress,
    )
    write_atomically(folder / AUDIT, render.serialise(report))
    store.discard()
    return report


def read_audit(folder: Path) -> AuditReport | None:
    """The report that is in a folder.

    Raises:
        IntegrityError: It is damaged.
    """
    path = folder / AUDIT
    return render.read_report(path) if path.exists() else None


def sources_of(report: AuditReport) -> set[str]:
    """The surrogates that a report knows of."""
    return {result.source for result in report.attacks if result.access == "black-box"}
