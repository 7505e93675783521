"""Audits on the command line of anyone's model: functions, torchvision's and ONNX files, their classes and sizes."""

import json
import shutil
import urllib.error
from pathlib import Path

import onnx
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms._presets import ImageClassification

from smdguard.cli import audited_model
from smdguard.cli.audited_model import find_audited_model
from smdguard.cli.foreign_models import ForeignModel
from tests.cli.halves_module import QUICK, arguments
from tests.cli.onnx_halves import onnx_classifier
from tests.cli.runners import OneLine, Run


def test_names_that_are_no_text_have_question_marks_in_the_report(
    smdguard: Run, tiny_folder: Path, halves: Path
) -> None:
    (halves / "images").rename(halves / "d\udcff")
    model = shutil.copytree(tiny_folder, halves / "m\udcff")
    options = [*QUICK, "--output", "new"]
    document = json.loads(smdguard("audit", "--model", "halves:make", "--data", "d\udcff", *options).stdout)
    assert document["dataset"] == "d?"
    options += ["--num-images", 10, "--surrogate", model.name]
    document = json.loads(smdguard("audit", "--model", model.name, *options).stdout)
    assert document["model"] == "m?"
    assert {row["source"] for row in document["attacks"] if row["access"] == "black-box"} == {"m?"}


PROBABILITIES = (
    "the model seems to give probabilities; give logits or log-probabilities (leave out the last softmax): where it is "
    "sure, probabilities hardly change, "
)
WRONG = {
    "halves:broken": "halves:broken cannot be made: ValueError: no weights here",
    "./halves.py:make": "./halves.py:make names a file, not a module; write halves:make",
    "halves:absent": "halves:absent cannot be imported: AttributeError",
    "nowhere.at.all:make": "nowhere.at.all:make cannot be imported: ModuleNotFoundError",
    "halves:number": "halves:number gives a int, not a model",
    "halves:training": "the model is in training mode",
    "halves:probabilities": PROBABILITIES,
    "torchvision:lenet": "torchvision has no image classifier 'lenet'; torchvision.models.list_models(",
    "absent.onnx": "absent.onnx cannot be read: No such file",
}


def test_what_holds_the_logits_has_nothing_to_do_with_the_images_size(one_line: OneLine, halves: Path) -> None:
    assert one_line(*arguments("wrapped"), "--quiet") == (
        "halves:wrapped must turn 2 images into logits (2, K), but gave tuple of 2; wrap it in a function that returns "
        "the tensor of logits alone"
    )


@pytest.mark.parametrize("model", WRONG)
def test_models_that_cannot_be_audited_are_one_clear_line(one_line: OneLine, halves: Path, model: str) -> None:
    line = one_line("audit", "--model", model, "--data", "images", *QUICK, "--quiet")
    assert line.startswith(WRONG[model])


def test_models_of_others_need_data(one_line: OneLine, halves: Path) -> None:
    assert "name a folder of CLASS/IMAGE with --data" in one_line("audit", "--model", "halves:make")
    (halves / "empty").mkdir()
    assert "empty holds no images" in one_line("audit", "--model", "halves:make", "--data", "empty")


@pytest.mark.parametrize("model", ["halves:broken", "torchvision:resnet18"])
def test_images_are_looked_for_before_a_model_is_made_or_fetched(
    one_line: OneLine, halves: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setattr("torchvision.models.get_model", lambda *_, **__: pytest.fail("weights were fetched"))
    assert one_line("audit", "--model", model, "--data", "nowhere").startswith("nowhere does not exist; ")


def test_wrong_number_of_classes_is_one_clear_line(one_line: OneLine, halves: Path) -> None:
    (halves / "images" / "__MACOSX").mkdir()
    line = one_line("audit", "--model", "halves:make", "--data", "images", *QUICK)
    assert line == (
        "halves:make distinguishes 2 classes, but images holds 3 folders (__MACOSX, left, right); name each folder by "
        "the index of its class (0 to 1), or have one for every class, in alphabetical order"
    )


def test_a_function_s_model_of_another_size_is_told_whose_size_it_was_shown(
    smdguard: Run, one_line: OneLine, halves: Path
) -> None:
    assert one_line(*arguments("sized"), "--quiet") == (
        "halves:sized cannot be asked about torch.float32 images (2, 1, 6, 6) on cpu: AssertionError: (1, 6, 6), not "
        "(1, 8, 12); height and width are those of the first image, images/left/0.png, unless --image-size says "
        "others, and there are 3 channels unless all images are grey"
    )
    result = smdguard(*arguments("sized"), "--image-size", "8x12")
    assert json.loads(result.stdout)["clean_accuracy"]["value"] == 1
    assert "the size of the first" not in result.stderr
    Image.new("RGB", (6, 6)).save(halves / "images" / "right" / "last.png")
    assert "(3, 8, 8), not (1, 8, 12)" in one_line(*arguments("sized"), "--image-size", 8, "--quiet")


def test_a_folder_is_not_looked_through_for_an_error_that_is_not_told(
    halves: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audited_model, "first_image", lambda _: pytest.fail("the first image was looked for"))
    assert find_audited_model("halves:make", Path("images"), "cpu").dataset.image_shape == (1, 6, 6)


def test_whose_size_images_have_is_told_where_nobody_said_it(smdguard: Run, halves: Path) -> None:
    note = "halves:make is shown images of 6 x 6 pixels, the size of the first; see --image-size"
    assert note in smdguard(*arguments()).stderr.splitlines()


@pytest.mark.parametrize("model", ["smd-lenet-mnist", "torchvision:resnet18", "halves.onnx"])
def test_what_says_its_size_takes_no_other(one_line: OneLine, halves: Path, model: str) -> None:
    line = one_line("audit", "--model", model, "--data", "images", "--image-size", 8)
    assert line == f"{model} comes with an image size of its own; --image-size is for package.module:factory"


def _recipe() -> ImageClassification:
    return ImageClassification(crop_size=8, resize_size=12, mean=(0.5,) * 3, std=(0.5,) * 3)


class _Weights:
    meta = {"categories": ["left", "right"]}  # noqa: RUF012
    transforms = staticmethod(_recipe)


class _Choice:
    DEFAULT = _Weights()


@pytest.fixture
def of_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Left against right half, as if it came from torchvision with weights."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))
    side = torch.cat([torch.ones(4), -torch.ones(4)]).repeat(24)
    model[1].weight.data = torch.stack([side, -side])
    model[1].bias.data.zero_()
    monkeypatch.setattr("torchvision.models.get_model_weights", lambda name: _Choice)
    monkeypatch.setattr("torchvision.models.get_model", lambda name, weights: model)


@pytest.mark.parametrize("names", [("left", "right"), ("0", "1"), ("n01440764", "n02123045")])
@pytest.mark.usefixtures("of_torchvision")
def test_torchvision_models_get_their_normalisation_and_their_classes(
    smdguard: Run, halves: Path, names: tuple[str, str]
) -> None:
    for old, new in zip(("left", "right"), names, strict=True):
        (halves / "images" / old).rename(halves / "images" / new)
    document = json.loads(smdguard("audit", "--model", "torchvision:resnet18", "--data", "images", *QUICK).stdout)
    assert document["clean_accuracy"]["value"] == 1
    assert document["worst_case"]["robust_accuracy"]["value"] < 1


@pytest.mark.usefixtures("of_torchvision")
def test_images_for_a_torchvision_model_are_resized_and_cropped_as_its_weights_expect(halves: Path) -> None:
    photo = Image.linear_gradient("L").resize((40, 25))
    for path in halves.glob("images/*/*.png"):
        photo.save(path)
    data = halves / "images"
    images, _ = find_audited_model("torchvision:resnet18", data, "cpu").images(data, download=False, num_images=2)
    torch.testing.assert_close((images[0] / 255 - 0.5) / 0.5, _recipe()(photo.convert("RGB")))


@pytest.mark.usefixtures("of_torchvision")
def test_surrogates_are_shown_the_audited_model_s_images(smdguard: Run, halves: Path) -> None:
    surrogates = ("halves:make", "torchvision:resnet18")
    options = ("--data", "images", *QUICK, "--surrogate", surrogates[0], "--surrogate", surrogates[1])
    rows = json.loads(smdguard("audit", "--model", "torchvision:resnet18", *options).stdout)["attacks"]
    left_standing = {row["source"]: row["robust_accuracy"]["value"] for row in rows if row["access"] == "black-box"}
    assert left_standing.keys() == set(surrogates)
    assert max(left_standing.values()) < 1


@pytest.mark.parametrize(
    "network", ["fasterrcnn_resnet50_fpn", "fcn_resnet50", "raft_large", "mvit_v2_s", "quantized_resnet18"]
)
def test_what_of_torchvision_is_no_image_classifier_is_not_fetched(
    one_line: OneLine, halves: Path, monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    monkeypatch.setattr("torchvision.models.get_model", lambda *_, **__: pytest.fail("weights were fetched"))
    line = one_line("audit", "--model", f"torchvision:{network}", "--data", "images")
    assert line.startswith(f"torchvision has no image classifier {network!r}; ")


def test_weights_that_cannot_be_fetched_are_one_clear_line(
    one_line: OneLine, halves: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("torchvision.models.get_model", unreachable)
    line = one_line("audit", "--model", "torchvision:resnet18", "--data", "images")
    assert line.startswith("torchvision:resnet18 is not available: URLError: <urlopen error no route to host>")


@pytest.mark.parametrize("batch", ["batch", 7])
def test_onnx_files_are_attacked_without_gradients(smdguard: Run, halves: Path, batch: int | str) -> None:
    (halves / "halves.onnx").write_bytes(onnx_classifier(batch))
    options = ("--data", "images", "--epsilon", "0.08", "--num-images", 20, "--json")
    document = json.loads(smdguard("audit", "--model", "halves.onnx", *options).stdout)
    assert [row["name"] for row in document["attacks"]] == ["Square"]
    assert {one["name"] for one in document["impossible"]} >= {"FGSM", "PGD", "APGD-CE"}
    assert document["clean_accuracy"]["value"] == 1


def test_an_onnx_file_without_end_is_one_clear_line(
    one_line: OneLine, halves: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smdguard.cli.foreign_models._MAX_ONNX_BYTES", 1000)
    (halves / "zero.onnx").symlink_to("/dev/zero")
    line = one_line("audit", "--model", "zero.onnx", "--data", "images")
    assert line == "zero.onnx has more than 1,000 bytes, which is the limit"


def test_an_onnx_file_may_say_anything_of_its_labels(smdguard: Run, halves: Path) -> None:
    model = onnx.load_from_string(onnx_classifier("batch"))
    onnx.helper.set_model_props(model, {"labels": '["left", "right", "none"]'})
    (halves / "HALVES.ONNX").write_bytes(model.SerializeToString())
    options = ("--data", "images", "--epsilon", "0.08", "--num-images", 20, "--json")
    document = json.loads(smdguard("audit", "--model", "HALVES.ONNX", *options).stdout)
    assert document["class_names"] == ["left", "right"]
    assert document["clean_accuracy"]["value"] == 1


@pytest.mark.parametrize(
    ("data", "name"),
    [("images", "images"), (".", "images"), ("left/..", "images"), ("..", "halves"), ("link", "link"), ("/", "/")],
)
def test_a_data_set_is_called_as_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, name: str
) -> None:
    folder = tmp_path / "halves" / "images"
    (folder / "left").mkdir(parents=True)
    (folder / "link").symlink_to("left")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(audited_model, "class_folder", lambda data: data)
    monkeypatch.setattr(audited_model, "class_names", lambda _: ("left", "right"))
    foreign = ForeignModel(lambda images: images.flatten(1)[:, :2], torch.device("cpu"), (1, 6, 6))
    monkeypatch.setattr(audited_model, "find_foreign_model", lambda *_: foreign)
    assert find_audited_model("halves:both", Path(data), "cpu").dataset.name == name


@pytest.mark.parametrize("names", [("1", "2"), ("00", "01"), ("2019", "2020")])
def test_numbers_that_are_no_indices_are_names(smdguard: Run, halves: Path, names: tuple[str, str]) -> None:
    for old, new in zip(("left", "right"), names, strict=True):
        (halves / "images" / old).rename(halves / "images" / new)
    document = json.loads(smdguard(*arguments()).stdout)
    assert document["class_names"] == list(names)
    assert document["clean_accuracy"]["value"] == 1


def test_numbers_that_are_not_in_the_order_of_the_alphabet_are_ambiguous(one_line: OneLine, halves: Path) -> None:
    for old, new in zip(("left", "right"), ("9", "10"), strict=True):
        (halves / "images" / old).rename(halves / "images" / new)
    assert one_line(*arguments(), "--quiet") == (
        "the folders of the classes are numbers that sort differently as text (10, 9, ...); name each by "
        "the index of its class, from 0 to 1"
    )


def test_an_onnx_file_that_ends_in_softmax_is_refused_for_a_reason_that_needs_no_gradients(
    one_line: OneLine, halves: Path
) -> None:
    (halves / "softmax.onnx").write_bytes(onnx_classifier("batch", last="Softmax"))
    line = one_line("audit", "--model", "softmax.onnx", "--data", "images", "--quiet")
    assert line.startswith(PROBABILITIES)
    assert "gradient" not in line


def test_that_images_may_have_been_trained_on_is_told(smdguard: Run, halves: Path) -> None:
    (halves / "halves.onnx").write_bytes(onnx_classifier("batch"))
    options = ("--epsilon", "0.08", "--num-images", 20)
    told = smdguard("audit", "--model", "halves.onnx", "--data", "images", *options).stderr.splitlines()[0]
    assert told == "images has no test split; auditing 20 images, some of which the model may have been trained on"
    (halves / "both").mkdir()
    (halves / "images").rename(halves / "both" / "test")
    assert "test split" not in smdguard("audit", "--model", "halves.onnx", "--data", "both", *options).stderr


def test_an_exported_ensemble_finds_its_images(
    smdguard: Run, tiny_folder: Path, tiny_onnx: bytes, halves: Path
) -> None:
    (halves / "tiny.onnx").write_bytes(tiny_onnx)
    options = ("--num-images", 10, "--attacks", "FGSM", "--surrogate", tiny_folder, "--json")
    document = json.loads(smdguard("audit", "--model", "tiny.onnx", *options).stdout)
    assert document["dataset"] == "mnist"
    assert {row["access"] for row in document["attacks"]} == {"black-box"}
