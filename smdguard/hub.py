"""Find a model, and check every file of it before it is used."""

import difflib
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from smdguard.errors import IntegrityError, UnknownModelError
from smdguard.files import is_folder, sha256, zoo_folder
from smdguard.manifest import File, Manifest, ManifestEntry, ModelConfig, parse

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
ONNX = "model.onnx"
AUDIT = "audit.json"

Origin = Literal["bundled", "checkout", "folder"]


@dataclass(frozen=True)
class ModelFolder:
    """A model's files; `config` is verified, and so is whatever `read` returns.

    Args:
        name: The zoo name, or the folder as it was given.
        path: Where the files are.
        config: What its config.json says.
        entry: What the manifest says, for a model of the zoo.
    """

    name: str
    path: Path
    config: ModelConfig
    entry: ManifestEntry | None = None

    def has(self, file: str) -> bool:
        """Whether the configuration lists that file."""
        return file in self.config.files

    def read(self, file: str) -> bytes:
        """The content of a file, after its length and SHA-256 were checked.

        Raises:
            IntegrityError: The file is not listed, missing, or not what its checksum names.
        """
        if not self.has(file):
            raise IntegrityError(f"{self.path / CONFIG} lists no file {file}")
        return _read_verified(self.path / file, self.config.files[file], CONFIG)


def zoo_origin() -> Origin:
    """Whether the zoo came with the installed package or is a checkout's."""
    return "bundled" if zoo_folder().name == "_zoo" else "checkout"


@cache
def read_manifest() -> Manifest:
    """The zoo's manifest.

    Raises:
        IntegrityError: It is missing or malformed.
    """
    path = zoo_folder() / "manifest.json"
    return parse(Manifest, _read(path), str(path))


def read_test_subset(dataset: str) -> bytes:
    """The bundled test images of a data set, verified: the content of an .npz file.

    Raises:
        UnknownModelError: None are bundled for that data set.
        IntegrityError: The file is not the one that the manifest names.
    """
    manifest = read_manifest()
    if dataset not in manifest.test_subsets:
        raise UnknownModelError(
            f"no test images of {dataset!r} are bundled, only of {', '.join(manifest.test_subsets)}; "
            "name a folder that holds the data set with --data"
        )
    expected = manifest.test_subsets[dataset]
    return _read_verified(zoo_folder() / "data" / expected.file, expected, "the manifest")


def find_model(model: str) -> ModelFolder:
    """The model that a zoo name or a folder stands for, its configuration verified.

    Args:
        model: A name of the zoo, such as "smd-lenet-mnist", or the path of a model folder.

    Raises:
        UnknownModelError: There is no such model; the message names the nearest ones.
        IntegrityError: Its configuration is missing, malformed, or not the one that the manifest pins.
    """
    manifest = read_manifest()
    entry = manifest.find(model)
    if entry is not None:
        path = zoo_folder() / "models" / model
        if path.is_dir():
            return _open_folder(model, path, entry)
        raise UnknownModelError(f"{model} is in the zoo, but its files are not on this machine")
    if is_folder(model):
        return _open_folder(model, Path(model), None)
    if os.sep in model:
        raise UnknownModelError(f"there is no model folder {model}")
    names = [known.name for known in manifest.models]
    near = difflib.get_close_matches(model, names, n=3, cutoff=0.4) or names
    hint = f"did you mean {' or '.join(near)}? smdguard list shows all" if near else "the zoo is empty"
    raise UnknownModelError(f"there is no model {model!r}; {hint}")


def default_surrogates(config: ModelConfig) -> list[str]:
    """The models at hand to make black-box attacks on a model with: a naive ensemble and one of its own kind.

    Both of another seed: the second for a model of the first, the first for all others.
    """
    kind = f"{config.architecture.name}-{config.training.dataset}"
    seed = "-s1" if config.training.seed == 0 else ""
    names = dict.fromkeys(f"{method}-{kind}{seed}" for method in ("naive", config.objective.name))
    manifest = read_manifest()
    return [name for name in names if manifest.find(name) and (zoo_folder() / "models" / name).is_dir()]


def read_baseline_audit(config: ModelConfig) -> tuple[str, bytes] | None:
    """Name and audit, verified, of the zoo's naive ensemble of a model's architecture and data set.

    None where there is none at hand, or it is that model itself.

    Raises:
        IntegrityError: The audit is missing or not the one that the manifest names.
    """
    name = f"naive-{config.architecture.name}-{config.training.dataset}"
    entry = read_manifest().find(name)
    folder = zoo_folder() / "models" / name
    if name == config.name or entry is None or not entry.evaluations or not folder.is_dir():
        return None
    content = _read(folder / AUDIT)
    if sha256(content) != entry.evaluations[0].report_sha256:
        raise IntegrityError(f"{folder / AUDIT} is not the file that the manifest names; it was changed or damaged")
    return name, content


def list_zoo() -> list[dict[str, Any]]:
    """What is known of every model of the zoo, as a dictionary each."""
    rows = []
    for entry in read_manifest().models:
        worst = next((evaluation for evaluation in entry.evaluations if evaluation.attack == "worst_case"), None)
        here = (zoo_folder() / "models" / entry.name).is_dir()
        rows.append(
            {
                "name": entry.name,
                "dataset": entry.training.dataset,
                "num_members": entry.architecture.num_members,
                "clean_accuracy": worst and worst.clean_accuracy,
                "worst_case_accuracy": worst and worst.robust_accuracy,
                "epsilon": worst and worst.threat.epsilon,
                "verdict": entry.verdict,
                "num_bytes": entry.weights.num_bytes,
                "where": zoo_origin() if here else "hub",
            }
        )
    return rows


def _open_folder(name: str, path: Path, entry: ManifestEntry | None) -> ModelFolder:
    content = _read(path / CONFIG)
    if entry is not None and sha256(content) != entry.training.config_sha256:
        raise IntegrityError(
            f"{path / CONFIG} is not the file that the manifest pins; it was changed or damaged: fetch the model again"
        )
    return ModelFolder(name, path, parse(ModelConfig, content, str(path / CONFIG)), entry)


def _read_verified(path: Path, expected: File, pinned_by: str) -> bytes:
    content = _read(path, limit=expected.num_bytes)
    if len(content) != expected.num_bytes or sha256(content) != expected.sha256:
        raise IntegrityError(
            f"{path} is not the file that {pinned_by} names (its size or SHA-256 differs); "
            "it was changed or damaged: fetch it again"
        )
    return content


def _read(path: Path, limit: int = 2**24) -> bytes:
    """The file's content, but no more than one byte past the limit."""
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise IntegrityError(f"{path} cannot be read: {error.strerror}") from error
