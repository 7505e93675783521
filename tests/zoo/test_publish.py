"""Publishing: one commit for a model, nothing for nothing new, and no harm from a run that was cut."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from huggingface_hub import HfApi

import smdguard as sg
from smdguard.catalogue import read_manifest
from smdguard.errors import HubError, IntegrityError, UnknownModelError
from smdguard.hub import find_model
from smdguard.manifest import ManifestEntry
from smdguard.model_folder import AUDIT, CARD, GOLDEN, WEIGHTS
from tests.hub_server import TOKEN, Handler, HubServer
from zoo import __main__, entries
from zoo.publish import FILES, publish_model

# The Hub's client hands files to its HTTP library in a way that the library wants to be rid of.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

NAME = "naive-lenet-mnist"
REPOSITORY = f"org/{NAME}"


@pytest.fixture
def zoo(tiny_zoo: Path, hub_server: HubServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The tiny zoo with all files that are published, and a token to publish with."""
    for file in (AUDIT, CARD, GOLDEN):
        (tiny_zoo / "models" / NAME / file).write_text(f"{file} of {NAME}")
    monkeypatch.setattr(entries, "zoo_folder", lambda: tiny_zoo)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # The client waits between its attempts to send.
    yield tiny_zoo
    read_manifest.cache_clear()


def entry() -> ManifestEntry:
    found = read_manifest().find(NAME)
    assert found is not None
    return found


def contents(zoo: Path) -> dict[str, bytes]:
    return {file: (zoo / "models" / NAME / file).read_bytes() for file in FILES}


def pins(zoo: Path) -> tuple[str | None, str | None]:
    """Where the manifest on disk says that weights and ONNX file are."""
    model = json.loads((zoo / "manifest.json").read_bytes())["models"][0]
    assert (model["weights"]["repo"], model["weights"]["revision"]) == (
        model["onnx"]["repo"],
        model["onnx"]["revision"],
    )
    return model["weights"]["repo"], model["weights"]["revision"]


def test_published_model_is_one_commit_with_a_tag_and_a_pin(zoo: Path, hub_server: HubServer) -> None:
    before = contents(zoo)
    line = publish_model(entry(), "org")
    repository = hub_server.repositories[REPOSITORY]
    _, commit = repository.commits  # The first is the Hub's own.
    assert {file: commit.files[file] for file in FILES} == before == contents(zoo)
    assert list(repository.tags.values()) == [commit.oid]
    assert not repository.private
    assert pins(zoo) == (REPOSITORY, commit.oid)
    assert line == f"{REPOSITORY}@{commit.oid}: 6 files sent"


def test_second_run_with_nothing_new_makes_no_commit(zoo: Path, hub_server: HubServer) -> None:
    publish_model(entry(), "org")
    manifest = (zoo / "manifest.json").read_bytes()
    hub_server.requests.clear()
    assert publish_model(entry(), "org").endswith(": nothing new")
    assert len(hub_server.repositories[REPOSITORY].commits) == 2
    assert not any("/commit/" in request.path or "/lfs/" in request.path for request in hub_server.requests)
    assert (zoo / "manifest.json").read_bytes() == manifest


def test_only_what_changed_is_sent(zoo: Path, hub_server: HubServer) -> None:
    publish_model(entry(), "org")
    (zoo / "models" / NAME / CARD).write_text("another card")
    assert publish_model(entry(), "org").endswith(": 1 files sent")
    repository = hub_server.repositories[REPOSITORY]
    assert len(repository.commits) == 3
    assert len(repository.tags) == 2
    assert {file: repository.commits[-1].files[file] for file in FILES} == contents(zoo)
    assert pins(zoo) == (REPOSITORY, repository.commits[-1].oid)


def test_every_commit_gets_a_tag_where_contents_come_back(zoo: Path, hub_server: HubServer) -> None:
    for card in ("one", "another", "one"):
        (zoo / "models" / NAME / CARD).write_text(card)
        publish_model(entry(), "org")
    repository = hub_server.repositories[REPOSITORY]
    assert list(repository.tags.values()) == [commit.oid for commit in repository.commits[1:]]


def test_published_model_is_pulled_by_its_name(zoo: Path) -> None:
    publish_model(entry(), "org")
    (zoo / "models" / NAME).rename(zoo / "gone")
    guard = sg.load(NAME, device="cpu")
    assert guard.config.name == "tiny-lenet-mnist"
    assert find_model(NAME).path.name == pins(zoo)[1]


def cut(handler: Handler) -> None:
    handler.close_connection = True


STEPS = ["repos/create", "validate-yaml", "preupload/main", "objects/batch", "commit/main", "tag"]


@pytest.mark.parametrize("step", STEPS)
def test_run_that_was_cut_is_repeated_safely(zoo: Path, hub_server: HubServer, step: str) -> None:
    ending = step if step != "tag" else ""

    def cut_tag(handler: Handler) -> None:
        if "/tag/" in handler.path:
            cut(handler)
        else:
            handler.route(handler.path.partition("?")[0])

    hub_server.answers[ending] = cut if ending else cut_tag
    with pytest.raises(HubError, match=f"cannot be asked for {REPOSITORY}"):
        publish_model(entry(), "org")
    assert pins(zoo) == (None, None)
    hub_server.answers.clear()
    publish_model(entry(), "org")
    repository = hub_server.repositories[REPOSITORY]
    assert len(repository.commits) == 2
    assert list(repository.tags.values()) == [repository.commits[-1].oid]
    assert pins(zoo) == (REPOSITORY, repository.commits[-1].oid)


def test_answer_that_is_lost_after_the_commit(zoo: Path, hub_server: HubServer) -> None:
    def commit_and_hang_up(handler: Handler) -> None:
        handler.send = lambda *_, **__: cut(handler)
        handler.route(handler.path)

    hub_server.answers["commit/main"] = commit_and_hang_up
    with pytest.raises(HubError):
        publish_model(entry(), "org")
    hub_server.answers.clear()
    assert publish_model(entry(), "org").endswith(": nothing new")
    assert pins(zoo) == (REPOSITORY, hub_server.repositories[REPOSITORY].commits[-1].oid)
    assert len(hub_server.repositories[REPOSITORY].commits) == 2


def test_manifest_that_could_not_be_written(zoo: Path, hub_server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(entries, "write_atomically", fail)
        with pytest.raises(OSError, match="no space"):
            publish_model(entry(), "org")
    publish_model(entry(), "org")
    assert len(hub_server.repositories[REPOSITORY].commits) == 2
    assert pins(zoo)[0] == REPOSITORY


def test_commit_by_someone_else_in_between_is_not_overwritten(zoo: Path, hub_server: HubServer) -> None:
    publish_model(entry(), "org")
    (zoo / "models" / NAME / CARD).write_text("another card")
    theirs: list[str] = []

    def commit_first(handler: Handler) -> None:
        theirs.append(hub_server.host(REPOSITORY, {"notes.txt": b"new"}))
        handler.route(handler.path)

    hub_server.answers["validate-yaml"] = commit_first
    with pytest.raises(HubError, match=r"\(status 412\)"):
        publish_model(entry(), "org")
    assert [commit.oid for commit in hub_server.repositories[REPOSITORY].commits[2:]] == theirs


def test_dry_run_changes_nothing(zoo: Path, hub_server: HubServer) -> None:
    assert publish_model(entry(), "org", dry_run=True) == f"{REPOSITORY}: would be created and get {', '.join(FILES)}"
    assert hub_server.repositories == {}
    publish_model(entry(), "org")
    assert publish_model(entry(), "org", dry_run=True) == f"{REPOSITORY}: nothing new"
    (zoo / "models" / NAME / CARD).write_text("another card")
    hub_server.requests.clear()
    assert publish_model(entry(), "org", dry_run=True) == f"{REPOSITORY}: would get {CARD}"
    assert {request.method for request in hub_server.requests} == {"GET"}


def test_private_repository(zoo: Path, hub_server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_model(entry(), "org", private=True)
    assert hub_server.repositories[REPOSITORY].private
    assert publish_model(entry(), "org").endswith(": nothing new")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UnknownModelError, match="HF_TOKEN"):
        publish_model(entry(), "org")


def test_damaged_model_is_not_published(zoo: Path, hub_server: HubServer) -> None:
    path = zoo / "models" / NAME / WEIGHTS
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(IntegrityError):
        publish_model(entry(), "org")
    assert hub_server.requests == []


@pytest.mark.parametrize("file", [AUDIT, CARD])
def test_model_without_a_file_is_not_published(zoo: Path, hub_server: HubServer, file: str) -> None:
    path = zoo / "models" / NAME / file
    path.unlink()
    with pytest.raises(IntegrityError, match=f"{path} cannot be read"):
        publish_model(entry(), "org")
    assert hub_server.requests == []


def test_command(zoo: Path, hub_server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    verified: list[str] = []
    monkeypatch.setattr(__main__, "verify_entry", lambda entry: verified.append(entry.name))
    run: Callable[..., Any] = lambda *arguments: CliRunner().invoke(__main__.main, ["publish", *arguments])  # noqa: E731
    answer = run(NAME, "--namespace", "org")
    assert (answer.exit_code, answer.stdout.count("\n"), verified) == (0, 1, [NAME])
    assert HfApi().model_info(REPOSITORY).sha == pins(zoo)[1]
    unknown = run("no-such-model", "--namespace", "org")
    assert (unknown.exit_code, unknown.stderr.count("\n")) == (1, 1)
    hub_server.answers[""] = lambda handler: handler.refuse(503)
    dead = run(NAME, "--namespace", "org", "--dry-run")
    assert (dead.exit_code, dead.stderr.count("\n")) == (1, 1)
    assert "status 503" in dead.stderr


@pytest.mark.parametrize(
    ("command", "status", "error"),
    [
        (["table"], 0, ""),
        (["publish", NAME, "--namespace", "org"], 1, "Error: a variable HF_... of the environment has a value"),
    ],
)
def test_a_time_limit_that_is_no_number_is_one_line(
    hub_environment: dict[str, str], command: list[str], status: int, error: str
) -> None:
    """Where the Hub is asked, before the model is attacked. Its client reads the environment once in a process."""
    environment = hub_environment | {"HF_HUB_ETAG_TIMEOUT": "soon"}
    words = [sys.executable, "-m", "zoo", *command]
    answer = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert answer.returncode == status
    assert answer.stderr.startswith(error)
    assert answer.stderr.count("\n") == status
