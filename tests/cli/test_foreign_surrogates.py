"""Black-box attacks that an audit crafts on anyone's model: a function's."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.halves_module import QUICK
from tests.cli.onnx_halves import onnx_classifier
from tests.cli.runners import OneLine, Run


def black_box_rows(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in document["attacks"] if row["access"] == "black-box"]


def test_what_an_onnx_file_was_exported_from_shows_how_hard_it_is_to_fool(smdguard: Run, halves: Path) -> None:
    (halves / "halves.onnx").write_bytes(onnx_classifier("batch"))
    options = ("--data", "images", "--surrogate", "halves:make", *QUICK)
    document = json.loads(smdguard("audit", "--model", "halves.onnx", *options).stdout)
    rows = black_box_rows(document)
    assert {(row["name"], row["source"]) for row in rows} == {(name, "halves:make") for name in ("FGSM", "BIM", "PGD")}
    assert document["clean_accuracy"]["value"] == 1
    assert all(row["robust_accuracy"]["value"] < 1 for row in rows)


def test_a_function_s_model_is_a_surrogate_for_one_of_the_zoo_as_well(
    smdguard: Run, tiny_folder: Path, halves: Path
) -> None:
    options = ("--num-images", 10, "--attacks", "FGSM", "--device", "cpu", "--surrogate", "halves:of_digits", "--json")
    rows = black_box_rows(json.loads(smdguard("audit", "--model", tiny_folder, *options).stdout))
    assert {row["source"] for row in rows} == {"halves:of_digits"}


WRONG = {
    "halves.onnx": "halves.onnx cannot be a surrogate: an ONNX file gives no gradients, and attacks are crafted along "
    "them; name the PyTorch model that it was exported from, such as package.module:factory",
    "halves:absent": "halves:absent cannot be imported: AttributeError",
    "halves:blind": "the surrogate halves:blind gives no input gradients; attacks on it are made along them",
    "halves:of_digits": "the surrogate halves:of_digits has 10 classes, and the model 2",
    "halves:sized": "the surrogate halves:sized cannot be asked about torch.float32 images (2, 1, 6, 6) on cpu: "
    "AssertionError: (1, 6, 6), not (1, 8, 12)",
    "halves:training": "the surrogate halves:training is in training mode",
    "naive-lenet-mnist": "naive-lenet-mnist cannot be asked about images: it takes 1 x 28 x 28 images of 10 classes",
}


@pytest.mark.parametrize("surrogate", WRONG)
def test_models_that_can_be_no_surrogate_are_one_clear_line(one_line: OneLine, halves: Path, surrogate: str) -> None:
    options = ("--data", "images", *QUICK, "--quiet", "--surrogate", surrogate)
    assert one_line("audit", "--model", "halves:make", *options).startswith(WRONG[surrogate])


def test_a_surrogate_with_too_few_classes_is_named(one_line: OneLine, tiny_folder: Path, halves: Path) -> None:
    assert one_line("audit", "--model", tiny_folder, "--surrogate", "halves:make", "--quiet") == (
        "labels must lie in 0 to 1, the classes of the surrogate halves:make, but these span 0 to 9"
    )


def test_a_surrogate_that_fails_in_the_end_is_one_clear_line(one_line: OneLine, halves: Path) -> None:
    (halves / "halves.onnx").write_bytes(onnx_classifier("batch"))
    options = ("--data", "images", *QUICK, "--quiet", "--surrogate", "halves:failing")
    assert one_line("audit", "--model", "halves.onnx", *options) == (
        "the audit of halves.onnx failed: ValueError: no more of this; see smdguard --debug"
    )
