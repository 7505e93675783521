"""The README's picture: the worst case of an ensemble at each radius, beside an undefended one's."""

import dataclasses

from smdguard import render
from smdguard.hub import find_model
from smdguard.model_folder import AUDIT
from smdguard.report import AuditReport, Baseline, CurvePoint

FILE = "accuracy.png"


def accuracy_picture(name: str, baseline: str) -> bytes:
    """The PNG, drawn from the audits of two models of the zoo."""
    audited, undefended = (_from_zero_on(_audit_of(model)) for model in (name, baseline))
    shown = Baseline(baseline, undefended.preset, undefended.num_images, undefended.curve)
    return render.figure_files(dataclasses.replace(audited, baseline=shown))["curve.png"]


def _audit_of(name: str) -> AuditReport:
    return render.read_report(find_model(name).path / AUDIT)


def _from_zero_on(report: AuditReport) -> AuditReport:
    """The report with the clean accuracy at the start of its curve."""
    return dataclasses.replace(report, curve=(CurvePoint(0.0, report.clean_accuracy), *report.curve))
