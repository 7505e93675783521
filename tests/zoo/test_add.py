"""What `add` and `audit` bring into a zoo holds together, and is of the zoo alone."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from smdguard import render
from smdguard.auditing.crafting import Workshop
from smdguard.auditing.partial_results import PartialResults
from smdguard.catalogue import read_manifest
from smdguard.errors import IntegrityError, InvalidInputError, SmdguardError
from smdguard.files import sha256, zoo_folder
from smdguard.hub import find_model
from smdguard.manifest import ManifestEntry, serialise
from smdguard.model_folder import AUDIT, CARD, CONFIG, GOLDEN, ONNX, WEIGHTS
from tests.zoo.conftest import NAME
from training.audits import PARTIAL
from zoo import entries
from zoo.__main__ import main
from zoo.entries import add_model, audit_model, replace_in_manifest


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


def test_a_model_stays_as_it_is_until_the_new_one_is_audited(
    zoo: Path,
    entry: ManifestEntry,
    tiny_copy: Path,
    edit_config: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = zoo / "models" / NAME
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    edit_config(tiny_copy, lambda config: config.update(clean_accuracy=0.5))
    kept_in = []

    def cut_off(waiting: Path, *_: object, store: PartialResults, **__: object) -> None:
        assert find_model(waiting).config.clean_accuracy == 0.5
        kept_in.append(store.folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(entries, "audit_zoo_model", cut_off)
    with pytest.raises(KeyboardInterrupt):
        add_model(tiny_copy, NAME)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert find_model(NAME).config.clean_accuracy != 0.5
    # Where the same command goes on from.
    assert kept_in == [folder / PARTIAL]


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


def test_audit_of_a_published_model_keeps_its_place_on_the_hub(zoo: Path, entry: ManifestEntry) -> None:
    # Another verdict, so that the figures are others however alike the two audits are.
    published = entry.published_at("org/name", "a" * 40).model_copy(update={"verdict": "unreliable"})
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


def test_model_of_images_of_ones_own_is_shown_where_it_is_audited(
    zoo: Path, tiny_copy: Path, edit_config: Callable[..., None]
) -> None:
    edit_config(tiny_copy, lambda config: config["training"].update(dataset="my-photos"))
    answer = CliRunner().invoke(main, ["add", str(tiny_copy), "--name", NAME])
    assert (answer.exit_code, answer.stderr.count("\n")) == (1, 1)
    assert f"{tiny_copy} was trained on my-photos, and the zoo is for models of mnist, fashion-mnist" in answer.stderr
    assert f"`smdguard audit --model {tiny_copy} --data DIR`" in answer.stderr


def test_model_that_no_recipe_describes_is_refused(
    zoo: Path, tiny_copy: Path, edit_config: Callable[..., None]
) -> None:
    edit_config(tiny_copy, lambda config: config["training"].update(learning_rate_schedule="cosine"))
    answer = CliRunner().invoke(main, ["add", str(tiny_copy), "--name", NAME])
    assert (answer.exit_code, answer.stderr.count("\n")) == (1, 1)
    assert f"{NAME} was trained as no recipe says: learning_rate_schedule: Input should be" in answer.stderr


@pytest.mark.parametrize("command", ["audit", "measure", "plain-average", "uniform-start"])
def test_what_is_not_in_the_zoo_is_not_audited(tiny_copy: Path, entry: ManifestEntry, command: str) -> None:
    before = sorted(tiny_copy.iterdir())
    answer = CliRunner().invoke(main, [command, str(tiny_copy)])
    assert (answer.exit_code, answer.stderr) == (1, f"Error: there is no entry '{tiny_copy}'; the zoo has {NAME}\n")
    assert sorted(tiny_copy.iterdir()) == before
