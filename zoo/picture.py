"""The README's picture: the worst case of an ensemble at each radius, beside an undefended one's."""

import dataclasses

from smdguard import render
from smdguard.hub import find_model
from smdguard.report import AuditReport, Baseline
from zoo.entries import AUDIT

FILE = "accuracy.png"


def accuracy_picture(name: str, baseline: str) -> bytes:
    """The PNG, drawn from the audits of two models of the zoo."""
    audited, undefended = _audit_of(name), _audit_of(baseline)
    shown = Baseline(baseline, undefended.preset, undefended.num_images, undefended.curve)
    return render.figure_files(dataclasses.replace(audited, baseline=shown))["curve.png"]


def _audit_of(name: str) -> AuditReport:
    path = find_model(name).path / AUDIT
    return render.parse_report(path.read_bytes(), str(path))
