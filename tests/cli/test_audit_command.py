"""smdguard audit."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from PIL import Image
from torch import Tensor

from smdguard import auditing, render
from smdguard.auditing import PRESETS
from smdguard.catalogue import read_manifest
from smdguard.cli.progress import in_words
from smdguard.datasets import DATASETS
from smdguard.manifest import WORST_CASE
from smdguard.report import AuditReport
from smdguard.threat import ThreatModel
from tests.cli.runners import OneLine, Run

DOCUMENT_KEYS = {
    "model",
    "dataset",
    "num_images",
    "threat",
    "clean_accuracy",
    "attacks",
    "worst_case",
    "curve",
    "transfer",
    "findings",
    "verdict",
    "versions",
    "seed",
    "seconds",
}
INTERVAL_KEYS = {"value", "low", "high"}


@pytest.fixture(scope="module")
def audited(smdguard: Run, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    """One audit for all that only look at it, and the folder of its report."""
    output = tmp_path_factory.mktemp("audit") / "new"
    arguments = ["--model", tiny_folder, "--surrogate", tiny_folder, "--num-images", 20, "--preset", "quick"]
    return smdguard("audit", *arguments, "--device", "cpu", "--json", "--quiet", "--output", output), output


@pytest.fixture(scope="module")
def document(audited: tuple[Result, Path]) -> dict[str, Any]:
    return json.loads(audited[0].stdout)


def test_json_has_the_promised_keys(document: dict[str, Any], tiny_folder: Path) -> None:
    assert document.keys() >= DOCUMENT_KEYS
    assert document["threat"] == {"norm": "linf", "epsilon": 0.3}
    assert document["clean_accuracy"].keys() == INTERVAL_KEYS
    assert document["worst_case"].keys() == {"robust_accuracy"}
    assert document["worst_case"]["robust_accuracy"].keys() == INTERVAL_KEYS
    for attack in document["attacks"]:
        assert attack.keys() == {"name", "repr", "access", "source", "epsilon", "num_attacked", "robust_accuracy"}
        assert attack["robust_accuracy"].keys() == INTERVAL_KEYS
    assert document["transfer"].keys() >= {"members", "epsilon"}
    for finding in document["findings"]:
        assert finding.keys() == {"check", "severity", "message", "evidence"}
    assert document["verdict"] in {"robust", "fragile", "unreliable"}
    assert (document["model"], document["dataset"]) == (str(tiny_folder), "mnist")
    assert (document["num_images"], document["seed"], document["curve"]) == (20, 0, [])
    assert document["versions"].keys() >= {"python", "smdguard", "torch"}
    assert document["device"].endswith((" 1 thread", " threads"))
    assert document["seconds"] > 0


def test_report_says_how_it_was_called(
    audited: tuple[Result, Path], document: dict[str, Any], tiny_folder: Path
) -> None:
    output = audited[1]
    given = f"--surrogate {tiny_folder} --num-images 20 --preset quick --device cpu --json --quiet --output {output}"
    assert document["command"] == f"smdguard audit --model {tiny_folder} {given}"
    assert document["command"] in (output / "report.html").read_text()


def test_every_attack_is_made_on_model_surrogate_and_members(document: dict[str, Any], tiny_folder: Path) -> None:
    def made(access: str) -> list[tuple[str, str]]:
        return [(row["name"], row["source"]) for row in document["attacks"] if row["access"] == access]

    everywhere, on_the_model = ["FGSM", "MIM"], ["APGD-CE", "MORA", "Square"]
    assert made("black-box") == [(name, str(tiny_folder)) for name in everywhere]
    assert made("white-box") == [(name, str(tiny_folder)) for name in everywhere + on_the_model]
    assert made("member") == [("PGD", f"member {index}") for index in range(3)]
    assert [len(row) for row in document["transfer"]["members"]] == [3, 3, 3]


def test_worst_case_is_no_better_than_any_attack(document: dict[str, Any]) -> None:
    worst = document["worst_case"]["robust_accuracy"]
    assert worst["low"] <= worst["value"] <= worst["high"]
    values = [row["robust_accuracy"]["value"] for row in document["attacks"]]
    assert worst["value"] <= min(values) <= max(values) <= document["clean_accuracy"]["value"]


def test_report_that_is_written_is_the_one_that_is_printed(audited: tuple[Result, Path]) -> None:
    result, folder = audited
    assert result.stderr == ""
    assert {file.name for file in folder.iterdir()} == {"report.json", "report.html", "figures"}
    written = render.parse_report((folder / "report.json").read_bytes(), "report.json")
    assert written == render.parse_report(result.stdout.encode(), "standard output")
    assert render.json(written) == result.stdout.rstrip("\n")


def test_same_seed_gives_the_same_figures(smdguard: Run, tiny_folder: Path, document: dict[str, Any]) -> None:
    arguments = ["--model", tiny_folder, "--surrogate", tiny_folder, "--num-images", 20, "--preset", "quick"]
    again = json.loads(smdguard("audit", *arguments, "--device", "cpu", "--json").stdout)
    as_it_was = {"seconds": document["seconds"], "command": document["command"]}
    assert again | as_it_was == document


def test_what_is_asked_for_and_what_the_model_says_of_itself_reach_the_audit(
    smdguard: Run, tiny_copy: Path, edit_config: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    suspicion = {"threshold": 0.125, "quantile": 0.99, "num_images": 100, "test_rate": 0.01}
    edit_config(tiny_copy, lambda config: config.update(suspicion=suspicion))
    asked: dict[str, Any] = {}

    def noted(model: object, images: Tensor, labels: Tensor, threat: ThreatModel, **options: Any) -> AuditReport:
        asked.update(options, threat=threat, num_images=len(images), classes=labels.unique().tolist())
        return audit(model, images, labels, threat, **options)  # type: ignore[arg-type]

    audit = auditing.audit
    monkeypatch.setattr(auditing, "audit", noted)
    options = ("--seed", 7, "--epsilons", "0:0.1:0.05", "--attacks", "mim, fgsm", "--num-images", 20)
    document = json.loads(smdguard("audit", "--model", tiny_copy, *options, "--device", "cpu", "--json").stdout)
    assert (asked["seed"], document["seed"]) == (7, 7)
    assert asked["suspicion_threshold"] == document["suspicion"]["threshold"] == 0.125
    assert (asked["threat"], asked["epsilons"]) == (ThreatModel("linf", 0.1), pytest.approx([0, 0.05, 0.1]))
    assert [attack.name for attack in asked["attacks"]] == ["FGSM", "MIM"]
    assert (asked["num_images"], asked["classes"]) == (20, list(range(10)))


FAST = ("--num-images", 10, "--attacks", "FGSM", "--device", "cpu")


@pytest.mark.parametrize(
    ("epsilons", "radii"),
    [
        ("0:0.3:0.1", [0, 0.1, 0.2, 0.3]),
        ("0:0.3:0.05", [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3]),
        ("0:8/255:4/255", [0, 0.015686274510, 0.031372549020]),
        ("0.1:0.25:0.1", [0.1, 0.2]),
        ("0.2:0.2:1", [0.2]),
    ],
)
def test_epsilons_give_a_curve(smdguard: Run, tiny_folder: Path, epsilons: str, radii: list[float]) -> None:
    result = smdguard("audit", "--model", tiny_folder, *FAST, "--json", "--epsilons", epsilons)
    document = json.loads(result.stdout)
    assert [point["epsilon"] for point in document["curve"]] == radii
    assert document["threat"]["epsilon"] == radii[-1]
    assert {row["epsilon"] for row in document["attacks"]} == set(radii) - {0}
    values = [point["robust_accuracy"]["value"] for point in document["curve"]]
    assert values == sorted(values, reverse=True)
    assert values[-1] == document["worst_case"]["robust_accuracy"]["value"]


@pytest.mark.parametrize(
    ("options", "epsilon", "radii"), [((), 2, []), (("--epsilons", "0:3:1"), 3, [0, 1, 2, 3])], ids=["default", "curve"]
)
def test_radii_in_l2_are_not_those_in_linf(
    smdguard: Run, tiny_folder: Path, options: tuple[str, ...], epsilon: float, radii: list[float]
) -> None:
    result = smdguard("audit", "--model", tiny_folder, *FAST, "--json", "--norm", "l2", *options)
    document = json.loads(result.stdout)
    assert document["threat"] == {"norm": "l2", "epsilon": epsilon}
    assert [point["epsilon"] for point in document["curve"]] == radii


def write_an_image_a_class(folder: Path) -> None:
    for digit in range(10):
        (folder / str(digit)).mkdir(parents=True)
        Image.new("L", (28, 28), 20 * digit).save(folder / str(digit) / "a.png")


def test_a_folder_of_images_has_no_usual_radius_in_l2_and_is_not_fetched(
    smdguard: Run, one_line: OneLine, tiny_copy: Path, edit_config: Callable[..., None], tmp_path: Path
) -> None:
    edit_config(tiny_copy, lambda config: config["training"].update(dataset="flowers"))
    write_an_image_a_class(tmp_path / "flowers" / "test")
    arguments = ("audit", "--model", tiny_copy, "--data", tmp_path / "flowers", *FAST, "--json", "--norm", "l2")
    assert one_line(*arguments) == "no radius in the norm l2 is usual for flowers; choose one with --epsilon"
    assert one_line(*arguments, "--download") == "torchvision has no data set flowers to --download; leave it out"
    assert json.loads(smdguard(*arguments, "--epsilon", 1.5).stdout)["threat"] == {"norm": "l2", "epsilon": 1.5}


def test_table_names_verdict_and_attacks(smdguard: Run, tiny_folder: Path) -> None:
    result = smdguard("audit", "--model", tiny_folder, *FAST, "--epsilon", 0.1, "--epsilons", "0:0.1:0.1")
    assert re.fullmatch(r"This takes at most about (a second|\d+ (seconds|minutes))\.\n", result.stderr)
    verdict, *_ = result.stdout.split(maxsplit=1)
    assert verdict in {"ROBUST", "FRAGILE", "UNRELIABLE"}
    for part in (f'"{tiny_folder}", 10 images of "mnist", linf 0.1', "FGSM", "worst case", "member 2", "95 % Wilson"):
        assert part in result.stdout


def test_the_table_has_question_marks_for_what_a_terminal_would_obey(
    smdguard: Run, tiny_copy: Path, edit_config: Callable[..., None], tmp_path: Path
) -> None:
    edit_config(tiny_copy, lambda config: config["training"].update(dataset="flowers\x1b[2J\x1b]0;title\x07"))
    write_an_image_a_class(tmp_path / "flowers" / "test")
    shown = smdguard("audit", "--model", tiny_copy, "--data", tmp_path / "flowers", *FAST).output
    assert "flowers?[2J?]0;title?" in shown


def test_quiet_leaves_standard_error_empty(smdguard: Run, tiny_folder: Path) -> None:
    assert smdguard("audit", "--model", tiny_folder, *FAST, "--epsilon", 0.1, "--quiet").stderr == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.02, "a second"),
        (1.2, "2 seconds"),
        (119.5, "120 seconds"),
        (121, "3 minutes"),
        (7199, "120 minutes"),
        (7201, "3 hours"),
    ],
)
def test_durations_are_rounded_up(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_presets_of_the_option_are_those_there_are(smdguard: Run) -> None:
    assert f"--preset [{'|'.join(PRESETS)}]" in smdguard("audit", "--help").stdout


@pytest.mark.parametrize("half", ["test", ""])
def test_images_of_a_folder_are_audited(smdguard: Run, tiny_folder: Path, tmp_path: Path, half: str) -> None:
    write_an_image_a_class(tmp_path / half)
    options = ("--attacks", "FGSM", "--device", "cpu", "--json", "--data", tmp_path)
    assert json.loads(smdguard("audit", "--model", tiny_folder, *options).stdout)["num_images"] == 10


def test_how_many_images_were_held_out_is_told_as_they_are_audited(
    smdguard: Run, tiny_copy: Path, edit_config: Callable[..., None], tmp_path: Path
) -> None:
    edit_config(tiny_copy, lambda config: config["training"].update(dataset="digits"))
    for digit in range(10):
        (tmp_path / "digits" / str(digit)).mkdir(parents=True)
        for number in range(20):
            Image.new("L", (28, 28), number).save(tmp_path / "digits" / str(digit) / f"{number}.png")
    result = smdguard("audit", "--model", tiny_copy, "--data", tmp_path / "digits", *FAST)
    note = f"{tmp_path / 'digits'} has no test split; auditing 10 images, held out by name"
    assert result.stderr.splitlines()[0] == note


def test_surrogates_of_the_zoo_are_found(smdguard: Run, tiny_zoo: Path) -> None:
    arguments = ("audit", "--model", "naive-lenet-mnist", *FAST, "--json")
    document = json.loads(smdguard(*arguments).stdout)
    assert {row["source"] for row in document["attacks"] if row["access"] == "black-box"} == {"naive-lenet-mnist-s1"}


@pytest.mark.parametrize(("preset", "expected"), [("quick", {"naive"}), ("standard", {"naive", "smd"})])
def test_quick_asks_one_surrogate(
    smdguard: Run,
    tiny_zoo: Path,
    tiny_copy: Path,
    edit_config: Callable[..., None],
    preset: str,
    expected: set[str],
) -> None:
    edit_config(tiny_copy, lambda config: config["objective"].update(name="smd"))
    arguments = ("audit", "--model", tiny_copy, *FAST, "--preset", preset, "--json")
    document = json.loads(smdguard(*arguments).stdout)
    made_on = {row["source"] for row in document["attacks"] if row["access"] == "black-box"}
    assert made_on == {f"{method}-lenet-mnist-s1" for method in expected}


def test_a_curve_stands_beside_that_of_the_undefended_model(smdguard: Run) -> None:
    arguments = ("audit", "--model", "smd-lenet-mnist", "--num-images", 10, "--device", "cpu", "--json", "--quiet")
    arguments += ("--epsilons", "0:0.2:0.1")
    baseline = json.loads(smdguard(*arguments, "--preset", "quick").stdout)["baseline"]
    assert (baseline["name"], baseline["preset"]) == ("naive-lenet-mnist", "standard")
    entry = read_manifest().find("naive-lenet-mnist")
    assert entry is not None
    recorded = {row.threat.epsilon: row.robust_accuracy for row in entry.evaluations if row.attack == WORST_CASE}
    shown = {point["epsilon"]: point["robust_accuracy"]["value"] for point in baseline["curve"]}
    assert shown == {0: entry.evaluations[0].clean_accuracy, 0.1: recorded[0.1], 0.2: recorded[0.2]}
    # Other attacks than a preset's are no match for those of its audit.
    assert json.loads(smdguard(*arguments, "--attacks", "FGSM").stdout)["baseline"] is None


WRONG = {
    "negative": (["--epsilon", "-0.1"], "epsilon must lie between 0 and 1 for the norm linf, not -0.1"),
    "above one": (["--epsilon", "1.5"], "epsilon must lie between 0 and 1 for the norm linf, not 1.5"),
    "no number": (["--epsilon", "nan"], "epsilon must lie between 0 and 1 for the norm linf, not nan"),
    "beyond the radius": (["--epsilon", "0.1", "--epsilons", "0:0.3:0.1"], "every epsilon must lie between 0 and 0.1"),
    "curve above one": (["--epsilons", "0:2:0.5"], "epsilon must lie between 0 and 1 for the norm linf, not 2"),
    "uneven": (["--num-images", "15"], "15 images cannot be taken evenly from 10 classes"),
    "too many": (["--num-images", "2000"], "2000 images cannot be taken evenly from 10 classes of 1000 images"),
    "no data": (["--data", "/nowhere"], "mnist cannot be read from /nowhere"),
    "unknown surrogate": (["--surrogate", "none"], "there is no model 'none'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_audited_is_one_clear_line(one_line: OneLine, tiny_folder: Path, case: str) -> None:
    arguments, message = WRONG[case]
    assert message in one_line("audit", "--model", tiny_folder, *arguments)


@pytest.mark.parametrize("case", ["above one", "beyond the radius", "curve above one"])
def test_settings_are_seen_to_before_a_model_is_looked_for(one_line: OneLine, case: str) -> None:
    arguments, message = WRONG[case]
    assert message in one_line("audit", "--model", "no-such-model", *arguments)


# Of a fraction that no float is as large as.
HUGE = "1" + 400 * "0"
USAGE = {
    "--epsilons 0:0.3": "'0:0.3' is not of the form START:STOP:STEP",
    "--epsilons 0.3:0:0.1": "'0.3:0:0.1' must rise from 0 or more in at most 1000 steps",
    "--epsilons 0:0.3:0": "'0:0.3:0' must rise",
    "--epsilons 0:1:1e-9": "'0:1:1e-9' must rise",
    "--epsilons 0:0.3:inf": "'0:0.3:inf' must rise",
    "--epsilons nan:nan:nan": "'nan:nan:nan' must rise",
    "--epsilon large": "'large' is not a number, such as 0.03 or 8/255",
    "--epsilon 1/0": "'1/0' is not a number, such as 0.03 or 8/255",
    f"--epsilon {HUGE}/1": f"'{HUGE}/1' is not a number, such as 0.03 or 8/255",
    f"--epsilons 0:{HUGE}/1:0.1": f"'0:{HUGE}/1:0.1' is not of the form START:STOP:STEP",
    "--attacks FGSM,Tickle": "Invalid value for '--attacks': the preset standard has no attack 'Tickle'; it has FGSM, ",
    "--preset paper --attacks square": "the preset paper has no attack 'square'; it has FGSM, R-FGSM, PGD, BIM, MIM",
    "--attacks ,": "Invalid value for '--attacks': ',' names no attack; the preset standard has FGSM, R-FGSM, PGD, ",
    "--norm l1": "'l1' is not one of",
    "--preset slow": "'slow' is not one of",
    "--num-images 0": "0 is not in the range x>=1",
    "--seed -1": "-1 is not in the range x>=0",
    "--image-size 0": "'0' is not of the form HEIGHT[xWIDTH]",
    "--image-size 8x": "'8x' is not of the form HEIGHT[xWIDTH]",
    "--image-size 10000": "'10000' is not of the form HEIGHT[xWIDTH], 1 to 9999 pixels",
    "--download": "--download needs --data",
    "image.png": "unexpected extra argument (image.png)",
}


@pytest.mark.parametrize("arguments", USAGE)
def test_wrong_usage_has_status_2_and_says_what_came_in(one_line: OneLine, arguments: str) -> None:
    assert USAGE[arguments] in one_line("audit", *arguments.split(), status=2)


def test_an_attack_that_is_not_there_leaves_no_folder(smdguard: Run, tmp_path: Path) -> None:
    smdguard("audit", "--model", "no-such-model", "--attacks", "Tickle", "--output", tmp_path / "out", status=2)
    assert not (tmp_path / "out").exists()


def test_model_of_other_images_is_one_clear_line(
    one_line: OneLine, tiny_folder: Path, tiny_copy: Path, edit_config: Callable[..., None]
) -> None:
    edit_config(tiny_copy, lambda config: config["training"].update(dataset="cifar10"))
    line = one_line("audit", "--model", tiny_copy)
    assert line == (
        f"{tiny_copy} cannot be asked about cifar10: it takes 1 x 28 x 28 images of 10 classes (0 to 9), "
        "those are 3 x 32 x 32 images of 10 classes (airplane to truck)"
    )
    edit_config(tiny_copy, lambda config: config.update(labels=[f"no {label}" for label in DATASETS["mnist"].labels]))
    assert "cannot be asked about mnist" in one_line("audit", "--model", tiny_folder, "--surrogate", tiny_copy)


def test_report_that_cannot_be_written_is_one_clear_line(smdguard: Run, tiny_folder: Path) -> None:
    output = tiny_folder / "config.json" / "audit"
    result = smdguard("audit", "--model", tiny_folder, *FAST, "--output", output, status=1)
    assert result.stderr == f"Error: {output} cannot be written: Not a directory\n"
