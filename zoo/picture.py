"""The README's picture: the worst case of an SMD ensemble at each radius, beside an undefended one's."""

import dataclasses

from smdguard import render
from smdguard.hub import find_model
from smdguard.model_folder import AUDIT
from smdguard.report import AuditReport, Baseline

FILE = "accuracy.png"
MODEL, BASELINE = "smd-lenet-mnist", "naive-lenet-mnist"


def accuracy_picture() -> bytes:
    """The PNG, drawn from the audits of the two."""
    audited, undefended = (_audit_of(model) for model in (MODEL, BASELINE))
    shown = Baseline(BASELINE, undefended.preset, undefended.num_images, undefended.whole_curve)
    return render.figure_files(dataclasses.replace(audited, baseline=shown))["curve.png"]


def _audit_of(name: str) -> AuditReport:
    return render.read_report(find_model(name).path / AUDIT)
