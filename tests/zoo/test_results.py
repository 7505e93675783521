"""RESULTS.md says what the audits that are kept for it say."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from smdguard.auditing.crafting import Store
from smdguard.errors import InvalidInputError
from smdguard.manifest import File
from smdguard.model_folder import WEIGHTS, ModelFolder
from smdguard.report import AuditReport, CurvePoint, Interval, RobustAccuracy
from tests.training.finished_runs import finished_run, write_run
from training.paper import EPSILON, RADII
from zoo import audits, kept_runs, results
from zoo.__main__ import main
from zoo.results import measure_model, not_measured, results_page

RUNS = {
    "smd-lenet-fashion-mnist": finished_run(
        "smd-lenet-fashion-mnist",
        clean=0.9,
        white={"PGD": 0.3, "*": 0.6},
        black={"naive-lenet-fashion-mnist-s1": 0.15},
        worst=0.15,
        transfer=((0.125, 0.5), (0.75, 0.25)),
        num_epochs=20,
    ),
    "naive-lenet-fashion-mnist-s1": finished_run("naive-lenet-fashion-mnist-s1", num_epochs=20),
    "smd-lenet-mnist": finished_run("smd-lenet-mnist", num_epochs=20),
    "smd-resnet20-cifar10-preview": finished_run("smd-resnet20-cifar10", clean=0.5, num_epochs=8),
}


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A zoo of four models whose audits are made up; the settings with which they were asked for."""
    asked: list[dict[str, Any]] = []

    def folder(name: str) -> ModelFolder:
        weights = File(sha256="5" * 64, num_bytes=1)
        config = RUNS[name].config.model_copy(update={"files": {WEIGHTS: weights}, "name": name})
        return ModelFolder(name, tmp_path / name, config)

    def audit(path: Path, config: Any, preset: str, **settings: Any) -> AuditReport:
        asked.append({"name": config.name, "preset": preset, **settings})
        report = RUNS[config.name].report
        if preset == "paper":
            return report
        stands = Interval(0.03, 0.02, 0.04)
        points = [CurvePoint(radius, stands) for radius in (*settings["radii"], EPSILON)] if settings["radii"] else []
        return replace(report, preset=preset, worst_case=RobustAccuracy(stands), curve=tuple(points), transfer=None)

    standard = SimpleNamespace(attack="BIM", threat=SimpleNamespace(epsilon=EPSILON), robust_accuracy=0.45)
    monkeypatch.setattr(results, "find_model", folder)
    monkeypatch.setattr(results, "audit_zoo_model", audit)
    for module in (kept_runs, results):
        monkeypatch.setattr(module, "zoo_folder", lambda: tmp_path)
    for module in (audits, results):
        monkeypatch.setattr(
            module,
            "read_manifest",
            lambda: SimpleNamespace(models=[SimpleNamespace(name=name, evaluations=[standard]) for name in RUNS]),
        )
    for name in RUNS:
        measure_model(name)
    write_run(finished_run("smd-lenet-mnist", white={"*": 0.25}, num_epochs=50), tmp_path / "trials" / "longer")
    write_run(finished_run("smd-lenet-mnist", num_members=5, white={"*": 0.125}), tmp_path / "runs")
    return asked


def test_audits_are_the_papers_and_full_at_the_radius_of_the_data_set(zoo: list[dict[str, Any]]) -> None:
    radii = {(each["name"], each["preset"]): list(each["radii"]) for each in zoo}
    assert radii == {
        ("smd-lenet-fashion-mnist", "paper"): list(RADII[:-1]),
        ("smd-lenet-fashion-mnist", "full"): [0.1],
        ("naive-lenet-fashion-mnist-s1", "paper"): list(RADII[:-1]),
        ("naive-lenet-fashion-mnist-s1", "full"): [0.1],
        ("smd-lenet-mnist", "paper"): list(RADII[:-1]),
        ("smd-lenet-mnist", "full"): [],
        ("smd-resnet20-cifar10-preview", "paper"): [8 / 255, *RADII[:-1]],
        ("smd-resnet20-cifar10-preview", "full"): [8 / 255],
    }
    assert {each["epsilon"] for each in zoo} == {0.3}


def test_black_box_attacks_are_made_on_what_the_zoo_has(zoo: list[dict[str, Any]]) -> None:
    made_on = {each["name"]: each["surrogates"] for each in zoo if each["preset"] == "paper"}
    assert made_on["smd-lenet-fashion-mnist"] == ["naive-lenet-fashion-mnist-s1"]
    assert made_on["smd-lenet-mnist"] == []


def test_an_audit_that_was_cut_off_goes_on_from_the_preset_before(
    zoo: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, kept = "smd-lenet-mnist", []

    def cut_off(*arguments: Any, store: Store, **_: Any) -> AuditReport:
        if arguments[2] == "full":
            raise KeyboardInterrupt
        kept.append(store.get("shard", b""))
        store["shard"] = b"result"
        return RUNS[name].report

    monkeypatch.setattr(results, "audit_zoo_model", cut_off)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            measure_model(name)
    assert kept == [b"", b"result"]


def test_page_sets_stronger_attacks_beside_the_papers(zoo: list[dict[str, Any]]) -> None:
    page = results_page()
    # At 0.1 the made-up figures have come a third of the way from the clean accuracy to that at 0.3.
    assert "| `smd-lenet-fashion-mnist` | 0.1 | 90.0 | 70.0 | 65.0 | 3.0 | - |" in page
    assert "| `smd-lenet-fashion-mnist` | 0.3 | 90.0 | 30.0 | 15.0 | 3.0 | fragile |" in page
    assert "| `smd-lenet-mnist` | 0.3 | 99.0 | 0.0 | 0.0 | 3.0 | fragile |" in page
    assert "Table 1: 3 members, white-box" in page
    assert "pending (99.3)" in page


def test_page_sets_figures_of_the_cards_beside_the_papers(zoo: list[dict[str, Any]]) -> None:
    page = results_page()
    assert "(SMD under BIM at 0.3 45.0 %, here 0.0)" in page
    # There is no such model here.
    assert "(SMD+ under PGD - %, here\n-)" in page


def test_a_preview_stands_beside_stronger_attacks_alone(zoo: list[dict[str, Any]]) -> None:
    page = results_page()
    assert "| `smd-resnet20-cifar10` | 0.0314 | " in page
    assert "| CIFAR-10 | SMD | pending (90.1) |" in page


def test_page_shows_trials_beside_the_zoos_runs(zoo: list[dict[str, Any]]) -> None:
    page = results_page()
    assert "| MNIST | SMD | white-box | longer | 99.0 | 25.0 | 25.0 |" in page
    assert "| MNIST | SMD | white-box | without it | 99.0 | 0.0 | 0.0 |" in page


def test_page_has_runs_that_are_no_models_of_the_zoo(zoo: list[dict[str, Any]]) -> None:
    page = results_page()
    smd = page[page.index("## Table 5: 5 members, white-box") :].split("| MNIST | SMD |")[1].splitlines()[0]
    assert smd.split(" | ")[1].startswith("`-` 12.5 (")
    assert "| MNIST | SMD | 5 | white-box |" in page
    assert "smd-lenet-mnist-x5" not in page[page.index("## The same models under stronger attacks") :]


def test_page_mixes_no_ways_to_train(zoo: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    name = "smd-lenet-mnist-s2"
    monkeypatch.setitem(RUNS, name, finished_run(name, num_epochs=20, parameters={"weight": 0.5}))
    measure_model(name)
    with pytest.raises(InvalidInputError, match=rf"{name} were trained differently \(parameters.weight 1.0 -> 0.5\)"):
        results_page()


def test_page_shows_how_attacks_transfer(zoo: list[dict[str, Any]]) -> None:
    page = results_page()
    matrix = (
        "`smd-lenet-fashion-mnist`\n\n| crafted on | on member 0 | on member 1 |\n| --- | ---: | ---: |\n"
        "| member 0 | 12.5 | 50.0 |\n| member 1 | 75.0 | 25.0 |\n"
    )
    assert page.endswith(matrix)


def test_other_weights_were_not_measured(zoo: list[dict[str, Any]], tmp_path: Path) -> None:
    assert "Not measured yet" not in results_page()
    (file,) = tmp_path.glob("results/smd-lenet-mnist-55555555-full.json")
    file.rename(file.with_name("smd-lenet-mnist-66666666-full.json"))
    page = results_page()
    assert "Not measured yet: `smd-lenet-mnist`.\n" in page
    assert "| `smd-lenet-mnist` |" not in page
    assert "| `smd-lenet-fashion-mnist` |" in page
    zoo.clear()
    assert CliRunner().invoke(main, ["measure"]).output == "smd-lenet-mnist\n"
    assert {each["name"] for each in zoo} == {"smd-lenet-mnist"}
    assert "Not measured yet" not in results_page()


def test_black_box_attacks_are_measured_anew_where_there_is_more_to_craft_them_on(
    zoo: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not_measured() == []
    name = "naive-lenet-mnist-s1"
    monkeypatch.setitem(RUNS, name, finished_run(name, num_epochs=20))
    measure_model(name)
    assert not_measured() == ["smd-lenet-mnist"]


def test_command_writes_the_page(zoo: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.__main__.zoo_folder", lambda: tmp_path)
    assert CliRunner().invoke(main, ["results"]).exit_code == 0
    assert (tmp_path / "RESULTS.md").read_text("utf-8") == results_page()
