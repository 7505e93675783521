"""Check that an entry is what it says: files, golden outputs on both back ends, card, audit."""

from smdguard import render
from smdguard.errors import IntegrityError
from smdguard.files import sha256
from smdguard.guard import Guard
from smdguard.hub import find_model
from smdguard.manifest import ManifestEntry

from zoo.card import model_card
from zoo.entries import AUDIT, CARD, GOLDEN
from zoo.golden import check_golden


def verify_entry(entry: ManifestEntry) -> str:
    """Check an entry against its files; returns a line that says what was found.

    Raises:
        SmdguardError: Something does not hold.
    """
    folder = find_model(entry.name)
    contents = {file: folder.read(file) for file in folder.config.files}
    for pinned in (entry.weights, entry.onnx, entry.golden):
        if pinned is not None and sha256(contents[pinned.file]) != pinned.sha256:
            raise IntegrityError(f"{entry.name}: {pinned.file} is not the one that the manifest names")
    differences = [
        check_golden(
            Guard(folder, backend=backend, device="cpu").backend,
            contents[GOLDEN],
            atol=entry.golden.atol,
            name=entry.name,
        )
        for backend in ("torch", "onnx")
    ]
    audit = (folder.path / AUDIT).read_bytes()
    report = render.parse_report(audit, str(folder.path / AUDIT))
    if report.verdict != entry.verdict or any(row.report_sha256 != sha256(audit) for row in entry.evaluations):
        raise IntegrityError(f"{entry.name}: {AUDIT} is not the audit that the manifest's figures come from")
    if (folder.path / CARD).read_text() != model_card(entry, folder.config):
        raise IntegrityError(f"{entry.name}: {CARD} is not the card of its entry; write it anew with zoo audit")
    return f"{entry.name}: {len(contents)} files, largest difference of a probability {max(differences):.1g}"
