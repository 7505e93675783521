"""Check that an entry is what it says: files, golden outputs on both back ends, card, audit."""

from pathlib import Path

from smdguard import render
from smdguard.errors import IntegrityError
from smdguard.files import sha256
from smdguard.golden import check_golden
from smdguard.guard import Guard
from smdguard.hub import AUDIT, CARD, CONFIG, GOLDEN, find_model
from smdguard.manifest import ManifestEntry
from zoo.card import model_card
from zoo.entries import describe


def verify_entry(entry: ManifestEntry) -> str:
    """Check an entry against its files; returns a line that says what was found.

    Raises:
        SmdguardError: Something does not hold.
    """
    folder = find_model(entry.name)
    contents = {file: folder.read(file) for file in folder.config.files}
    differences = [
        check_golden(
            Guard(folder, backend=backend, device="cpu").backend,
            contents[GOLDEN],
            atol=entry.golden.atol,
            name=entry.name,
        )
        for backend in ("torch", "onnx")
    ]
    audit = _read(folder.path / AUDIT)
    report = render.parse_report(audit, str(folder.path / AUDIT))
    expected = describe(folder.config, report, config_sha256=entry.training.config_sha256, report_sha256=sha256(audit))
    if _unpublished(entry) != expected:
        raise IntegrityError(f"{entry.name}: the manifest does not say what {CONFIG} and {AUDIT} say")
    if _read(folder.path / CARD) != model_card(entry, folder.config).encode():
        raise IntegrityError(f"{entry.name}: {CARD} is not the card of its entry; write it anew with zoo audit")
    return f"{entry.name}: {len(contents)} files, largest difference of a probability {max(differences):.1g}"


def _unpublished(entry: ManifestEntry) -> ManifestEntry:
    """The entry without where its files are published, which stands in the manifest alone."""
    nowhere = {"repo": None, "revision": None}
    files = {"weights": entry.weights, "onnx": entry.onnx}
    return entry.model_copy(update={key: file and file.model_copy(update=nowhere) for key, file in files.items()})


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise IntegrityError(f"{path} cannot be read: {error.strerror}") from error
