"""The zoo as a table in Markdown, for the README."""

from smdguard.manifest import WORST_CASE, Manifest, ManifestEntry
from training.markdown import table

_HEADER = ("model", "trained on", "epochs", "clean", "worst case", "verdict")


def zoo_table(manifest: Manifest) -> str:
    """One row a model, with the clean accuracy of its audit and the worst case at each radius."""
    return table(_HEADER, map(_row, manifest.models), right=("epochs", "clean"))


def _row(entry: ManifestEntry) -> list[str]:
    curve = sorted(
        (evaluation for evaluation in entry.evaluations if evaluation.attack == WORST_CASE),
        key=lambda evaluation: evaluation.threat.epsilon,
    )
    points = ", ".join(f"{point.robust_accuracy:.1%} at {point.threat.epsilon:.3g}" for point in curve)
    return [
        f"`{entry.name}`",
        entry.training.dataset,
        str(entry.training.num_epochs),
        f"{curve[-1].clean_accuracy:.1%}",
        f"{curve[-1].threat.norm}: {points}",
        entry.verdict,
    ]
