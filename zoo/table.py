"""The zoo as a table in Markdown, for the README."""

from smdguard.manifest import Manifest, ManifestEntry
from training.markdown import table

_HEADER = ("model", "trained on", "epochs", "clean", "worst case", "verdict")


def zoo_table(manifest: Manifest) -> str:
    """One row a model, with the clean accuracy of its audit and the worst case at each radius."""
    return table(_HEADER, map(_row, manifest.models), right=("epochs", "clean"))


def _row(entry: ManifestEntry) -> list[str]:
    points = ", ".join(f"{point.robust_accuracy:.1%} at {point.threat.epsilon:.3g}" for point in entry.curve)
    worst = entry.curve[-1]
    return [
        f"`{entry.name}`",
        entry.training.dataset,
        str(entry.training.num_epochs),
        f"{worst.clean_accuracy:.1%}",
        f"{worst.threat.norm}: {points}",
        entry.verdict,
    ]
