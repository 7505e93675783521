"""Models on the Hub: which names they have, and which commits a revision that can change stands for."""

import os
import re
import warnings
from pathlib import Path

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import validate_repo_id

import smdguard as sg
from smdguard import remote
from smdguard.errors import HubError, IntegrityError, UnknownModelError, UnpinnedRevisionWarning
from smdguard.hub import find_model
from smdguard.model_folder import CONFIG
from smdguard.remote import Repository, parse_id
from tests.hub_server import HubServer
from tests.remote.asking import load, pinned, read_all, refusal

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
def test_a_damaged_reference_is_one_line(model: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    load("org/tiny")
    (model.folder.parents[1] / "refs" / "main").write_bytes(b"\xff\xfe")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert refusal("org/tiny", IntegrityError).endswith(" is not a commit of org/tiny")
