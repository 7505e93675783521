"""Models on the Hub: fetched whole, checked always, and refused where anything about them is not as it should be."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import validate_repo_id

import smdguard as sg
from smdguard import remote
from smdguard.catalogue import list_zoo, read_audit, read_manifest
from smdguard.companions import default_surrogates
from smdguard.errors import HubError, IntegrityError, SmdguardError, UnknownModelError, UnpinnedRevisionWarning
from smdguard.files import sha256
from smdguard.hub import find_model, pull_model
from smdguard.model_folder import AUDIT, CARD, CONFIG, ONNX, WEIGHTS
from smdguard.remote import Repository, parse_id
from tests.hub_server import TOKEN, Answer, Handler, HubServer

ZOO_NAME = "naive-lenet-mnist"


def read_all(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def model(hub_server: HubServer, tiny_folder: Path) -> Repository:
    """The tiny model in somebody's repository."""
    return Repository("org/tiny", hub_server.host("org/tiny", read_all(tiny_folder)))


def pinned(model: Repository) -> str:
    return f"{model.name}@{model.commit}"


def load(model: str) -> sg.Guard:
    """Both back ends, so that both files are read."""
    sg.load(model, backend="torch", device="cpu")
    return sg.load(model, backend="onnx", device="cpu")


def refusal(model: str, error: type[Exception]) -> str:
    with pytest.raises(error) as caught:
        load(model)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What is fetched, and when


def test_pinned_model_is_fetched_once(hub_server: HubServer, model: Repository, tiny_folder: Path) -> None:
    assert load(pinned(model)).name == pinned(model)
    files = [request.path.rpartition("/")[2] for request in hub_server.requests if "resolve" in request.path]
    assert sorted(files) == sorted([CONFIG, WEIGHTS, ONNX, CARD, AUDIT])
    assert read_all(model.folder) == read_all(tiny_folder)
    hub_server.requests.clear()
    load(pinned(model))
    pull_model(pinned(model))
    assert hub_server.requests == []


def test_cached_model_is_loaded_offline(model: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    load(pinned(model))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    load(pinned(model))


def test_cold_cache_offline(hub_server: HubServer, model: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert refusal(pinned(model), HubError).endswith("is not in the cache, and HF_HUB_OFFLINE forbids to fetch it")
    assert hub_server.requests == []


def test_what_the_client_cached_is_used(hub_server: HubServer, model: Repository) -> None:
    from huggingface_hub import snapshot_download

    assert Path(snapshot_download(model.name, revision=model.commit)) == model.folder
    hub_server.requests.clear()
    load(pinned(model))
    assert hub_server.requests == []


def test_only_what_is_missing_is_fetched(hub_server: HubServer, model: Repository) -> None:
    load(pinned(model))
    (model.folder / ONNX).unlink()
    hub_server.requests.clear()
    load(pinned(model))
    assert not any(request.path.endswith((CONFIG, WEIGHTS)) for request in hub_server.requests)


@pytest.mark.parametrize(("status", "num_asked"), [(429, 1), (500, 1), (404, 2), (403, 2)])
def test_model_is_loaded_without_what_is_for_people(
    hub_server: HubServer, model: Repository, status: int, num_asked: int
) -> None:
    for file in (CARD, AUDIT):
        hub_server.answers[file] = lambda handler: handler.refuse(status)
    load(pinned(model))
    asked = [request.path for request in hub_server.requests if request.path.endswith((CARD, AUDIT))]
    assert len(asked) == num_asked


def test_zoo_name_is_pulled_from_where_the_manifest_pins_it(
    hub_server: HubServer, distant_model: Repository, tiny_copy: Path
) -> None:
    config = find_model(str(tiny_copy)).config
    of_seed_1 = config.model_copy(update={"training": config.training.model_copy(update={"seed": 1})})
    assert {row["name"]: row["where"] for row in list_zoo()}[ZOO_NAME] == "hub"
    assert default_surrogates(of_seed_1) == ["naive-lenet-mnist-s1"]
    assert find_model(ZOO_NAME).path == distant_model.folder
    assert {row["name"]: row["where"] for row in list_zoo()}[ZOO_NAME] == "cached"
    assert default_surrogates(of_seed_1) == [ZOO_NAME]
    hub_server.requests.clear()
    assert load(ZOO_NAME).name == ZOO_NAME
    assert hub_server.requests == []


def test_another_configuration_than_the_manifest_pins_is_not_kept(
    hub_server: HubServer, distant_model: Repository
) -> None:
    commit = hub_server.repositories[distant_model.name].commits[0]
    commit.files[CONFIG] = commit.files[CONFIG].replace(b"0.1", b"0.9")
    assert "is not the file that its SHA-256 names" in refusal(ZOO_NAME, IntegrityError)
    assert not distant_model.folder.exists()


@pytest.mark.parametrize("content", [b"{}", b"<html>Log in</html>"])
def test_only_the_audit_that_the_manifest_pins_is_kept(
    hub_server: HubServer, distant_model: Repository, tiny_zoo: Path, content: bytes
) -> None:
    evaluation = {"threat": {"norm": "linf", "epsilon": 0.3}, "attack": "worst_case", "num_images": 10, "seed": 0}
    figures = {"clean_accuracy": 0.5, "robust_accuracy": 0.0, "report_sha256": sha256(b"{}"), "versions": {}}
    manifest = json.loads((tiny_zoo / "manifest.json").read_bytes())
    manifest["models"][0]["evaluations"] = [evaluation | figures]
    (tiny_zoo / "manifest.json").write_text(json.dumps(manifest))
    read_manifest.cache_clear()
    hub_server.answers[AUDIT] = lambda handler: handler.send(content)
    load(ZOO_NAME)
    assert (distant_model.folder / AUDIT).exists() == (content == b"{}")
    hub_server.answers.clear()
    pull_model(ZOO_NAME)
    assert (distant_model.folder / AUDIT).read_bytes() == b"{}"


# Names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("org/repo", ("org/repo", "main")),
        ("org/repo@v1.0", ("org/repo", "v1.0")),
        ("Org-1/re_po.x@refs/pr/1", ("Org-1/re_po.x", "refs/pr/1")),
        *((name, None) for name in ("repo", "a/b/c", "./a", "../a", "a/..", "a/b..c", "a/b--c", "/a/b", "a/b/", "~/a")),
        *((name, None) for name in ("a/b@", "a/b@../c", "a/b@c/../d", "a/b@/c", "a/b@-c", "a/b\n", "a/b?c", "ä/b")),
        *((name, None) for name in ("a/b.git", "a/b.git@main", "a/b-", "a/b.", "a-/b", "a./b", "a_-/b@main")),
        ("a.git/b_@main", ("a.git/b_", "main")),
        *((name, None) for name in ("a/.b", "a/" + "b" * 97, "a/b@" + "c" * 256, "a\\b", "a/b c", "a/b%2e%2e")),
    ],
)
def test_hub_ids(name: str, expected: tuple[str, str] | None) -> None:
    assert parse_id(name) == expected


@pytest.mark.parametrize("name", ["a/b", "a.git/b_", "A-1/b." + "c" * 94, "0/0.git0"])
def test_hub_ids_are_names_to_the_client(name: str) -> None:
    assert parse_id(name) == (name, "main")
    validate_repo_id(name)


def test_name_that_the_client_refuses_is_one_line(hub_server: HubServer) -> None:
    with pytest.raises(HubError, match=r"b\.git"):
        Repository("a/b.git", "0" * 40).fetch(CONFIG, max_bytes=1)
    with pytest.raises(HubError, match=r"b\.git"):
        remote.resolve("a/b.git", "main", CONFIG)
    assert hub_server.requests == []


def test_folder_comes_before_a_hub_id(
    hub_server: HubServer, tiny_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org").mkdir()
    tiny_copy.rename(tmp_path / "org" / "tiny")
    assert find_model("org/tiny").path == Path("org/tiny")
    assert hub_server.requests == []


@pytest.mark.parametrize("name", ["org/nothing", "org/tiny@nothing", "org/tiny@" + "0" * 40])
def test_what_the_hub_does_not_have(model: Repository, name: str) -> None:
    assert re.search(rf"has no config.json of {name}(@main)?, or the token", refusal(name, UnknownModelError))


def test_repository_without_a_model(hub_server: HubServer) -> None:
    commit = hub_server.host("org/other", {"notes.txt": b"no model"})
    assert refusal(f"org/other@{commit}", IntegrityError).endswith(f"has no config.json of org/other@{commit}")


# Revisions that can change


def test_unpinned_revision_warns_and_says_how_to_pin(model: Repository) -> None:
    for name in ("org/tiny", "org/tiny@main"):
        with pytest.warns(UnpinnedRevisionWarning, match=rf"what it stands for today is {pinned(model)}$"):
            assert find_model(name).path == model.folder


def test_unpinned_revision_that_was_not_asked_for_is_not_todays(
    model: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.warns(UnpinnedRevisionWarning, match="stands for today"):
        load("org/tiny")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.warns(UnpinnedRevisionWarning, match=rf"stood for when the Hub .* is {pinned(model)}$"):
        load("org/tiny")


def test_unpinned_revision_warns_once_where_it_is_loaded(model: Repository) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            sg.load("org/tiny", backend="onnx", device="cpu")
    assert [(warning.category, warning.filename) for warning in caught] == [(UnpinnedRevisionWarning, __file__)]


@pytest.mark.filterwarnings("ignore::smdguard.errors.UnpinnedRevisionWarning")
def test_unpinned_revision_is_asked_for_each_time_and_remembered(
    hub_server: HubServer, model: Repository, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load("org/tiny")
    later = hub_server.host("org/tiny", {**read_all(tiny_folder), "notes.txt": b"new"})
    assert find_model("org/tiny").path.name == later
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert find_model("org/tiny").path.name == later
    with pytest.raises(HubError, match="HF_HUB_OFFLINE"):
        find_model("org/tiny@v1")


@pytest.mark.filterwarnings("ignore::smdguard.errors.UnpinnedRevisionWarning")
def test_what_a_branch_stands_for_is_written_only_where_it_changed(
    hub_server: HubServer, model: Repository, tiny_folder: Path
) -> None:
    load("org/tiny")
    reference = model.folder.parents[1] / "refs" / "main"
    os.utime(reference, (0, 0))
    load("org/tiny")
    assert reference.stat().st_mtime == 0
    later = hub_server.host("org/tiny", {**read_all(tiny_folder), "notes.txt": b"new"})
    load("org/tiny")
    assert reference.read_text() == later


@pytest.mark.filterwarnings("ignore::smdguard.errors.UnpinnedRevisionWarning")
def test_what_a_branch_stands_for_need_not_be_written(model: Repository) -> None:
    repository = model.folder.parents[1]
    repository.mkdir(parents=True)
    (repository / "refs").write_bytes(b"a file, where no folder can be made")
    assert find_model("org/tiny").path == model.folder


@pytest.mark.filterwarnings("ignore::smdguard.errors.UnpinnedRevisionWarning")
def test_cache_that_the_system_does_not_open_is_one_line(
    hub_server: HubServer, distant_model: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is too long is refused to everyone, a folder that may not be entered not to the root user."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / ("a" * 300)))
    assert {row["name"]: row["where"] for row in list_zoo()}[ZOO_NAME] == "hub"
    entry = read_manifest().find(ZOO_NAME)
    assert entry is not None
    audited = entry.model_copy(update={"evaluations": (object(),)})
    assert read_audit(audited) is None
    with pytest.raises(SmdguardError, match="cannot be written: File name too long"):
        find_model(ZOO_NAME)
    hub_server.answers[CONFIG] = lambda handler: handler.refuse(500)
    with pytest.raises(HubError, match="status 500"):
        find_model("org/tiny")


@pytest.mark.filterwarnings("ignore::smdguard.errors.UnpinnedRevisionWarning")
def test_a_damaged_reference_is_one_line(model: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    load("org/tiny")
    (model.folder.parents[1] / "refs" / "main").write_bytes(b"\xff\xfe")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert refusal("org/tiny", IntegrityError).endswith(" is no commit of org/tiny")


# Private repositories


def test_private_model_needs_the_token(
    hub_server: HubServer, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"org/secret@{hub_server.host('org/secret', read_all(tiny_folder), private=True)}"
    assert "HF_TOKEN" in refusal(name, UnknownModelError)
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    assert "HF_TOKEN" in refusal(name, UnknownModelError)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub_server.requests.clear()
    load(name)
    tokens = {request.host.partition(":")[0]: request.token for request in hub_server.requests}
    assert tokens == {"127.0.0.1": TOKEN, "localhost": None}


# Networks that do not work


def test_refused_connection_is_one_attempt(
    model: Repository, monkeypatch: pytest.MonkeyPatch, unused_endpoint: str
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", unused_endpoint)
    template = unused_endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    connect, attempts = socket.socket.connect, []

    def count(self: socket.socket, address: Any) -> None:
        attempts.append(address)
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", count)
    message = refusal(pinned(model), HubError)
    assert message.startswith(f"{unused_endpoint} cannot be asked for {CONFIG} of {pinned(model)}: ")
    assert len(attempts) == 1


@pytest.fixture
def unused_endpoint() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.parametrize("name", ["org/tiny", "org/tiny@" + "0" * 40])
def test_hub_that_never_answers_is_not_waited_for(
    hub_server: HubServer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(remote, "_ANSWER_SECONDS", 0.2)
    asked, given_up = Event(), Event()

    def never_answer(handler: Handler) -> None:
        asked.set()
        given_up.wait()

    hub_server.answers[CONFIG] = never_answer
    assert "no answer within 0.2 seconds" in refusal(name, HubError)
    # On a busy machine the question leaves only after it was given up.
    assert asked.wait(timeout=30)
    assert len(hub_server.requests) == 1
    given_up.set()


def test_name_lookup_that_hangs_is_not_waited_for(model: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    given_up = Event()

    def hang(*_: object, **__: object) -> None:
        given_up.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(remote, "_ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", hang)
    assert "no answer within 0.2 seconds" in refusal(pinned(model), HubError)
    given_up.set()


@pytest.mark.filterwarnings("ignore::smdguard.errors.UnpinnedRevisionWarning")
def test_slow_answer_is_waited_for_as_long_as_the_user_has_set(
    hub_server: HubServer, model: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer_late(handler: Handler) -> None:
        time.sleep(0.5)
        handler.route(handler.path)

    hub_server.answers[CONFIG] = answer_late
    monkeypatch.setattr(remote, "_ANSWER_SECONDS", 0.1)
    for variable, name in (("HF_HUB_ETAG_TIMEOUT", "org/tiny"), ("HF_HUB_DOWNLOAD_TIMEOUT", pinned(model))):
        assert re.search(rf"no answer within 0\.1 seconds; .* set .*{variable}.* to more", refusal(name, HubError))
        monkeypatch.setenv(variable, "60")
        monkeypatch.setattr(constants, variable, 60)
    assert find_model("org/tiny").path == model.folder


def test_download_that_comes_late_is_closed(model: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    given_up, closed = Event(), Event()
    monkeypatch.setattr(remote, "_ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(remote, "_open", lambda *_: given_up.wait() and SimpleNamespace(close=closed.set))
    refusal(pinned(model), HubError)
    given_up.set()
    assert closed.wait(timeout=30)


def test_no_answer_is_waited_for_longer_than_five_seconds() -> None:
    assert remote._ANSWER_SECONDS < 5


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
    assert "is no commit of org/tiny" in refusal("org/tiny", IntegrityError)
    assert not (tmp_path / "cache").exists()


# Models by third parties


def list_file(name: str, num_bytes: int = 3) -> Callable[[dict[str, Any]], None]:
    return lambda config: config["files"].update({name: {"sha256": "0" * 64, "num_bytes": num_bytes}})


THIRD_PARTY: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "parent folder": (list_file("../../../evil"), "is not a valid ModelConfig"),
    "absolute path": (list_file("/tmp/evil"), "is not a valid ModelConfig"),
    "pickle": (list_file("model.pkl"), "lists model.pkl, which is no file of a model"),
    "code": (list_file("modeling.py"), "lists modeling.py, which is no file of a model"),
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


# Processes that end in the middle


@pytest.mark.parametrize("file", [CONFIG, ONNX])
def test_killed_pull_leaves_nothing_that_loads_wrongly(
    hub_server: HubServer, model: Repository, hub_environment: dict[str, str], tiny_folder: Path, file: str
) -> None:
    started = []

    def stall(handler: Handler) -> None:
        handler.send(b"half", Content_Length="600000")
        started.append(True)
        time.sleep(2)

    hub_server.answers[file] = stall
    command = [sys.executable, "-m", "smdguard", "pull", pinned(model)]
    with subprocess.Popen(command, env=hub_environment, stderr=subprocess.DEVNULL) as process:
        while not started and process.poll() is None:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    hub_server.answers.clear()
    whole = read_all(tiny_folder)
    here = read_all(model.folder) if model.folder.exists() else {}
    assert here.items() <= whole.items()
    load(pinned(model))
    assert read_all(model.folder) == whole


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_pull_killed_while_it_writes(
    model: Repository, hub_environment: dict[str, str], tiny_folder: Path, step: str
) -> None:
    """The process ends itself with SIGKILL at its third write, before the file has its name."""
    script = f"""
import os, signal, sys
from pathlib import Path
owner, name = (os, "fsync") if {step!r} == "fsync" else (Path, "replace")
real, calls = getattr(owner, name), []
def die(*arguments):
    calls.append(arguments)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments)
setattr(owner, name, die)
from smdguard.hub import pull_model
pull_model(sys.argv[1])
"""
    answer = subprocess.run([sys.executable, "-c", script, pinned(model)], env=hub_environment, check=False)
    assert answer.returncode == -signal.SIGKILL
    load(pinned(model))
    whole = read_all(tiny_folder)
    assert {name: content for name, content in read_all(model.folder).items() if name[0] != "."} == whole


# The real Hub


@pytest.mark.skipif("SMDGUARD_TEST_HUB" not in os.environ, reason="talks to the real Hub: set SMDGUARD_TEST_HUB=1")
def test_real_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    name = "hf-internal-testing/tiny-random-bert"
    found, is_current = remote.resolve(name, "main", CONFIG)
    assert is_current
    found.fetch(CONFIG, max_bytes=2**20)
    assert json.loads((found.folder / CONFIG).read_bytes())["model_type"] == "bert"
    with pytest.raises(IntegrityError, match="is not a valid ModelConfig"):
        find_model(f"{name}@{found.commit}")
    with pytest.raises(UnknownModelError):
        find_model("hf-internal-testing/there-is-no-such-model@" + "0" * 40)
