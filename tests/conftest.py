"""A small model that every test may use: three members of LeNet-5 with fresh weights, and the ways to damage a copy."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.utils import close_session
from hypothesis import settings
from safetensors.torch import save

from smdguard import catalogue
from smdguard.attacks import Square
from smdguard.auditing import campaign
from smdguard.auditing.probes import scale_free_attacks
from smdguard.backends.torch import build_ensemble
from smdguard.datasets import DATASETS
from smdguard.ensemble import Ensemble
from smdguard.export import to_onnx
from smdguard.files import sha256
from smdguard.manifest import (
    Architecture,
    EntryTraining,
    File,
    GoldenOutputs,
    Input,
    Manifest,
    ManifestEntry,
    ModelConfig,
    Objective,
    RemoteFile,
    Training,
    parse,
    serialise,
)
from smdguard.model_folder import AUDIT, CARD, CONFIG, ONNX, WEIGHTS
from smdguard.remote import Repository
from tests.hub_server import HubServer, serve

# A busy machine is no bug: examples have no deadline, and are the same in every run.
settings.register_profile("smdguard", deadline=None, derandomize=True)
settings.load_profile("smdguard")

MNIST = DATASETS["mnist"]
ARCHITECTURE = Architecture(name="lenet", num_members=3, num_classes=10)
INPUT = Input(channels=1, height=28, width=28, mean=MNIST.mean, std=MNIST.std)
TRAINING = Training(
    dataset="mnist",
    num_epochs=1,
    seed=0,
    batch_size=128,
    learning_rate=1e-3,
    learning_rate_schedule="constant",
    weight_decay=0.0,
    augmentation=False,
    num_calibration_images=0,
)


TESTS = Path(__file__).parent
# What these run of smdguard, others run as well; and a traced drawing takes two thirds longer, other code a fifth.
UNTRACED = tuple(TESTS / folder for folder in ("conformance", "render", "training", "zoo"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave some tests out of the coverage."""
    for item in items:
        if any(map(item.path.is_relative_to, UNTRACED)):
            item.add_marker("no_cover")


@pytest.fixture(scope="session", autouse=True)
def plain_environment() -> Iterator[None]:
    """What a user has set for other programs changes nothing here."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in os.environ.keys() & {"FORCE_COLOR", "NO_COLOR", "CLICOLOR_FORCE", "MPLBACKEND"}:
            patch.delenv(variable)
        for variable in [name for name in os.environ if name.startswith("HF_")]:
            patch.delenv(variable)
        # The Hub of the tests is on this machine, wherever a proxy leads.
        patch.setenv("NO_PROXY", "127.0.0.1,localhost")
        patch.setenv("no_proxy", "127.0.0.1,localhost")
        yield


@pytest.fixture(scope="session")
def tiny_ensemble() -> Ensemble:
    """Untrained, but with opinions: the last layer is scaled up, so that the members are sure and disagree."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ensemble = build_ensemble(ARCHITECTURE, INPUT)
    with torch.no_grad():
        for member in ensemble.members:
            member.get_parameter("fc3.weight").mul_(30)
    return ensemble.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def tiny_onnx(tiny_ensemble: Ensemble) -> bytes:
    return to_onnx(tiny_ensemble, MNIST.image_shape, MNIST.labels)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory, tiny_ensemble: Ensemble, tiny_onnx: bytes) -> Path:
    """The model as a folder; not to be changed, see tiny_copy."""
    folder = tmp_path_factory.mktemp("models") / "tiny-lenet-mnist"
    folder.mkdir()
    contents = {WEIGHTS: save(tiny_ensemble.state_dict()), ONNX: tiny_onnx}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    config = ModelConfig(
        name=folder.name,
        architecture=ARCHITECTURE,
        input=INPUT,
        labels=MNIST.labels,
        objective=Objective(name="naive"),
        training=TRAINING,
        suspicion=None,
        clean_accuracy=0.1,
        files={name: File(sha256=sha256(content), num_bytes=len(content)) for name, content in contents.items()},
    )
    (folder / CONFIG).write_bytes(serialise(config))
    return folder


@pytest.fixture
def tiny_copy(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of the model to damage."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "copy"))


@pytest.fixture
def short_query(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check on what stands asks for 1,000 queries: most of an audit of few images, and often beside the point."""
    monkeypatch.setattr(campaign, "LONG_QUERY", Square(num_queries=20))


@pytest.fixture
def without_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The audit of a model on which the walk along the boundary fails; on small ones of two classes it seldom does."""
    three_classes = torch.arange(3)
    monkeypatch.setattr(campaign, "scale_free_attacks", lambda _: scale_free_attacks(three_classes))


Edit = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="session")
def edit_config() -> Callable[[Path, Edit], None]:
    """Change the configuration of a model folder, and name the right checksums for the files that are there."""

    def apply(folder: Path, edit: Edit) -> None:
        config = json.loads((folder / CONFIG).read_bytes())
        for name in config["files"]:
            content = (folder / name).read_bytes()
            config["files"][name] = {"sha256": sha256(content), "num_bytes": len(content)}
        edit(config)
        (folder / CONFIG).write_text(json.dumps(config))

    return apply


@pytest.fixture
def tiny_zoo(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A zoo of its own: the real test images, and the tiny model under three names."""
    zoo = tmp_path / "zoo"
    shutil.copytree(catalogue.zoo_folder() / "data", zoo / "data")
    names = ("naive-lenet-mnist", "naive-lenet-mnist-s1", "smd-lenet-mnist-s1")
    for name in names:
        shutil.copytree(tiny_folder, zoo / "models" / name)
    subsets = catalogue.read_manifest().test_subsets
    manifest = Manifest(models=tuple(_entry(zoo / "models" / name) for name in names), test_subsets=subsets)
    (zoo / "manifest.json").write_bytes(serialise(manifest))
    monkeypatch.setattr(catalogue, "zoo_folder", lambda: zoo)
    catalogue.read_manifest.cache_clear()
    yield zoo
    catalogue.read_manifest.cache_clear()


def _entry(folder: Path) -> ManifestEntry:
    content = (folder / CONFIG).read_bytes()
    config = parse(ModelConfig, content, CONFIG)
    weights, onnx = (RemoteFile(file=name, **config.files[name].model_dump()) for name in (WEIGHTS, ONNX))
    return ManifestEntry(
        name=folder.name,
        architecture=config.architecture,
        input=config.input,
        labels=config.labels,
        objective=Objective(name=folder.name.partition("-")[0]),
        training=EntryTraining(
            dataset="mnist",
            num_epochs=1,
            seed=int(folder.name.endswith("-s1")),
            commit=None,
            config_sha256=sha256(content),
        ),
        weights=weights,
        onnx=onnx,
        golden=GoldenOutputs(file="golden.safetensors", sha256="0" * 64, atol=1e-5),
        evaluations=(),
        verdict="fragile",
        license="apache-2.0",
        citation="none",
    )


@pytest.fixture
def hub_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub on loopback, and an empty cache; the Hub's client reads its environment when it is imported."""
    with serve() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache" / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "cache" / "token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        # Else the client begins with a question of its own: what kind of program it runs in.
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        yield server
        close_session()


@pytest.fixture
def hub_environment(tmp_path: Path, hub_server: HubServer) -> dict[str, str]:
    """The same Hub and cache for another process."""
    switches = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return {**os.environ, **switches, "HF_ENDPOINT": hub_server.url, "HF_HOME": str(tmp_path / "cache")}


@pytest.fixture
def distant_model(tiny_zoo: Path, hub_server: HubServer) -> Repository:
    """naive-lenet-mnist is no more in the zoo's folder, but on the Hub, where the manifest pins it."""
    folder = tiny_zoo / "models" / "naive-lenet-mnist"
    (folder / CARD).write_text("---\nlicense: apache-2.0\n---\n# The card\n")
    (folder / AUDIT).write_text("{}")
    commit = hub_server.host("org/naive-lenet-mnist", {file.name: file.read_bytes() for file in folder.iterdir()})
    shutil.rmtree(folder)
    manifest = json.loads((tiny_zoo / "manifest.json").read_bytes())
    for file in ("weights", "onnx"):
        manifest["models"][0][file] |= {"repo": "org/naive-lenet-mnist", "revision": commit}
    (tiny_zoo / "manifest.json").write_text(json.dumps(manifest))
    catalogue.read_manifest.cache_clear()
    return Repository("org/naive-lenet-mnist", commit)
