"""smdguard predict."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
import torch
from click.testing import Result

import smdguard as sg
from smdguard.guard import Guard, Prediction
from tests.cli.runners import OneLine, Run

DOCUMENT_KEYS = {"model", "backend", "predictions"}
ROW_KEYS = {"image", "label", "class_index", "probability", "agreement", "suspicious", "probabilities"}


@pytest.mark.parametrize("backend", ["onnx", "torch"])
def test_json_has_the_promised_keys_and_the_guards_values(
    smdguard: Run, tiny_folder: Path, pictures: Path, backend: str
) -> None:
    path = pictures / "b.png"
    result = smdguard("predict", path, "--model", tiny_folder, "--backend", backend, "--device", "cpu", "--json")
    assert result.stderr == ""
    document = json.loads(result.stdout)
    assert document.keys() == DOCUMENT_KEYS
    assert (document["model"], document["backend"]) == (str(tiny_folder), backend)
    (row,) = document["predictions"]
    assert row.keys() == ROW_KEYS
    expected = sg.load(str(tiny_folder), device="cpu").predict(path)
    assert row["image"] == str(path)
    assert (row["label"], row["class_index"]) == (expected.label, expected.class_index)
    assert row["suspicious"] is None
    assert row["agreement"] == expected.agreement
    assert row["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)
    assert row["probability"] == row["probabilities"][row["class_index"]] == max(row["probabilities"])


def test_bad_image_among_good_ones_keeps_its_place(smdguard: Run, tiny_folder: Path, pictures: Path) -> None:
    text = pictures / "text.png"
    text.write_text("no image")
    images = [pictures / "b.png", text, pictures / "none.png", pictures / "a.JPG"]
    result = smdguard("predict", *images, "--model", tiny_folder, "--json", status=1)
    rows = json.loads(result.stdout)["predictions"]
    assert [row["image"] for row in rows] == [str(image) for image in images]
    assert [set(row) for row in rows] == [ROW_KEYS, {"image", "error"}, {"image", "error"}, ROW_KEYS]
    assert rows[1]["error"].startswith(f"{text} is not a known kind of image")
    assert rows[2]["error"] == f"{pictures / 'none.png'} cannot be read: No such file or directory"
    assert result.stderr.splitlines() == [f"Error: {rows[1]['error']}", f"Error: {rows[2]['error']}"]
    alone = smdguard("predict", images[3], "--model", tiny_folder, "--json")
    assert json.loads(alone.stdout)["predictions"][0]["label"] == rows[3]["label"]


@pytest.mark.parametrize("batch_size", [1, 2, 256])
def test_batches_change_neither_order_nor_rows(
    smdguard: Run, tiny_folder: Path, pictures: Path, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pictures / "text.png").write_text("no image")
    bad, good, other = (pictures / name for name in ("text.png", "b.png", "a.JPG"))
    arguments = ("predict", good, bad, bad, bad, other, good, "--model", tiny_folder, "--device", "cpu", "--json")
    expected = json.loads(smdguard(*arguments, status=1).stdout)
    sizes = []

    def noted(guard: Guard, images: numpy.ndarray) -> list[Prediction]:
        sizes.append(len(images))
        return predict_prepared(guard, images)

    predict_prepared = Guard.predict_prepared
    monkeypatch.setattr(Guard, "batch_size", batch_size)
    monkeypatch.setattr(Guard, "predict_prepared", noted)
    document = json.loads(smdguard(*arguments, status=1).stdout)
    assert sum(sizes) == 3
    assert max(sizes) <= batch_size
    for row, whole in zip(document["predictions"], expected["predictions"], strict=True):
        # Batches of another size are summed in another order.
        of_batch = {key: pytest.approx(value, abs=1e-6) for key, value in whole.items() if "probabilit" in key}
        assert row == whole | of_batch


def names(result: Result) -> list[str]:
    return [Path(row["image"]).name for row in json.loads(result.stdout)["predictions"]]


def test_folder_glob_and_standard_input(smdguard: Run, tiny_folder: Path, pictures: Path, png: bytes) -> None:
    options = ["--model", tiny_folder, "--json"]
    assert names(smdguard("predict", pictures, *options)) == ["a.JPG", "b.png"]
    assert names(smdguard("predict", pictures / "*.png", *options)) == ["b.png"]
    assert names(smdguard("predict", pictures / "**" / "*.png", *options)) == ["b.png", "c.png"]
    assert names(smdguard("predict", "-", pictures / "b.png", *options, stdin=png)) == ["-", "b.png"]


def test_a_folder_that_a_glob_finds_is_one_that_is_named(smdguard: Run, tiny_folder: Path, pictures: Path) -> None:
    (pictures / "notes.txt").unlink()
    options = ["--model", tiny_folder, "--json"]
    assert names(smdguard("predict", pictures / "*", *options)) == ["a.JPG", "b.png", "c.png"]
    # The folder itself and what is in it are found as well, and each image is one.
    assert names(smdguard("predict", pictures / "**", *options)) == ["a.JPG", "b.png", "c.png"]


def test_folders_without_images_among_what_a_glob_finds_are_passed_over(
    smdguard: Run, tiny_folder: Path, tmp_path: Path, pictures: Path
) -> None:
    (pictures / "notes.txt").unlink()
    (pictures / "empty").mkdir()
    options = ["--model", tiny_folder, "--json"]
    # Above the pictures there is the folder that they are in, with no image of its own.
    assert names(smdguard("predict", tmp_path / "pict*" / "**", *options)) == ["a.JPG", "b.png", "c.png"]
    assert names(smdguard("predict", tmp_path / "p*" / "*", *options)) == ["a.JPG", "b.png", "c.png"]
    nothing = smdguard("predict", pictures / "emp*", *options, status=1)
    assert nothing.stderr == f"Error: {pictures / 'emp*'} cannot be read: No such file or directory\n"


def test_a_file_of_a_folder_that_the_system_tells_nothing_of_is_refused_by_name(
    smdguard: Run, tiny_folder: Path, pictures: Path
) -> None:
    # As in a folder that may be listed but not entered, which nothing keeps root from.
    (pictures / "untold.png").symlink_to("x" * 300)
    result = smdguard("predict", pictures, "--model", tiny_folder, "--json", status=1)
    assert names(result) == ["a.JPG", "b.png", "untold.png"]
    assert result.stderr == f"Error: {pictures / 'untold.png'} cannot be read: File name too long\n"


def test_folders_called_as_images_are_none(smdguard: Run, tiny_folder: Path, pictures: Path) -> None:
    (pictures / "below").rename(pictures / "below.png")
    assert names(smdguard("predict", pictures, "--model", tiny_folder, "--json")) == ["a.JPG", "b.png"]


def test_hidden_files_are_none_of_a_folder(smdguard: Run, tiny_folder: Path, pictures: Path) -> None:
    (pictures / "._b.png").write_bytes(b"what a Mac knows of it")
    options = ["--model", tiny_folder, "--json"]
    assert names(smdguard("predict", pictures, *options)) == ["a.JPG", "b.png"]
    assert names(smdguard("predict", pictures / "*.png", *options)) == ["b.png"]


@pytest.mark.parametrize("name", ["[a].png", "*.png", "a b.png", ":smile:[red].png", "-x.png"])
def test_names_are_taken_and_shown_as_they_are(
    smdguard: Run, tiny_folder: Path, tmp_path: Path, png: bytes, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_bytes(png)
    (tmp_path / "a.png").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    result = smdguard("predict", "--model", tiny_folder, "--", name)
    assert result.stdout.splitlines()[1].startswith(f"{name}  ")


BAD_INPUT = {
    "no such file": ("none.png", "cannot be read: No such file or directory"),
    "glob of nothing": ("*.gif", "cannot be read: No such file or directory"),
    "too long a name": ("a" * 5000, "cannot be read: File name too long"),
    "folder without images": ("empty", "empty is a folder without PNG or JPEG files"),
    "text": ("text.png", "is not a known kind of image"),
    "nothing": ("nothing.png", "is empty; give a PNG or JPEG image"),
    "cut off": ("cut.png", "cannot be read: it is damaged"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_clear_line(
    smdguard: Run, tiny_folder: Path, tmp_path: Path, png: bytes, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "nothing.png").write_bytes(b"")
    (tmp_path / "cut.png").write_bytes(png[: len(png) // 2])
    monkeypatch.chdir(tmp_path)
    name, fragment = BAD_INPUT[case]
    result = smdguard("predict", name, "--model", tiny_folder, status=1)
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"Error: {name} ")
    assert fragment in line
    assert "not read" in result.stdout


def test_a_folder_of_classes_is_refused_with_what_to_name(smdguard: Run, tiny_folder: Path, pictures: Path) -> None:
    folder = pictures / "two [kinds]"
    folder.mkdir()
    (pictures / "below").rename(folder / "below")
    options = ["--model", tiny_folder, "--json"]
    line = smdguard("predict", folder, *options, status=1).stderr
    what_to_name = f"{pictures}/two [[]kinds]/*"
    assert line == (
        f"Error: {folder} is a folder without PNG or JPEG files, but there are some in its folders; name these, as "
        f"with '{what_to_name}'\n"
    )
    assert names(smdguard("predict", what_to_name, *options)) == ["c.png"]


def test_nothing_on_standard_input_is_one_clear_line(smdguard: Run, tiny_folder: Path) -> None:
    assert smdguard("predict", "-", "--model", tiny_folder, status=1).stderr == (
        "Error: - is empty; give a PNG or JPEG image\n"
    )


def test_endless_standard_input_is_one_clear_line(
    smdguard: Run, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smdguard.guard.MAX_IMAGE_BYTES", 10)
    result = smdguard("predict", "-", "--model", tiny_folder, stdin=b"0" * 11, status=1)
    assert result.stderr == "Error: - has more than 10 bytes, which is the limit\n"


def test_preprocess_none_refuses_another_size(smdguard: Run, tiny_folder: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("L", (40, 30)).save(tmp_path / "large.png")
    arguments = ["predict", tmp_path / "large.png", "--model", tiny_folder, "--preprocess"]
    assert "is 40 x 30 pixels where the model takes 28 x 28" in smdguard(*arguments, "none", status=1).stderr
    smdguard(*arguments, "resize")
    smdguard(*arguments, "fit")


def test_unknown_model_is_answered_with_the_nearest(one_line: OneLine, tiny_zoo: Path, pictures: Path) -> None:
    line = one_line("predict", pictures, "--model", "naive-lenet-mnits")
    assert line.startswith("there is no model 'naive-lenet-mnits'; did you mean naive-lenet-mnist")
    assert one_line("predict", pictures, "--model", "./none") == "there is no model folder ./none"


def test_damaged_model_is_one_clear_line(one_line: OneLine, tiny_copy: Path, pictures: Path) -> None:
    (tiny_copy / "model.onnx").write_bytes(b"")
    line = one_line("predict", pictures, "--model", tiny_copy)
    assert line.startswith(f"{tiny_copy / 'model.onnx'} is not the file that config.json names")


@pytest.mark.parametrize("backend", ["onnx", "torch"])
@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without GPU")
def test_cuda_without_a_gpu_is_one_clear_line(
    one_line: OneLine, tiny_folder: Path, pictures: Path, backend: str
) -> None:
    line = one_line("predict", pictures, "--model", tiny_folder, "--backend", backend, "--device", "cuda")
    assert line.startswith("device 'cuda' was asked for, but ")


@pytest.mark.parametrize(
    "arguments",
    [[], ["a.png", "--device", "gpu"], ["a.png", "--backend", "jax"], ["a.png", "--preprocess", "crop"], ["-x"]],
)
def test_wrong_usage_has_status_2(one_line: OneLine, arguments: list[str]) -> None:
    one_line("predict", *arguments, status=2)


def test_table_shows_label_and_trust(smdguard: Run, tiny_folder: Path, pictures: Path) -> None:
    expected = sg.load(str(tiny_folder), device="cpu").predict(pictures / "b.png")
    heading, line = smdguard("predict", pictures / "b.png", "--model", tiny_folder).stdout.splitlines()
    assert heading.split() == ["image", "label", "probability", "agreement", "suspicious"]
    image, label, *trust = line.split()
    assert (image, label) == (str(pictures / "b.png"), expected.label)
    shares = [f"{100 * expected.probability:.2f}", "%", f"{100 * expected.agreement:.0f}", "%"]
    assert trust == [*shares, "not", "calibrated"]


def test_table_shows_what_a_terminal_would_obey(
    smdguard: Run, tiny_copy: Path, edit_config: Callable[..., None], pictures: Path, tmp_path: Path
) -> None:
    edit_config(tiny_copy, lambda config: config.update(labels=["a\x1b[2J" + label for label in config["labels"]]))
    image = (pictures / "b.png").rename(tmp_path / "\x1b]0;title\x07.png")
    shown = smdguard("predict", image, "--model", tiny_copy, "--backend", "torch").stdout
    assert "?]0;title?.png" in shown
    assert "a?[2J" in shown
    assert "\x1b" not in shown


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-c", "from smdguard.cli import main; main()", *map(str, arguments)]


def test_real_process_answers_without_torch_and_is_quiet(tiny_folder: Path, pictures: Path) -> None:
    script = (
        "import sys\nfrom smdguard.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print('torch' in sys.modules, file=sys.stderr)\n"
    )
    arguments = ["predict", str(pictures / "b.png"), "--model", str(tiny_folder)]
    answer = subprocess.run([sys.executable, "-W", "error", "-c", script, *arguments], capture_output=True, check=False)
    assert answer.returncode == 0
    assert answer.stderr == b"False\n"
    assert b"\x1b" not in answer.stdout


def test_a_closed_standard_input_is_one_line(tiny_folder: Path) -> None:
    script = 'exec "$@" <&-'
    arguments = ["sh", "-c", script, "sh", *command("predict", "-", "--model", tiny_folder)]
    answer = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert answer.stderr == "Error: standard input is closed; give it the image, as in smdguard predict - < image.png\n"


def test_real_process_fails_with_one_line_and_debug_shows_the_traceback() -> None:
    arguments = ("predict", "a.png", "--model", "no-such-model")
    plain = subprocess.run(command(*arguments), capture_output=True, text=True, check=False)
    assert plain.returncode == 1
    assert plain.stderr.startswith("Error: there is no model 'no-such-model'; ")
    assert len(plain.stderr.splitlines()) == 1
    debug = subprocess.run(command("--debug", *arguments), capture_output=True, text=True, check=False)
    assert debug.returncode == 1
    assert debug.stderr.startswith("Traceback")
    assert "UnknownModelError: there is no model 'no-such-model'" in debug.stderr


def test_name_that_is_no_text_is_shown_all_the_same(tiny_folder: Path, tmp_path: Path, png: bytes) -> None:
    path = os.fsencode(tmp_path / "a") + b"\xff.png"
    with open(path, "wb") as file:  # noqa: PTH123 - such a name is bytes, not text.
        file.write(png)
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    arguments = [*map(os.fsencode, command("predict", "--model", tiny_folder)), path]
    answer = subprocess.run(arguments, env=environment, capture_output=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert "a\N{REPLACEMENT CHARACTER}.png" in answer.stdout.decode()
