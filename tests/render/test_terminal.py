"""The terminal shows the report's numbers, each in its row and column."""

import dataclasses
import io

from rich.console import Console

from smdguard import render
from smdguard.render.terminal import predictions_view, zoo_view
from smdguard.report import AuditReport, Finding


def test_every_row_has_its_numbers(full: AuditReport) -> None:
    shown = [" ".join(line.split()) for line in render.text(full).splitlines()]
    for row in (
        "clean 98.7 % [95.7, 100.0]",
        "FGSM 52.1 % [49.1, 55.1] 16.3 % [13.3, 19.3]",
        "PGD crafted on member 0 70.0 % [67.0, 73.0]",
        "worst case 12.3 % [9.3, 15.3]",
        "0.1 40.0 % [37.0, 43.0]",
        "crafted on member 0 0.0 % 80.0 % 90.0 %",
        "crafted on member 1 70.0 % 10.0 % 60.0 %",
        "Unsuspicious 10.0 % [7.0, 13.0] 40.0 % [37.0, 43.0] 54.0 % [51.0, 57.0] 0.814",
    ):
        assert row in shown, (row, shown)


def test_the_headline_says_what_was_audited(full: AuditReport, single: AuditReport) -> None:
    assert render.text(full).splitlines()[0] == 'FRAGILE  "a-model", 1000 images of "fashion-mnist", linf 0.2'
    # A folder may be called anything.
    cats = dataclasses.replace(single, model="lions, tigers", dataset="cats")
    assert render.text(cats).splitlines()[0] == 'FRAGILE  "lions, tigers", 1 image of "cats", linf 0.2'
    assert "suspicion, 1 image  " in render.text(cats)


def test_attacks_that_nothing_was_left_for_are_named_below_the_table(bare: AuditReport) -> None:
    idle = dataclasses.replace(bare.attacks[0], name="Square", repr="Square()", num_attacked=0)
    shown = render.text(dataclasses.replace(bare, attacks=(*bare.attacks, idle)))
    assert "\n\nNothing was left to attack for Square.\n\n" in shown
    assert "Nothing was left" not in render.text(bare)


def test_nothing_that_a_terminal_would_obey_is_shown(hostile: AuditReport) -> None:
    codes = "\x1b]0;title\x07\x9b2J\u202e"
    coded = dataclasses.replace(hostile, model=codes, verdict_reason=codes, findings=(Finding(codes, "high", codes),))
    assert all(letter.isprintable() for letter in render.text(coded).replace("\n", ""))


def test_no_part_of_an_images_name_is_cut() -> None:
    output = io.StringIO()
    row = {"image": f"photos/{'x' * 60}-7.png", "label": "7", "probability": 0.5, "agreement": 1.0, "suspicious": None}
    Console(file=output, width=60).print(predictions_view([row]))
    shown = "".join(line[: line.find(" ")] for line in output.getvalue().splitlines()[1:])
    assert shown == row["image"]


def test_a_model_of_the_zoo_is_one_row() -> None:
    row = {
        "name": "smd-tiny",
        "dataset": "mnist",
        "num_members": 3,
        "clean_accuracy": 0.99,
        "worst_case_accuracy": 0.25,
        "epsilon": 0.3,
        "verdict": "fragile",
        "num_bytes": 1_500_000,
        "where": "bundled",
    }
    console = Console(file=io.StringIO(), width=120)
    console.print(zoo_view([row]))
    shown = [" ".join(line.split()) for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert shown[1:] == ["smd-tiny mnist 3 99.0 % 25.0 % 0.3 fragile 1.5 MB bundled"]
