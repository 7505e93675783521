"""Reports as JSON and back."""

import base64
import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smdguard import render
from smdguard.errors import IntegrityError
from smdguard.report import AuditReport


@pytest.mark.parametrize("name", ["bare", "full", "hostile"])
def test_a_report_survives_json(name: str, request: pytest.FixtureRequest) -> None:
    report: AuditReport = request.getfixturevalue(name)
    document = render.json(report)
    again = render.parse_report(document.encode(), "report.json")
    assert again == report
    assert render.json(again) == document


def test_a_document_has_no_letter_that_a_terminal_obeys(bare: AuditReport) -> None:
    document = render.json(dataclasses.replace(bare, class_names=("\x1b[2J", "\x7f", "\x9b2J", "\u202e", "é\N{DOG}")))
    assert all(" " <= letter <= "~" for letter in document.replace("\n", ""))


def test_fields_that_came_later_may_be_missing(bare: AuditReport) -> None:
    document = json.loads(render.json(bare))
    for later in ("exhibits", "baseline", "suspicion", "impossible", "partial"):
        del document[later]
    assert render.parse_report(json.dumps(document).encode(), "report.json") == bare


def picture(channels: int, height: int, width: int) -> dict[str, Any]:
    pixels = base64.b64encode(bytes(channels * height * width)).decode()
    return {"channels": channels, "height": height, "width": width, "pixels": pixels}


DAMAGE: dict[str, tuple[Callable[[Any], object], str]] = {
    "no base64": (lambda d: d["exhibits"]["gallery"][0]["clean"].update(pixels="?"), "not base64"),
    "other size": (lambda d: d["exhibits"]["gallery"][0]["clean"].update(width=7), "3 x 6 x 7 pixels cannot hold 90"),
    "no pixels": (lambda d: d["exhibits"]["saliency"][0]["image"].update(height=0, pixels=""), "cannot hold 0 bytes"),
    "cosines": (lambda d: d["exhibits"]["saliency"][0]["cosines"].pop(), "2 cosines cannot be those of 3 members"),
    "change of other size": (
        lambda d: d["exhibits"]["gallery"][0].update(adversarial=picture(3, 2, 2)),
        "must be of one size",
    ),
    "no maps": (lambda d: d["exhibits"]["saliency"][0].update(maps=[], cosines=[]), "at least one member"),
    "fewer maps": (
        lambda d: d["exhibits"]["saliency"][0].update(maps=[picture(1, 5, 6)], cosines=[]),
        "the same members on every image",
    ),
    "no number": (lambda d: d["curve"][0]["robust_accuracy"].update(low=math.nan), "should be a finite number"),
    "ragged": (lambda d: d["transfer"]["members"][1].pop(), "a row and a column for each member"),
    "radius": (lambda d: d["threat"].update(epsilon=-1), "epsilon must lie between"),
    "verdict": (lambda d: d.update(verdict="fine"), "verdict: "),
    "version": (lambda d: d.update(schema_version=99), "schema version 99; this version reads 1"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_report_is_refused(full: AuditReport, damage: str) -> None:
    document = json.loads(render.json(full))
    break_it, message = DAMAGE[damage]
    break_it(document)
    with pytest.raises(IntegrityError, match=message):
        render.parse_report(json.dumps(document).encode(), "report.json")


def test_a_report_without_end_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smdguard.render.documents.MAX_TEXT_BYTES", 1000)
    (tmp_path / "report.json").symlink_to("/dev/zero")
    with pytest.raises(IntegrityError, match=r"report\.json has more than 1,000 bytes, which is the limit$"):
        render.read_report(tmp_path / "report.json", hint="; look elsewhere")
