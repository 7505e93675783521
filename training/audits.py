"""A trained ensemble's audit as the paper's: its five attacks at its radii, white-box and from its surrogates."""

from collections.abc import Mapping
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


def audit_run(
    folder: Path, surrogates: Mapping[str, Path], images: LabelledImages, *, device: str, progress: Progress
) -> AuditReport:
    """Audit the model in a folder and leave the report there, from where it was cut off before.

    Args:
        folder: The model; gets audit.json.
        surrogates: Models to make black-box attacks on, by name.
        images: What to attack.
        device: "auto", "cpu" or "cuda".
        progress: Hears of each finished shard.

    Raises:
        SmdguardError: A model is damaged, or cannot be attacked.
    """
    guard = load(folder, backend="torch", device=device)
    place = guard.ensemble.mean.device
    store = PartialResults(folder / PARTIAL)
    report = auditing.audit(
        guard.ensemble,
        images.scaled().to(place),
        images.labels.to(place),
        ThreatModel(norm="linf", epsilon=EPSILON),
        attacks=PRESET,
        surrogates={name: load(path, backend="torch", device=device).ensemble for name, path in surrogates.items()},
        epsilons=RADII,
        name=guard.config.name,
        dataset=guard.config.training.dataset,
        progress=progress,
        store=store,
        suspicion_threshold=guard.config.suspicion_threshold,
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
