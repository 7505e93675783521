"""What was added verifies, and `verify` finds what does not hold."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
from click.testing import CliRunner

import smdguard as sg
from smdguard import render
from smdguard.errors import IntegrityError
from smdguard.files import sha256
from smdguard.hub import find_model
from smdguard.manifest import ManifestEntry
from smdguard.model_folder import AUDIT, CARD, CONFIG, GOLDEN, ONNX, WEIGHTS
from smdguard.report import AttackResult, AuditReport, Interval, RobustAccuracy
from tests.zoo.conftest import NAME
from zoo import verify
from zoo.__main__ import main
from zoo.card import model_card
from zoo.entries import describe
from zoo.verify import leeway, verify_entry

MAKE_ANEW = f"make it anew with python -m zoo audit {NAME}"


def test_added_model_verifies_and_predicts(entry: ManifestEntry) -> None:
    assert verify_entry(entry).startswith(f"{NAME}: 3 files, largest difference of a probability ")
    assert sg.load(NAME, device="cpu").predict(numpy.zeros((28, 28), numpy.uint8)).suspicious is None
    answer = CliRunner().invoke(main, ["verify"])
    assert (answer.exit_code, answer.stdout.count("\n")) == (0, 1)


def flip(content: bytes) -> bytes:
    return content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]


DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "card edited": (CARD, lambda content: content.replace(b"fragile", b"robust"), "is not the card of its entry"),
    "card cut": (CARD, lambda content: content[:-1], "the card of its entry; write it anew with python -m zoo cards$"),
    "audit edited": (AUDIT, lambda content: content.replace(b'"seconds"', b' "seconds"'), "the manifest does not say"),
    "audit emptied": (AUDIT, lambda content: b"{}", "is not an audit report"),
    "golden outputs": (GOLDEN, flip, "golden.safetensors is not the file"),
    "weights": (WEIGHTS, flip, "model.safetensors is not the file"),
    "onnx": (ONNX, flip, "model.onnx is not the file"),
    "configuration": (CONFIG, flip, "config.json is not the file"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_damage_is_found(zoo: Path, entry: ManifestEntry, case: str) -> None:
    name, damage, message = DAMAGES[case]
    path = zoo / "models" / NAME / name
    before = path.read_bytes()
    path.write_bytes(damage(before))
    assert path.read_bytes() != before
    with pytest.raises(IntegrityError, match=message):
        verify_entry(entry)
    answer = CliRunner().invoke(main, ["verify"])
    assert answer.exit_code == 1
    assert answer.stderr.startswith("Error: ")
    assert len(answer.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", [CARD, AUDIT, GOLDEN])
def test_missing_file_is_found(zoo: Path, entry: ManifestEntry, name: str) -> None:
    (zoo / "models" / NAME / name).unlink()
    with pytest.raises(IntegrityError, match=f"{name} cannot be read"):
        verify_entry(entry)


EDITS: dict[str, Callable[[dict[str, Any]], object]] = {
    "verdict": lambda document: document.update(verdict="robust"),
    "figure": lambda document: document["evaluations"][0].update(robust_accuracy=0.99),
    "report": lambda document: document["evaluations"][-1].update(report_sha256="0" * 64),
    "labels": lambda document: document["labels"].reverse(),
    "epochs": lambda document: document["training"].update(num_epochs=100),
    "weights": lambda document: document["weights"].update(sha256="0" * 64),
    "golden": lambda document: document["golden"].update(sha256="0" * 64),
}


@pytest.mark.parametrize("case", EDITS)
def test_entry_that_says_something_else_is_found(entry: ManifestEntry, case: str) -> None:
    document = entry.model_dump(mode="json")
    EDITS[case](document)
    edited = ManifestEntry.model_validate_json(json.dumps(document))
    assert edited != entry
    with pytest.raises(IntegrityError, match="the manifest does not say what"):
        verify_entry(edited)


def forge(zoo: Path, entry: ManifestEntry, change: Callable[[AuditReport], AuditReport]) -> ManifestEntry:
    """Change the audit; the card and the entry that is returned say what it says."""
    folder, config = zoo / "models" / NAME, find_model(NAME).config
    forged = change(render.parse_report((folder / AUDIT).read_bytes(), AUDIT))
    content = render.json(forged).encode()
    told = describe(config, forged, config_sha256=entry.training.config_sha256, report_sha256=sha256(content))
    (folder / AUDIT).write_bytes(content)
    (folder / CARD).write_text(model_card(told, config, forged.suspicion))
    return told


def with_figure(result: AttackResult, share: float) -> AttackResult:
    return replace(result, robust_accuracy=Interval(share, share, share))


def test_audit_of_another_preset_is_found(zoo: Path, entry: ManifestEntry) -> None:
    forge(zoo, entry, lambda report: replace(report, preset="quick"))
    with pytest.raises(IntegrityError, match=rf"audit.json is not of the preset standard; {MAKE_ANEW}$"):
        verify_entry(entry)


def test_audit_without_the_black_box_attacks_that_the_zoo_can_make_is_found(
    entry: ManifestEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "default_surrogates", lambda _: ["naive-lenet-mnist-s1", "smd-lenet-mnist-s1"])
    message = "attacks crafted on no other model, and the zoo has naive-lenet-mnist-s1 and smd-lenet-mnist-s1 for that"
    with pytest.raises(IntegrityError, match=f"{message}; {MAKE_ANEW}$"):
        verify_entry(entry)


FORGERIES: dict[str, tuple[Callable[[AuditReport], AuditReport], str]] = {
    "clean": (
        lambda report: replace(report, clean_accuracy=Interval(0.9, 0.8, 1.0)),
        "no attack leaves .*% right, but audit.json says 90.0%",
    ),
    "attack": (
        lambda report: replace(report, attacks=tuple(with_figure(result, 0.75) for result in report.attacks)),
        r"(FGSM|MIM)\(.*\) leaves .*% right, but audit.json says 75.0%",
    ),
    "worst case": (
        lambda report: replace(report, worst_case=RobustAccuracy(Interval(0.5, 0.4, 0.6))),
        "the preset quick leaves .*% right in the worst case, but audit.json says 50.0%",
    ),
}


@pytest.mark.parametrize("case", FORGERIES)
def test_audit_that_attacks_contradict_is_found(zoo: Path, entry: ManifestEntry, case: str) -> None:
    change, message = FORGERIES[case]
    told = forge(zoo, entry, change)
    with pytest.raises(IntegrityError, match=message):
        verify_entry(told, num_images=20)


def test_attacking_fewer_images_again_leaves_room_for_chance() -> None:
    assert leeway(0.5, num_images=1000, num_again=1000) == pytest.approx(0.01)
    # The share of 100 images drawn from 1,000 deviates by 0.5 / 10 * sqrt(900 / 999).
    assert leeway(0.5, num_images=1000, num_again=100) == pytest.approx(0.01 + 4 * 0.05 * (900 / 999) ** 0.5)
    assert leeway(0.0, num_images=1000, num_again=100) == pytest.approx(0.01)


def test_publishing_changes_nothing_that_is_verified(entry: ManifestEntry) -> None:
    weights = entry.weights.model_copy(update={"repo": "org/name", "revision": "a" * 40})
    published = entry.model_copy(update={"weights": weights})
    assert verify_entry(published, num_images=10) == verify_entry(entry, num_images=10)
