"""Check that an entry is what it says: files, golden outputs on both back ends, card, audit, and what attacks find."""

import math

from smdguard import render
from smdguard.companions import default_surrogates
from smdguard.errors import IntegrityError
from smdguard.files import read, sha256
from smdguard.golden import check_golden
from smdguard.guard import Guard
from smdguard.hub import find_model
from smdguard.manifest import ManifestEntry
from smdguard.model_folder import AUDIT, CARD, CONFIG, GOLDEN
from smdguard.report import AuditReport
from training.audits import sources_of
from zoo.audits import audit_zoo_model
from zoo.card import model_card
from zoo.entries import AUDIT_PRESET, describe

# Floating point differs between machines, which decides a few images.
_TOLERANCE = 0.01


def verify_entry(entry: ManifestEntry, *, num_images: int | None = None) -> str:
    """Check an entry against its files; returns a line that says what was found.

    Args:
        entry: The model.
        num_images: How many images to attack again; None for all that its audit attacked.

    Raises:
        SmdguardError: Something does not hold.
    """
    folder = find_model(entry.name)
    contents = {file: folder.read(file) for file in folder.config.files}
    differences = [
        check_golden(Guard(folder, backend=backend, device="cpu"), contents[GOLDEN], atol=entry.golden.atol)
        for backend in ("torch", "onnx")
    ]
    audit = read(folder.path / AUDIT, error=IntegrityError)
    report = render.parse_report(audit, str(folder.path / AUDIT))
    expected = describe(folder.config, report, config_sha256=entry.training.config_sha256, report_sha256=sha256(audit))
    make_anew = f"make it anew with python -m zoo audit {entry.name}"
    if report.preset != AUDIT_PRESET:
        raise IntegrityError(f"{entry.name}: {AUDIT} is not of the preset {AUDIT_PRESET}; {make_anew}")
    sources, surrogates = sources_of(report), set(default_surrogates(folder.config))
    if sources != surrogates:
        raise IntegrityError(
            f"{entry.name}: {AUDIT} has attacks crafted on {_listed(sources)}, and the zoo has {_listed(surrogates)} "
            f"for that; {make_anew}"
        )
    # Where its files are published stands in the manifest alone.
    if entry.published_at(None, None) != expected:
        raise IntegrityError(f"{entry.name}: the manifest does not say what {CONFIG} and {AUDIT} say")
    if read(folder.path / CARD, error=IntegrityError) != model_card(entry, folder.config, report.suspicion).encode():
        raise IntegrityError(
            f"{entry.name}: {CARD} is not the card of its entry; write it anew with python -m zoo cards"
        )
    again = audit_zoo_model(folder.path, folder.config, "quick", num_images=num_images)
    _require_agreement(report, again)
    return (
        f"{entry.name}: {len(contents)} files, largest difference of a probability {max(differences):.1g}, "
        f"attacked again: {again.worst_case.robust_accuracy.value:.1%} in the worst case"
    )


def _require_agreement(report: AuditReport, again: AuditReport) -> None:
    """Make sure that what attacks find now is what a report says.

    Raises:
        IntegrityError: The same attack finds something else, or others find more.
    """
    recorded, found = _accuracies(report), _accuracies(again)
    sizes = report.num_images, again.num_images
    for attack in recorded.keys() & found.keys():
        if abs(recorded[attack] - found[attack]) > leeway(recorded[attack], *sizes):
            raise IntegrityError(
                f"{report.model}: {attack} leaves {found[attack]:.1%} right, but {AUDIT} says {recorded[attack]:.1%}"
            )
    worst, worst_again = (each.worst_case.robust_accuracy.value for each in (report, again))
    if worst_again < worst - leeway(worst, *sizes):
        raise IntegrityError(
            f"{report.model}: the preset {again.preset} leaves {worst_again:.1%} right in the worst case, but {AUDIT} "
            f"says {worst:.1%}"
        )


def leeway(share: float, num_images: int, num_again: int) -> float:
    """How far the share of `num_again` images may be from that of the `num_images` that they are drawn from.

    Four standard deviations, and what floating point decides.

    Reference:
        Cochran, "Sampling Techniques", 1977, section 3.2 (the share in a sample without replacement).
    """
    variance = share * (1 - share) / num_again * (num_images - num_again) / max(1, num_images - 1)
    return _TOLERANCE + 4 * math.sqrt(variance)


def _listed(names: set[str]) -> str:
    return " and ".join(sorted(names)) or "no other model"


def _accuracies(report: AuditReport) -> dict[str, float]:
    """The clean accuracy, and that under each white-box attack on all images at the report's radius."""
    own = (result for result in report.attacks if result.access == "white-box")
    attacks = {
        result.repr: result.robust_accuracy.value
        for result in own
        if (result.epsilon, result.num_attacked) == (report.threat.epsilon, report.num_images)
    }
    return {"no attack": report.clean_accuracy.value, **attacks}
