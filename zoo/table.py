"""The zoo as a table in Markdown, for the README."""

from smdguard.manifest import Manifest, ManifestEntry

HEADER = "| model | trained on | epochs | clean | worst case | verdict |\n| --- | --- | ---: | ---: | ---: | --- |\n"


def markdown_table(manifest: Manifest) -> str:
    """One row a model, with the clean and worst-case accuracy of its audit."""
    return HEADER + "".join(_row(entry) for entry in manifest.models)


def _row(entry: ManifestEntry) -> str:
    worst = entry.evaluations[0]
    radius = f"{worst.threat.norm} {worst.threat.epsilon:.3g}"
    return (
        f"| `{entry.name}` | {entry.training.dataset} | {entry.training.num_epochs} | {worst.clean_accuracy:.1%} | "
        f"{worst.robust_accuracy:.1%} at {radius} | {entry.verdict} |\n"
    )
