"""What comes from the Hub is checked always, and refused where anything about it is not as it should be."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from smdguard import remote
from smdguard.errors import HubError, IntegrityError, UnknownModelError
from smdguard.hub import pull_model
from smdguard.model_folder import AUDIT, CARD, CONFIG, ONNX, WEIGHTS
from smdguard.remote import Repository
from tests.hub_server import Answer, Handler, HubServer
from tests.remote.asking import ZOO_NAME, load, pinned, read_all, refusal

# Damage in the cache


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)


@pytest.mark.parametrize("file", [WEIGHTS, ONNX, CONFIG])
def test_damaged_file_of_equal_size_is_refused_until_it_is_pulled_again(distant_model: Repository, file: str) -> None:
    load(ZOO_NAME)
    flip(distant_model.folder / file)
    assert f"{distant_model.folder / file} is not the file that" in refusal(ZOO_NAME, IntegrityError)
    pull_model(ZOO_NAME)
    load(ZOO_NAME)


def test_pull_that_cannot_mend_takes_nothing_away(distant_model: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    load(ZOO_NAME)
    flip(distant_model.folder / ONNX)
    before = read_all(distant_model.folder)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE"):
        pull_model(ZOO_NAME)
    assert read_all(distant_model.folder) == before


def test_damaged_file_that_the_client_cached_is_refused(model: Repository) -> None:
    from huggingface_hub import hf_hub_download, snapshot_download

    snapshot_download(model.name, revision=model.commit)
    flip((model.folder / WEIGHTS).resolve())
    assert hf_hub_download(model.name, WEIGHTS, revision=model.commit) == str(model.folder / WEIGHTS)
    assert "is not the file that config.json names" in refusal(pinned(model), IntegrityError)
    pull_model(pinned(model))
    load(pinned(model))


# Answers that are not what was asked for


def other_content(handler: Handler) -> None:
    """As long as the real one."""
    handler.send(bytes(len(handler.server.repositories["org/tiny"].commits[0].files[WEIGHTS])))


def cut(handler: Handler) -> None:
    handler.send(b"short", Content_Length="600000")
    handler.close_connection = True


def huge(handler: Handler) -> None:
    handler.send(b"", Content_Length=str(2**40))
    handler.close_connection = True


def endless(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    while True:
        handler.wfile.write(bytes(2**16))


def trickle(handler: Handler) -> None:
    handler.send(b"", Content_Length="600000")
    while True:
        handler.wfile.write(b"x")
        time.sleep(0.02)


def stall(handler: Handler) -> None:
    handler.send(b"half", Content_Length="600000")
    time.sleep(1)


def packed(handler: Handler) -> None:
    import gzip

    handler.send(gzip.compress(bytes(10_000_000)), Content_Encoding="gzip")


def redirect(location: str) -> Answer:
    return lambda handler: handler.send(b"", 302, Location=location.format(port=handler.server.server_port))


HOSTILE: dict[str, tuple[Answer, type[Exception], str]] = {
    "other content": (other_content, IntegrityError, "SHA-256|not a valid ModelConfig"),
    "a page": (lambda handler: handler.send(b"<html>Log in</html>"), IntegrityError, "SHA-256|not a valid ModelConfig"),
    "cut": (cut, HubError, "cannot be asked for"),
    "huge": (huge, IntegrityError, "has 1,099,511,627,776 bytes, more than"),
    "endless": (endless, IntegrityError, "is longer than the"),
    "trickling": (trickle, HubError, "it comes too slowly"),
    "stalling": (stall, HubError, "HF_HUB_DOWNLOAD_TIMEOUT to more seconds"),
    "packed": (packed, IntegrityError, "SHA-256|not a valid ModelConfig"),
    "empty": (lambda handler: handler.send(b""), IntegrityError, "SHA-256|not a valid ModelConfig"),
    "not modified": (lambda handler: handler.send(b"", 304), IntegrityError, "SHA-256|not a valid ModelConfig"),
    "redirect elsewhere": (redirect("http://localhost:{port}/elsewhere"), UnknownModelError, "404"),
    "redirect in a circle": (lambda handler: handler.send(b"", 302, Location=handler.path), HubError, "redirect"),
    "redirect to a file": (redirect("file:///etc/passwd"), HubError, "cannot be asked for"),
    "server error": (lambda handler: handler.refuse(500), HubError, r"\(status 500\); try again later"),
    "too many requests": (lambda handler: handler.refuse(429), HubError, r"\(status 429\)"),
    "unauthorised": (lambda handler: handler.refuse(401), UnknownModelError, "HF_TOKEN"),
    "no such file": (lambda handler: handler.refuse(404, "EntryNotFound"), IntegrityError, r"has no (model|config)\."),
}


@pytest.mark.parametrize("file", [WEIGHTS, CONFIG])
@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_answer_leaves_nothing_and_harms_nothing(
    hub_server: HubServer, model: Repository, monkeypatch: pytest.MonkeyPatch, case: str, file: str
) -> None:
    hub_server.answers[file], error, fragment = HOSTILE[case]
    with monkeypatch.context() as patch:
        if case in ("trickling", "stalling"):
            patch.setattr(remote, "_STALL_SECONDS", 0.3)
            patch.setattr(remote, "_SLOWEST_BYTES_PER_SECOND", 10**9)
        assert re.search(fragment, refusal(pinned(model), error))
    assert list(model.folder.glob(f"*{file}*")) == []
    hub_server.answers.clear()
    load(pinned(model))


@pytest.mark.parametrize("commit", ["../../../elsewhere", "main", "", "0" * 39, "0" * 40 + "/.."])
def test_commit_that_is_none_is_no_folder(hub_server: HubServer, tmp_path: Path, commit: str) -> None:
    hub_server.answers[CONFIG] = lambda handler: handler.send(b"{}", X_Repo_Commit=commit, ETag='"x"')
    assert "is not a commit of org/tiny" in refusal("org/tiny", IntegrityError)
    assert not (tmp_path / "cache").exists()


# Models by third parties


def list_file(name: str, num_bytes: int = 3) -> Callable[[dict[str, Any]], None]:
    return lambda config: config["files"].update({name: {"sha256": "0" * 64, "num_bytes": num_bytes}})


THIRD_PARTY: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "parent folder": (list_file("../../../evil"), "is not a valid ModelConfig"),
    "absolute path": (list_file("/tmp/evil"), "is not a valid ModelConfig"),
    "pickle": (list_file("model.pkl"), "lists model.pkl, which is not a file of a model"),
    "code": (list_file("modeling.py"), "lists modeling.py, which is not a file of a model"),
    "gigabytes": (list_file("golden.safetensors", 2**31), "bytes; a model may have 1,073,741,824"),
    "more than it lists": (lambda config: config["files"][WEIGHTS].update(num_bytes=1000), "more than the 1,000 it"),
    "remote code": (
        lambda config: config.update(auto_map={"AutoModel": "x.Y"}),
        "is not a valid ModelConfig: auto_map",
    ),
}


@pytest.mark.parametrize("case", THIRD_PARTY)
def test_third_party_model_is_data_only(hub_server: HubServer, tiny_folder: Path, tmp_path: Path, case: str) -> None:
    edit, fragment = THIRD_PARTY[case]
    config = json.loads((tiny_folder / CONFIG).read_bytes())
    edit(config)
    files = {
        **read_all(tiny_folder),
        CONFIG: json.dumps(config).encode(),
        "model.pkl": b"\x80\x04.",
        "modeling.py": b"",
    }
    commit = hub_server.host("org/evil", files)
    assert fragment in refusal(f"org/evil@{commit}", IntegrityError)
    kept = {path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    assert kept <= {CONFIG, CARD, AUDIT}


def test_a_model_that_smdguard_did_not_make_is_told_how_it_can_be_audited(hub_server: HubServer) -> None:
    config = {"architecture": "resnet18", "num_classes": 1000}
    commit = hub_server.host("timm/resnet18.a1_in1k", {CONFIG: json.dumps(config).encode()})
    line = refusal(f"timm/resnet18.a1_in1k@{commit}", IntegrityError)
    assert line.startswith(f"{CONFIG} of timm/resnet18.a1_in1k@{commit} is not a valid ModelConfig: name: ")
    assert line.endswith(
        "; from the Hub only models made with smdguard can be loaded, audit others as package.module:factory"
    )


def test_huge_configuration_is_refused(hub_server: HubServer) -> None:
    commit = hub_server.host("org/evil", {CONFIG: bytes(2**24 + 1)})
    assert "more than the 16,777,216 it may have" in refusal(f"org/evil@{commit}", IntegrityError)
