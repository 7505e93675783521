"""The zoo's schema: what is read is what was written, and nothing else is read."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smdguard.catalogue import read_manifest
from smdguard.errors import IntegrityError
from smdguard.manifest import File, Input, Manifest, ModelConfig, RemoteFile, parse, read_record, serialise

DIGEST = "0123456789abcdef" * 4


def test_manifest_survives_writing_and_reading() -> None:
    manifest = read_manifest()
    assert parse(Manifest, serialise(manifest), "again") == manifest
    assert serialise(parse(Manifest, serialise(manifest), "again")) == serialise(manifest)


def test_configuration_survives_writing_and_reading(tiny_folder: Path) -> None:
    content = (tiny_folder / "config.json").read_bytes()
    config = parse(ModelConfig, content, "config.json")
    assert serialise(config) == content
    assert content.endswith(b"}\n")


@pytest.mark.parametrize("width", [0, 4097, "wide", 2.5, None])
def test_size_out_of_bounds_is_refused(width: Any) -> None:
    document = {"channels": 1, "height": 28, "width": width, "mean": [0.5], "std": [0.5]}
    with pytest.raises(IntegrityError, match=r"^input is not a valid Input: width: "):
        parse(Input, json.dumps(document).encode(), "input")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_refused(number: str) -> None:
    document = f'{{"channels": 1, "height": 28, "width": 28, "mean": [{number}], "std": [1]}}'
    with pytest.raises(IntegrityError, match=r"^input is not a valid Input: mean\.0: "):
        parse(Input, document.encode(), "input")


@given(name=st.text(alphabet="aA1._-/\\ \n\0~", max_size=12))
def test_file_names_stay_in_their_folder(name: str) -> None:
    document = json.dumps({"file": name, "sha256": DIGEST, "num_bytes": 1}).encode()
    try:
        file = parse(RemoteFile, document, "file").file
    except IntegrityError:
        return
    assert file == name
    assert not set(name) & set("/\\ \n\0~")
    assert name[0] in "aA1"


@pytest.mark.parametrize("name", ["model.onnx", "a", "model-1_2.safetensors"])
def test_plain_file_names_are_read(name: str) -> None:
    assert parse(RemoteFile, json.dumps({"file": name, "sha256": DIGEST, "num_bytes": 1}).encode(), "file").file == name


def test_revision_is_a_whole_commit_or_null() -> None:
    document = {"file": "a", "sha256": DIGEST, "num_bytes": 1, "repo": "org/name"}
    for revision in (None, "a" * 40):
        parsed = parse(RemoteFile, json.dumps({**document, "revision": revision}).encode(), "file")
        assert parsed.revision == revision
    with pytest.raises(IntegrityError, match="revision"):
        parse(RemoteFile, json.dumps({**document, "revision": "main"}).encode(), "file")


def test_records_cannot_be_changed() -> None:
    file = File(sha256=DIGEST, num_bytes=1)
    with pytest.raises(ValueError, match="frozen"):
        file.num_bytes = 2  # pyright: ignore[reportAttributeAccessIssue] - that it is refused is what is tested


def test_find_is_exact(tiny_zoo: Path) -> None:
    manifest = read_manifest()
    assert [manifest.find(entry.name) for entry in manifest.models] == list(manifest.models)
    assert manifest.find("naive-lenet") is None


def test_a_record_without_end_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smdguard.manifest.MAX_TEXT_BYTES", 1000)
    (tmp_path / "config.json").symlink_to("/dev/zero")
    with pytest.raises(IntegrityError, match=r"config\.json has more than 1,000 bytes, which is the limit$"):
        read_record(ModelConfig, tmp_path / "config.json")
