"""Models on the Hub: what is fetched and when, what is kept of it, and what needs a token."""

import json
import os
from pathlib import Path

import pytest
from huggingface_hub import constants

from smdguard import remote
from smdguard.catalogue import list_zoo, read_audit, read_manifest
from smdguard.companions import default_surrogates
from smdguard.errors import HubError, IntegrityError, SmdguardError, UnknownModelError
from smdguard.files import sha256
from smdguard.hub import find_model, pull_model
from smdguard.model_folder import AUDIT, CARD, CONFIG, ONNX, WEIGHTS
from smdguard.remote import Repository
from tests.hub_server import TOKEN, HubServer
from tests.remote.asking import ZOO_NAME, load, pinned, read_all, refusal

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
    assert refusal(pinned(model), HubError).endswith("is not in the cache, and HF_HUB_OFFLINE forbids fetching it")
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
    # Made again since: the model is whole without, and is not fetched once more.
    (distant_model.folder / AUDIT).write_bytes(b"of another manifest")
    hub_server.answers[AUDIT] = lambda handler: handler.send(b"made again")
    hub_server.requests.clear()
    pull_model(ZOO_NAME)
    assert not (distant_model.folder / AUDIT).exists()
    assert {request.path.rpartition("/")[2] for request in hub_server.requests} == {CARD, AUDIT}


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
