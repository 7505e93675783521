"""Finding models, and refusing every file that is not the one that was pinned."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import smdguard as sg
from smdguard.catalogue import list_zoo, read_test_subset
from smdguard.errors import IntegrityError, UnknownModelError
from smdguard.hub import find_model
from smdguard.model_folder import CONFIG, ONNX, WEIGHTS

NAME = "naive-lenet-mnist"
# Which back end reads which file; the configuration is read by both.
READERS = {CONFIG: "onnx", WEIGHTS: "torch", ONNX: "onnx"}


def refusal(model: str | Path, backend: Any) -> str:
    """The one line that loading ends with."""
    with pytest.raises(IntegrityError) as caught:
        sg.load(str(model), backend=backend, device="cpu")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("file", READERS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_one_flipped_bit_of_a_zoo_model_is_refused(tiny_zoo: Path, file: str, place: float, bit: int) -> None:
    path = tiny_zoo / "models" / NAME / file
    content = path.read_bytes()
    damaged = bytearray(content)
    damaged[int(place * len(content))] ^= 1 << bit
    path.write_bytes(damaged)
    try:
        assert str(path) in refusal(NAME, READERS[file])
    finally:
        path.write_bytes(content)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda content: content[:-1],
    "grown": lambda content: content + b"\n",
    "empty": lambda content: b"",
    "another": lambda content: bytes(reversed(content)),
}


@pytest.mark.parametrize("file", READERS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file_of_a_zoo_model_is_refused(tiny_zoo: Path, file: str, damage: str) -> None:
    path = tiny_zoo / "models" / NAME / file
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert str(path) in refusal(NAME, READERS[file])


def test_a_folder_without_a_configuration_is_not_a_finished_model(tiny_copy: Path) -> None:
    (tiny_copy / CONFIG).unlink()
    assert refusal(tiny_copy, "onnx") == (
        f"{tiny_copy} is not a finished model, it has no config.json; name the folder of one, or if a training was "
        "stopped there, go on with its command and --resume"
    )


@pytest.mark.parametrize("file", [WEIGHTS, ONNX])
def test_missing_file_is_refused(tiny_copy: Path, file: str) -> None:
    (tiny_copy / file).unlink()
    assert f"{tiny_copy / file} cannot be read" in refusal(tiny_copy, READERS[file])


@pytest.mark.parametrize("file", [WEIGHTS, ONNX])
@pytest.mark.parametrize("damage", DAMAGES)
def test_folder_is_held_to_its_own_configuration(tiny_copy: Path, file: str, damage: str) -> None:
    path = tiny_copy / file
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert f"{path} is not the file that config.json names" in refusal(tiny_copy, READERS[file])


def test_only_the_manifest_pins_a_configuration(tiny_zoo: Path, edit_config: Callable[..., None]) -> None:
    folder = tiny_zoo / "models" / NAME
    edit_config(folder, lambda config: config.update(clean_accuracy=0.99))
    assert sg.load(str(folder), backend="onnx").config.clean_accuracy == 0.99
    assert f"{folder / CONFIG} is not the file that the manifest pins" in refusal(NAME, "onnx")


def digest(config: dict[str, Any]) -> dict[str, Any]:
    return config["files"][WEIGHTS]


def rename(config: dict[str, Any], name: str) -> None:
    config["files"][name] = config["files"].pop(WEIGHTS)


MALFORMED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "too few labels": (lambda config: config["labels"].pop(), "9 labels for 10 classes"),
    "unknown key": (lambda config: config.update(pickle="yes"), "pickle"),
    "unknown key within": (lambda config: config["input"].update(gamma=2), "input.gamma"),
    "missing key": (lambda config: config.pop("training"), "training"),
    "another version": (lambda config: config.update(schema_version=2), "schema_version"),
    "short checksum": (lambda config: digest(config).update(sha256="abc"), "files.model.safetensors.sha256"),
    "upper case": (lambda config: digest(config).update(sha256="A" * 64), "files.model.safetensors.sha256"),
    "negative size": (lambda config: digest(config).update(num_bytes=-1), "files.model.safetensors.num_bytes"),
    "absurd size": (lambda config: digest(config).update(num_bytes=2**60), "files.model.safetensors.num_bytes"),
    "parent folder": (lambda config: rename(config, "../model.safetensors"), "files.../model.safetensors"),
    "absolute path": (lambda config: rename(config, "/etc/passwd"), "files./etc/passwd"),
    "hidden file": (lambda config: rename(config, ".model"), "files..model"),
    "two channels": (lambda config: config["input"].update(channels=2), "input.channels"),
    "mean of three": (lambda config: config["input"].update(mean=[0, 0, 0]), "one value for each of the 1 channels"),
    "zero std": (lambda config: config["input"].update(std=[0]), "input.std"),
    "infinite mean": (lambda config: config["input"].update(mean=[1e999]), "input.mean"),
    "no members": (lambda config: config["architecture"].update(num_members=0), "architecture.num_members"),
    "name with a slash": (lambda config: config.update(name="a/b"), "name"),
    "negative threshold": (
        lambda config: config.update(
            suspicion={"threshold": -1, "quantile": 0.99, "num_images": 1, "test_rate": 0},
        ),
        "suspicion.threshold",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_configuration_is_one_clear_line(
    tiny_copy: Path, edit_config: Callable[..., None], case: str
) -> None:
    edit, fragment = MALFORMED[case]
    edit_config(tiny_copy, edit)
    message = refusal(tiny_copy, "onnx")
    assert message.startswith(f"{tiny_copy / CONFIG} is not a valid ModelConfig: ")
    assert fragment in message


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null", b"[" * 10_000, b"\x80\x04K*."])
def test_configuration_that_is_no_object_is_one_clear_line(tiny_copy: Path, content: bytes) -> None:
    (tiny_copy / CONFIG).write_bytes(content)
    assert refusal(tiny_copy, "onnx").startswith(f"{tiny_copy / CONFIG} is not a valid ModelConfig: ")


def test_a_configuration_that_is_too_long_is_not_cut(tiny_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smdguard.model_folder.MAX_TEXT_BYTES", 100)
    assert refusal(tiny_copy, "onnx") == f"{tiny_copy / CONFIG} has more than 100 bytes, which is the limit"


MISFITS: dict[str, Callable[[dict[str, Any]], object]] = {
    "more members": lambda config: config["architecture"].update(num_members=4),
    "more classes": lambda config: config.update(
        labels=[*config["labels"], "ten"], architecture={**config["architecture"], "num_classes": 11}
    ),
    "terabytes": lambda config: (
        config["input"].update(height=4096, width=4096),
        config["architecture"].update(num_members=64),
    ),
}


@pytest.mark.parametrize("case", MISFITS)
def test_weights_of_another_architecture_are_refused(
    tiny_copy: Path, edit_config: Callable[..., None], case: str
) -> None:
    edit_config(tiny_copy, MISFITS[case])
    assert f"{tiny_copy / WEIGHTS} does not hold the weights of" in refusal(tiny_copy, "torch")


def test_float8_weights_are_refused(tiny_copy: Path, edit_config: Callable[..., None]) -> None:
    tensors = load_file(tiny_copy / WEIGHTS)
    save_file({name: tensor.to(torch.float8_e4m3fn) for name, tensor in tensors.items()}, tiny_copy / WEIGHTS)
    edit_config(tiny_copy, lambda config: None)
    message = refusal(tiny_copy, "torch")
    assert message == f"{tiny_copy / WEIGHTS} holds weights of a type that cannot be used, torch.float8_e4m3fn"


def test_weights_of_a_type_without_tensors_are_refused(tiny_copy: Path, edit_config: Callable[..., None]) -> None:
    header = json.dumps({"a": {"dtype": "F8_E8M0", "shape": [1], "data_offsets": [0, 1]}}).encode()
    (tiny_copy / WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header + b"\0")
    edit_config(tiny_copy, lambda config: None)
    message = refusal(tiny_copy, "torch")
    assert message == f"{tiny_copy / WEIGHTS} holds weights of a type that cannot be used, 'F8_E8M0'"


def test_images_too_small_for_the_architecture_are_refused(tiny_copy: Path, edit_config: Callable[..., None]) -> None:
    edit_config(tiny_copy, lambda config: config["input"].update(height=5))
    assert "lenet cannot be built for images of 5 x 28 pixels" in refusal(tiny_copy, "torch")


def test_unknown_architecture_is_refused(tiny_copy: Path, edit_config: Callable[..., None]) -> None:
    edit_config(tiny_copy, lambda config: config["architecture"].update(name="os.system"))
    assert "'os.system' is unknown to this version; it knows lenet" in refusal(tiny_copy, "torch")


@pytest.mark.parametrize(("file", "kind"), [(WEIGHTS, "not a safetensors file"), (ONNX, "cannot be run by ONNX")])
def test_pickle_in_place_of_a_model_is_refused(
    tiny_copy: Path, edit_config: Callable[..., None], file: str, kind: str
) -> None:
    (tiny_copy / file).write_bytes(b"\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00\x8c\x08builtins\x94.")
    edit_config(tiny_copy, lambda config: None)
    message = refusal(tiny_copy, READERS[file])
    assert str(tiny_copy / file) in message
    assert kind in message


def test_file_that_is_not_listed_is_not_read(tiny_copy: Path, edit_config: Callable[..., None]) -> None:
    edit_config(tiny_copy, lambda config: config["files"].pop(WEIGHTS))
    assert refusal(tiny_copy, "torch") == f"{tiny_copy / CONFIG} lists no file {WEIGHTS}"


@pytest.mark.parametrize("name", ["naive-lenet-mnits", "naive_lenet_mnist", "naive-lenet"])
def test_unknown_name_is_answered_with_the_nearest(tiny_zoo: Path, name: str) -> None:
    with pytest.raises(UnknownModelError, match=rf"no model '{name}'; did you mean .*\bnaive-lenet-mnist\b"):
        find_model(name)


def test_name_that_is_near_to_nothing_is_answered_with_where_to_look(tiny_zoo: Path) -> None:
    with pytest.raises(UnknownModelError, match=r"there is no model '9+'; smdguard list shows all$"):
        find_model("9" * 5000)


@pytest.mark.parametrize("name", ["cnn.pt", "./mynet.py"])
def test_a_file_of_pytorch_is_answered_with_how_to_audit_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).touch()
    with pytest.raises(UnknownModelError) as caught:
        find_model(name)
    assert str(caught.value) == (
        f"{name} is a file; name the folder of a model, or for smdguard audit a FILE.onnx or, as "
        "package.module:function, a function of yours that returns a PyTorch model"
    )


def test_local_paths_are_not_looked_for_on_the_hub(tiny_zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_zoo)
    with pytest.raises(UnknownModelError, match=r"manifest\.json is a file; name the folder of a model"):
        find_model("manifest.json")
    with pytest.raises(UnknownModelError, match="there is no model folder models/other; for a model on the Hub"):
        find_model("models/other")


def test_a_path_is_a_folder_whatever_the_zoo_has(tiny_zoo: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match=f"there is no model folder {NAME}"):
        find_model(Path(NAME))


@pytest.mark.parametrize("model", ["no/such/folder", "a" * 5000 + "/", "./naive-lenet-mnist"])
def test_folder_that_is_not_there(tiny_zoo: Path, model: str) -> None:
    with pytest.raises(UnknownModelError, match="there is no model folder"):
        find_model(model)


def test_zoo_name_stands_for_the_zoo_and_a_path_for_the_folder(
    tiny_zoo: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_folder, tmp_path / NAME)
    monkeypatch.chdir(tmp_path)
    assert find_model(NAME).entry is not None
    assert find_model(NAME).path == tiny_zoo / "models" / NAME
    assert find_model(os.path.join(".", NAME)).entry is None  # noqa: PTH118 - Path would drop the dot.


def test_entry_whose_files_are_not_here(tiny_zoo: Path) -> None:
    shutil.rmtree(tiny_zoo / "models" / NAME)
    with pytest.raises(UnknownModelError, match="is in the zoo, but its files are neither on this machine"):
        find_model(NAME)
    where = {row["name"]: row["where"] for row in list_zoo()}
    assert where == {NAME: "unpublished", "naive-lenet-mnist-s1": "checkout", "smd-lenet-mnist-s1": "checkout"}


def test_bundled_test_images_are_verified(tiny_zoo: Path) -> None:
    path = tiny_zoo / "data" / "mnist-test.npz"
    assert len(read_test_subset("mnist")) == path.stat().st_size
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(IntegrityError, match=r"mnist-test\.npz is not the file that the manifest names"):
        read_test_subset("mnist")


def test_malformed_manifest_is_refused(tiny_zoo: Path) -> None:
    manifest = json.loads((tiny_zoo / "manifest.json").read_bytes())
    manifest["models"][1]["weights"]["sha256"] = "0"
    (tiny_zoo / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(IntegrityError, match=r"manifest\.json is not a valid Manifest: models\.1\.weights\.sha256"):
        find_model(NAME)
