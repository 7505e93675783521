"""The sentence on pictures that a report could hold and does not."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # It would import torch, which predictions do without.
    from smdguard.report import AuditReport


def missing_pictures(report: "AuditReport") -> str:
    """Why there is no image before and after, though the model gets some right; empty where there is one."""
    has_gallery = report.exhibits is not None and len(report.exhibits.gallery) > 0
    if has_gallery or report.clean_accuracy.value == 0:
        return ""
    stopped, absent = "the audit was stopped before it made any", "the audit made none, or they were not stored with it"
    why = stopped if report.partial else absent
    return f"This report has no pictures of images before and after an attack: {why}."
