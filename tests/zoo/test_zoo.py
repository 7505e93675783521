"""What `add` brings into a zoo holds together, and `verify` finds what does not."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
from click.testing import CliRunner
from huggingface_hub import ModelCard
from safetensors.numpy import load, save

import smdguard as sg
from smdguard import catalogue, render
from smdguard.auditing.crafting import Workshop
from smdguard.catalogue import read_manifest, read_test_subset
from smdguard.datasets import balanced_subset, parse_subset
from smdguard.errors import IntegrityError, InvalidInputError, SmdguardError
from smdguard.files import sha256, zoo_folder
from smdguard.golden import check_golden, make_golden
from smdguard.hub import find_model
from smdguard.manifest import Manifest, ManifestEntry, Objective, TestSubset, serialise
from smdguard.model_folder import AUDIT, CARD, CONFIG, GOLDEN, ONNX, WEIGHTS
from smdguard.report import AttackResult, AuditReport, Interval, RobustAccuracy
from training.audits import PARTIAL
from zoo import entries, verify
from zoo.__main__ import main
from zoo.card import model_card
from zoo.citations import citation_of
from zoo.entries import add_model, audit_model, describe, replace_in_manifest
from zoo.verify import leeway, verify_entry

NAME = "naive-lenet-mnist"


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Iterator[Path]:
    """A zoo with 40 test images, into which the tiny model was added."""
    folder = tmp_path_factory.mktemp("zoo")
    (folder / "data").mkdir()
    data = balanced_subset(parse_subset(read_test_subset("mnist")), 40)
    file = folder / "data" / "mnist-test.npz"
    numpy.savez_compressed(file, images=data.images.numpy(), labels=data.labels.numpy().astype(numpy.uint8))
    content = file.read_bytes()
    subset = TestSubset(file=file.name, num_images=40, sha256=sha256(content), num_bytes=len(content))
    (folder / "manifest.json").write_bytes(serialise(Manifest(test_subsets={"mnist": subset})))
    with pytest.MonkeyPatch.context() as patch:
        for module in (catalogue, entries):
            patch.setattr(module, "zoo_folder", lambda: folder)
        read_manifest.cache_clear()
        add_model(tiny_folder, NAME)
        yield folder
    read_manifest.cache_clear()


@pytest.fixture
def entry(zoo: Path) -> Iterator[ManifestEntry]:
    """The tiny model's entry; whatever a test does to its files is undone."""
    backup = zoo / "backup"
    shutil.copytree(zoo / "models", backup)
    (found,) = read_manifest().models
    yield found
    shutil.rmtree(zoo / "models")
    backup.rename(zoo / "models")


def test_added_model_has_every_file(zoo: Path, entry: ManifestEntry, tiny_folder: Path, tiny_onnx: bytes) -> None:
    folder = zoo / "models" / NAME
    assert {file.name for file in folder.iterdir()} == {CONFIG, WEIGHTS, ONNX, GOLDEN, AUDIT, CARD}
    assert (folder / WEIGHTS).read_bytes() == (tiny_folder / WEIGHTS).read_bytes()
    assert (folder / ONNX).read_bytes() == tiny_onnx
    assert sha256((folder / CONFIG).read_bytes()) == entry.training.config_sha256
    assert find_model(NAME).config.name == NAME
    assert find_model(NAME).config.files.keys() == {WEIGHTS, ONNX, GOLDEN}


def test_an_audit_that_was_cut_off_goes_on(zoo: Path, entry: ManifestEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = find_model(NAME)

    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(entries, "write_atomically", cut_off)
        with pytest.raises(KeyboardInterrupt):
            audit_model(folder.path, folder.config)
    assert (folder.path / PARTIAL).is_dir()
    monkeypatch.setattr(Workshop, "craft", lambda *_: pytest.fail("it was made already"))
    monkeypatch.setattr(entries, "replace_in_manifest", lambda _: None)
    again = audit_model(folder.path, folder.config).evaluations
    figures = [(row.attack, row.threat.epsilon, row.robust_accuracy) for row in entry.evaluations]
    assert [(row.attack, row.threat.epsilon, row.robust_accuracy) for row in again] == figures
    assert not (folder.path / PARTIAL).exists()


def test_figures_of_the_entry_are_those_of_its_audit(zoo: Path, entry: ManifestEntry) -> None:
    content = (zoo / "models" / NAME / AUDIT).read_bytes()
    report = render.parse_report(content, AUDIT)
    assert (report.model, report.dataset, report.num_images) == (NAME, "mnist", 40)
    worst, *rest = entry.evaluations
    assert (worst.attack, worst.threat.epsilon) == ("worst_case", 0.3)
    assert worst.robust_accuracy == report.worst_case.robust_accuracy.value
    assert worst.clean_accuracy == report.clean_accuracy.value > 0
    curve = {row.threat.epsilon: row.robust_accuracy for row in rest if row.attack == "worst_case"}
    expected = {point.epsilon: point.robust_accuracy.value for point in report.curve if point.epsilon != 0.3}
    assert curve == expected
    assert expected.keys() == {0.1, 0.2}
    attacks = [row for row in rest if row.attack != "worst_case"]
    made = [result for result in report.attacks if result.epsilon == 0.3 and result.num_attacked]
    assert [row.robust_accuracy for row in attacks] == [result.robust_accuracy.value for result in made]
    assert [row.num_attacked or 40 for row in attacks] == [result.num_attacked for result in made]
    assert {row.report_sha256 for row in entry.evaluations} == {sha256(content)}


def test_manifest_and_schema_are_written_together(zoo: Path, entry: ManifestEntry) -> None:
    manifest = json.loads((zoo / "manifest.json").read_bytes())
    assert [model["name"] for model in manifest["models"]] == [NAME]
    assert list(manifest["test_subsets"]) == ["mnist"]
    assert (zoo / "manifest.schema.json").read_bytes() == (zoo_folder() / "manifest.schema.json").read_bytes()


def test_added_model_verifies_and_predicts(entry: ManifestEntry) -> None:
    assert verify_entry(entry).startswith(f"{NAME}: 3 files, largest difference of a probability ")
    assert sg.load(NAME, device="cpu").predict(numpy.zeros((28, 28), numpy.uint8)).suspicious is None
    answer = CliRunner().invoke(main, ["verify"])
    assert (answer.exit_code, answer.stdout.count("\n")) == (0, 1)


def flip(content: bytes) -> bytes:
    return content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]


DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "card edited": (CARD, lambda content: content.replace(b"fragile", b"robust"), "is not the card of its entry"),
    "card cut": (CARD, lambda content: content[:-1], "is not the card of its entry"),
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
    (folder / CARD).write_text(model_card(told, config))
    return told


def with_figure(result: AttackResult, share: float) -> AttackResult:
    return replace(result, robust_accuracy=Interval(share, share, share))


def test_audit_of_another_preset_is_found(zoo: Path, entry: ManifestEntry) -> None:
    forge(zoo, entry, lambda report: replace(report, preset="quick"))
    with pytest.raises(IntegrityError, match=r"audit.json is not of the preset standard"):
        verify_entry(entry)


def test_audit_without_the_black_box_attacks_that_the_zoo_can_make_is_found(
    entry: ManifestEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "default_surrogates", lambda _: ["naive-lenet-mnist-s1", "smd-lenet-mnist-s1"])
    message = "attacks made on no other model, and the zoo has naive-lenet-mnist-s1 and smd-lenet-mnist-s1 for that"
    with pytest.raises(IntegrityError, match=message):
        verify_entry(entry)


def test_audit_of_a_published_model_keeps_its_place_on_the_hub(zoo: Path, entry: ManifestEntry) -> None:
    published = entry.published_at("org/name", "a" * 40)
    replace_in_manifest(published)
    try:
        assert CliRunner().invoke(main, ["audit", NAME]).output == f"{NAME}: {entry.verdict}; publish it again\n"
        (again,) = read_manifest().models
        assert (again.weights, again.onnx) == (published.weights, published.onnx)
    finally:
        replace_in_manifest(entry)


def test_another_configuration_has_no_place_on_the_hub(zoo: Path, entry: ManifestEntry) -> None:
    replace_in_manifest(entry.published_at("org/name", "a" * 40))
    folder = find_model(NAME)
    config = folder.config.model_copy(update={"clean_accuracy": 0.5})
    (folder.path / CONFIG).write_bytes(serialise(config))
    try:
        assert audit_model(folder.path, config).weights == entry.weights
    finally:
        replace_in_manifest(entry)


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


def golden_of(shape: tuple[int, ...], dtype: type = numpy.uint8) -> dict[str, numpy.ndarray]:
    return {"images": numpy.zeros(shape, dtype), "member_probabilities": numpy.zeros((len(shape), 1), numpy.float32)}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "are no images with outputs: 'images'"),
        (golden_of((2, 3, 8, 8)), r"are of images uint8 \(2, 3, 8, 8\)"),
        (golden_of((2, 1, 28, 28), numpy.float32), "are of images float32"),
        (golden_of((0, 1, 28, 28)), r"are of images uint8 \(0, 1, 28, 28\)"),
        (golden_of(()), r"are of images uint8 \(\)"),
        (golden_of((2, 1, 28, 28)), r"on torch: its outputs have the shape \(2, 3, 10\), its golden ones \(4, 1\)$"),
    ],
)
def test_golden_outputs_that_cannot_be_those_of_the_model_are_refused(
    tiny_folder: Path, tensors: dict[str, numpy.ndarray], message: str
) -> None:
    guard = sg.load(str(tiny_folder), backend="torch", device="cpu")
    with pytest.raises(IntegrityError, match=message):
        check_golden(guard, save(tensors), atol=1e-5)


def test_golden_outputs_in_another_format_are_refused(tiny_folder: Path) -> None:
    guard = sg.load(str(tiny_folder), backend="torch", device="cpu")
    with pytest.raises(IntegrityError, match="are no images with outputs"):
        check_golden(guard, b"PK\x03\x04 and so on", atol=1e-5)


@pytest.mark.parametrize(("shift", "passes"), [(0.0, True), (5e-6, True), (2e-5, False), (numpy.nan, False)])
def test_golden_outputs_hold_to_within_the_tolerance(tiny_folder: Path, shift: float, passes: bool) -> None:
    guard = sg.load(str(tiny_folder), backend="torch", device="cpu")
    images = parse_subset(read_test_subset("mnist")).images[::4].numpy()
    tensors = load(make_golden(guard.backend, images))
    tensors["member_probabilities"][3, 1, 4] += shift
    if passes:
        assert check_golden(guard, save(tensors), atol=1e-5) == pytest.approx(shift, abs=1e-6)
    else:
        with pytest.raises(IntegrityError, match=r" on torch: a probability differs by .* allowed is 1e-05"):
            check_golden(guard, save(tensors), atol=1e-5)


NO_NAMES = ("../elsewhere", "Upper", "", "a b")
NAMES_OF_OTHERS = ("smd-lenet-mnist", "naive-lenet-mnist-s2", "naive-lenet-mnist-x5", "my-model")


@pytest.mark.parametrize(
    ("name", "error", "refusal"),
    [
        *((name, IntegrityError, "is not a valid ModelConfig: name: ") for name in NO_NAMES),
        *(
            (name, InvalidInputError, f"the model is {NAME}, and cannot be called {name}; call it {NAME}, ")
            for name in NAMES_OF_OTHERS
        ),
    ],
)
def test_model_is_added_under_its_own_name_alone(
    zoo: Path, tiny_folder: Path, name: str, error: type[SmdguardError], refusal: str
) -> None:
    before = sorted(zoo.rglob("*"))
    with pytest.raises(error, match=refusal):
        add_model(tiny_folder, name)
    assert sorted(zoo.rglob("*")) == before


@pytest.mark.parametrize("command", ["audit", "measure", "plain-average", "uniform-start"])
def test_what_is_not_in_the_zoo_is_not_audited(tiny_copy: Path, entry: ManifestEntry, command: str) -> None:
    before = sorted(tiny_copy.iterdir())
    answer = CliRunner().invoke(main, [command, str(tiny_copy)])
    assert (answer.exit_code, answer.stderr) == (1, f"Error: there is no entry '{tiny_copy}'; the zoo has {NAME}\n")
    assert sorted(tiny_copy.iterdir()) == before


def test_cards_are_written_anew(zoo: Path, entry: ManifestEntry) -> None:
    card = zoo / "models" / NAME / CARD
    before = card.read_bytes()
    card.unlink()
    assert CliRunner().invoke(main, ["cards"]).exit_code == 0
    assert card.read_bytes() == before


def test_card_says_how_the_model_was_trained(zoo: Path, entry: ManifestEntry) -> None:
    config = find_model(NAME).config
    assert "Objective: `naive`.\n1 epochs, seed 0" in model_card(entry, config)
    assert "preview" not in model_card(entry, config)
    objective = Objective(
        name="smd", parameters={"weight": 1.0, "init": "m@abc"}, adversarial_training={"adversary": "pgd"}
    )
    changed = entry.model_copy(update={"name": "smd-resnet20-cifar10-preview", "objective": objective})
    card = model_card(changed, config)
    assert "Objective: `smd` (weight 1.0, init m).\nAdversarial training: every step" in card
    assert "attacked before (adversary pgd).\n1 epochs, seed 0" in card
    assert "**A preview.** It was trained for 1 epochs, where the recipe has 200" in card


@pytest.mark.parametrize(
    ("method", "adversary", "authors"),
    [
        ("naive", None, []),
        ("naive", "pgd", ["Madry"]),
        ("gal", None, ["Kariyappa"]),
        ("smd", "eat", ["Bogun", "Tramèr"]),
        ("smd-plus", None, ["Bogun", "Yang"]),
    ],
)
def test_card_refers_to_who_published_the_method(
    entry: ManifestEntry, method: str, adversary: str | None, authors: list[str]
) -> None:
    objective = Objective(name=method, adversarial_training=adversary and {"adversary": adversary})
    citation = citation_of(objective)
    assert [reference.partition(",")[0] for reference in citation.split("; ") if reference] == authors
    card = model_card(entry.model_copy(update={"citation": citation}), find_model(NAME).config)
    assert ("## References" in card) == bool(authors)
    assert citation in card


def test_card_opens_with_metadata_that_the_hub_reads(zoo: Path, entry: ManifestEntry) -> None:
    card = (zoo / "models" / NAME / CARD).read_text()
    metadata = ModelCard(card).data.to_dict()
    assert (metadata["license"], metadata["library_name"]) == ("apache-2.0", "smdguard")
    assert metadata["datasets"] == ["mnist"]
    clean, worst = metadata["model-index"][0]["results"][0]["metrics"]
    assert clean["value"] == pytest.approx(0.1)
    assert worst["name"] == "worst-case accuracy, linf 0.3"
    assert worst["value"] == pytest.approx(entry.evaluations[0].robust_accuracy, abs=1e-4)
    assert "{{" not in card
    assert "{%" not in card
    assert "None" not in card
