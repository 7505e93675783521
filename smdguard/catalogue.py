"""The zoo: its manifest, and where the files of its models are."""

from functools import cache
from pathlib import Path
from typing import Any, Literal

from smdguard.errors import UnknownModelError
from smdguard.files import is_file, is_folder, zoo_folder
from smdguard.manifest import Manifest, ManifestEntry, parse
from smdguard.model_folder import AUDIT, CONFIG, ONNX, WEIGHTS, read_pinned_audit, read_text, read_verified
from smdguard.remote import Repository

Origin = Literal["bundled", "checkout", "cached", "hub", "unpublished"]


@cache
def read_manifest() -> Manifest:
    """The zoo's manifest.

    Raises:
        IntegrityError: It is missing or malformed.
    """
    path = zoo_folder() / "manifest.json"
    return parse(Manifest, read_text(path), str(path))


def read_test_subset(dataset: str) -> bytes:
    """The bundled test images of a data set, verified: the content of an .npz file.

    Raises:
        UnknownModelError: None are bundled for that data set.
        IntegrityError: The file is not the one that the manifest names.
    """
    manifest = read_manifest()
    if dataset not in manifest.test_subsets:
        raise UnknownModelError(
            f"no test images of {dataset!r} are bundled, only of {', '.join(manifest.test_subsets)}; "
            "name a folder that holds the data set with --data"
        )
    expected = manifest.test_subsets[dataset]
    return read_verified(zoo_folder() / "data" / expected.file, expected, "the manifest")


def source_of(entry: ManifestEntry) -> Path | Repository | None:
    """Where the model's files come from: a folder of the zoo, else where the manifest says that it is published.

    The files of a model are published together.
    """
    folder = zoo_folder() / "models" / entry.name
    if is_folder(folder):
        return folder
    weights = entry.weights
    return Repository(weights.repo, weights.revision) if weights.repo and weights.revision else None


def is_at_hand(entry: ManifestEntry) -> bool:
    """Whether the model's files are on this machine."""
    return _origin(entry) not in ("hub", "unpublished")


def read_audit(entry: ManifestEntry) -> bytes | None:
    """The audit of a model of the zoo, verified; None where it was not audited or the audit is not on this machine.

    Raises:
        IntegrityError: It is not the one that the manifest names.
    """
    source = source_of(entry)
    folder = source.folder if isinstance(source, Repository) else source
    if folder is None or not entry.evaluations or not is_file(folder / AUDIT):
        return None
    return read_pinned_audit(folder, entry)


def list_zoo() -> list[dict[str, Any]]:
    """What is known of every model of the zoo, as a dictionary each."""
    rows = []
    for entry in read_manifest().models:
        worst = entry.worst_case
        rows.append(
            {
                "name": entry.name,
                "dataset": entry.training.dataset,
                "num_members": entry.architecture.num_members,
                "clean_accuracy": worst and worst.clean_accuracy,
                "worst_case_accuracy": worst and worst.robust_accuracy,
                "epsilon": worst and worst.threat.epsilon,
                "verdict": entry.verdict,
                "num_bytes": sum(file.num_bytes for file in (entry.weights, entry.onnx) if file),
                "where": _origin(entry),
            }
        )
    return rows


def _origin(entry: ManifestEntry) -> Origin:
    """Where the model's files are: with the installed package, in a checkout, in the Hub's cache, on it, or nowhere."""
    source = source_of(entry)
    if isinstance(source, Path):
        return "bundled" if zoo_folder().name == "_zoo" else "checkout"
    if source is None:
        return "unpublished"
    files = [CONFIG, WEIGHTS, *([ONNX] if entry.onnx else [])]
    return "cached" if all(map(source.has, files)) else "hub"
