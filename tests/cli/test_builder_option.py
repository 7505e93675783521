"""Models whose members are the user's own network: --builder makes them, and nothing else imports code."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from smdguard.model_folder import ONNX
from tests.cli.runners import OneLine, Run

FACTORY = "own_members:network"
SAMPLE = Path(__file__).parents[2] / "zoo" / "samples" / "digit-7.png"
MODULE = """
import torch
from smdguard.architectures import LeNet5

def network(image_shape, num_classes):
    return LeNet5(image_shape, num_classes)

def narrow(image_shape, num_classes):
    return LeNet5(image_shape, num_classes - 1)

built = []

def measuring(image_shape, num_classes):
    built.append(torch.linspace(0, 0.3, 4).tolist())
    return LeNet5(image_shape, num_classes)

class Failing(LeNet5):
    def forward(self, *_):
        raise ValueError("no more of this")

def failing(image_shape, num_classes):
    return Failing(image_shape, num_classes)

def no_builder():
    return LeNet5((1, 28, 28), 10)

def no_module(image_shape, num_classes):
    return 42
"""


@pytest.fixture
def own(tiny_copy: Path, edit_config: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny model without its graph, as if its LeNet-5 were a network beside the user."""
    edit_config(tiny_copy, lambda config: (config["architecture"].update(name=FACTORY), config["files"].pop(ONNX)))
    (tiny_copy.parent / "own_members.py").write_text(MODULE)
    monkeypatch.chdir(tiny_copy.parent)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    monkeypatch.delitem(sys.modules, "own_members", raising=False)
    return tiny_copy


def test_predictions_are_those_of_the_members(smdguard: Run, own: Path, tiny_folder: Path) -> None:
    rows = [
        json.loads(smdguard("predict", SAMPLE, "--device", "cpu", "--json", *options).stdout)["predictions"]
        for options in (["--model", own, "--builder", FACTORY], ["--model", tiny_folder, "--backend", "torch"])
    ]
    assert rows[0] == rows[1]


def test_export_is_that_of_the_members(smdguard: Run, own: Path, tiny_onnx: bytes) -> None:
    smdguard("export", own, "--output", "own.onnx", "--builder", FACTORY)
    assert Path("own.onnx").read_bytes() == tiny_onnx


def test_audit_is_that_of_the_members(smdguard: Run, own: Path, tiny_folder: Path) -> None:
    options = ("--num-images", 20, "--attacks", "FGSM", "--epsilon", 0.02, "--surrogate", tiny_folder, "--json")
    figures = []
    for model in ([own, "--builder", FACTORY], [tiny_folder]):
        rows = json.loads(smdguard("audit", "--model", *model, "--device", "cpu", *options).stdout)["attacks"]
        figures.append([(row["name"], row["access"], row["robust_accuracy"]) for row in rows])
    assert figures[0] == figures[1]
    assert {access for _, access, _ in figures[0]} == {"white-box", "black-box", "member"}


def test_a_builder_may_look_into_tensors_and_is_asked_once_a_member(smdguard: Run, own: Path) -> None:
    """Such as one that spreads a rate over its blocks."""
    rows = [
        json.loads(smdguard("predict", SAMPLE, "--model", own, "--builder", name, "--json").stdout)["predictions"]
        for name in (FACTORY, "own_members:measuring")
    ]
    assert rows[0] == rows[1]
    assert len(sys.modules["own_members"].built) == 3


def test_another_run_of_the_same_network_can_be_a_surrogate(smdguard: Run, own: Path) -> None:
    shutil.copytree(own, "own-s1")
    options = ("--num-images", 10, "--attacks", "FGSM", "--device", "cpu", "--surrogate", "own-s1", "--json")
    rows = json.loads(smdguard("audit", "--model", own, "--builder", FACTORY, *options).stdout)["attacks"]
    assert {row["source"] for row in rows if row["access"] == "black-box"} == {"own-s1"}


def test_the_builder_of_the_model_makes_no_members_of_another_network(
    one_line: OneLine, own: Path, edit_config: Callable[..., None]
) -> None:
    shutil.copytree(own, "other")
    edit_config(Path("other"), lambda config: config["architecture"].update(name="elsewhere:other"))
    line = one_line("audit", "--model", own, "--builder", FACTORY, "--surrogate", "other")
    assert line.startswith("the members are made by elsewhere:other, ")


COMMANDS: dict[str, Callable[[Path], list[object]]] = {
    "predict": lambda model: ["predict", SAMPLE, "--model", model],
    "audit": lambda model: ["audit", "--model", model],
    "export": lambda model: ["export", model],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_file_makes_a_command_import_code(one_line: OneLine, own: Path, command: str) -> None:
    line = one_line(*COMMANDS[command](own))
    assert line.startswith(f"the members are made by {FACTORY}, ")
    assert "--builder" in line
    assert "own_members" not in sys.modules


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("builder", "message"),
    [
        ("own_members", "'own_members' is not of the form package.module:function"),
        ("own_members:absent", "own_members:absent cannot be imported: AttributeError: "),
        ("own_members:narrow", "copy/model.safetensors does not hold the weights of 3 members of own_members:network"),
        (
            "own_members:no_builder",
            "own_members:network cannot be built for images of 28 x 28 pixels: TypeError: no_builder() takes 0 ",
        ),
        ("own_members:no_module", "own_members:network cannot be built for images of 28 x 28 pixels: TypeError: int "),
    ],
)
def test_a_builder_that_does_not_fit_is_one_clear_line(
    one_line: OneLine, own: Path, command: str, builder: str, message: str
) -> None:
    line = one_line(*COMMANDS[command](Path("copy")), "--builder", builder)
    assert line.startswith(message)


FAILURES = {
    "predict": " cannot be run by PyTorch on cpu for images (1, 1, 28, 28): ValueError: no more of this",
    "audit": "the model cannot be asked about torch.float32 images (2, 1, 28, 28) on cpu: ValueError: no more of this",
    "export": "; see smdguard --debug",  # Whoever traces the network wraps its error.
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_network_that_fails_is_one_clear_line(one_line: OneLine, own: Path, command: str) -> None:
    assert one_line(*COMMANDS[command](own), "--builder", "own_members:failing").endswith(FAILURES[command])


def test_a_builder_is_used_where_there_is_a_graph_as_well(smdguard: Run, own: Path, tiny_folder: Path) -> None:
    options = ("predict", SAMPLE, "--model", tiny_folder, "--json", "--builder", FACTORY)
    assert json.loads(smdguard(*options).stdout)["backend"] == "torch"
    assert json.loads(smdguard(*options, "--backend", "onnx").stdout)["backend"] == "onnx"


@pytest.mark.parametrize("model", [FACTORY, "torchvision:resnet18", "model.onnx"])
def test_a_model_that_smdguard_did_not_make_has_no_members_to_build(one_line: OneLine, own: Path, model: str) -> None:
    line = one_line("audit", "--model", model, "--data", ".", "--builder", FACTORY, status=2)
    assert line == f"--builder builds the members of a model made with smdguard, which {model} is not"


def test_files_and_graph_need_no_builder(
    smdguard: Run, own: Path, edit_config: Callable[..., None], tiny_onnx: bytes
) -> None:
    edit_config(own, lambda config: config["files"].update({ONNX: config["files"]["model.safetensors"]}))
    (own / ONNX).write_bytes(tiny_onnx)
    edit_config(own, lambda config: None)
    assert "2 files" in smdguard("verify", own).stdout
    document = json.loads(smdguard("predict", SAMPLE, "--model", own, "--json").stdout)
    assert document["backend"] == "onnx"
    assert "own_members" not in sys.modules
