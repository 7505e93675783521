"""Find a model, and check every file of it before it is used."""

import difflib
import os
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from smdguard.errors import IntegrityError, UnknownModelError, UnpinnedRevisionWarning
from smdguard.files import is_file, is_folder, read, sha256, zoo_folder
from smdguard.manifest import File, Manifest, ManifestEntry, ModelConfig, parse
from smdguard.remote import Repository, is_commit, parse_id, resolve

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
ONNX = "model.onnx"
GOLDEN = "golden.safetensors"
AUDIT = "audit.json"
CARD = "README.md"

_MAX_TEXT_BYTES = 2**24
_MAX_MODEL_BYTES = 2**30

Origin = Literal["bundled", "checkout", "cached", "hub"]


@dataclass(frozen=True)
class ModelFolder:
    """A model's files; `config` is verified, and so is whatever `read` returns.

    Args:
        name: The zoo name, the Hub id or the folder, as it was given.
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

    def verify(self) -> int:
        """Check every file that has a checksum; returns how many bytes those of the model are.

        Raises:
            IntegrityError: A file is missing, or not what its checksum names.
        """
        if self.entry is not None and self.entry.evaluations:
            _read_audit(self.path, self.entry)
        return sum(len(self.read(file)) for file in self.config.files)


@dataclass(frozen=True)
class _Place:
    """Where a model is: in a folder, or in a repository of the Hub and perhaps in its cache."""

    name: str
    source: Path | Repository
    entry: ManifestEntry | None

    @property
    def path(self) -> Path:
        return self.source.folder if isinstance(self.source, Repository) else self.source


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


def find_model(model: str | Path) -> ModelFolder:
    """The model that a name stands for, its configuration verified; fetched from the Hub where it is not here yet.

    Args:
        model: A name of the zoo, such as "smd-lenet-mnist", the path of a model folder, or "org/repo@revision" on the
            Hugging Face Hub; a Path is always a folder.

    Raises:
        UnknownModelError: There is no such model; the message names the nearest ones.
        IntegrityError: Its configuration is missing, malformed, or not the one that the manifest pins.
        HubError: It is not here, and the Hub cannot be reached.
    """
    return _open(_locate(model))


def pull_model(model: str) -> ModelFolder:
    """As find_model, but with every file verified; what is damaged in the Hub's cache is fetched again."""
    place = _locate(model)
    try:
        folder = _open(place)
        folder.verify()
    except IntegrityError:
        if not isinstance(place.source, Repository):
            raise
        folder = _open(place, anew=True)
        folder.verify()
    return folder


def read_card(model: str) -> str:
    """The model card, in Markdown; of a model that is on the Hub only, nothing else is fetched.

    Raises:
        UnknownModelError: There is no such model.
        IntegrityError: It has no card.
        HubError: It is not here, and the Hub cannot be reached.
    """
    place = _locate(model)
    if isinstance(place.source, Repository) and not place.source.has(CARD):
        place.source.fetch(CARD, max_bytes=_MAX_TEXT_BYTES)
    return _read(place.path / CARD).decode(errors="replace")


def _locate(model: str | Path) -> _Place:
    if isinstance(model, Path):
        if not is_folder(model):
            raise UnknownModelError(f"there is no model folder {model}")
        return _Place(str(model), model, None)
    manifest = read_manifest()
    entry = manifest.find(model)
    if entry is not None:
        path = zoo_folder() / "models" / model
        source = path if path.is_dir() else _publication(entry)
        if source is None:
            raise UnknownModelError(f"{model} is in the zoo, but its files are not on this machine nor on the Hub")
        return _Place(model, source, entry)
    if is_folder(model):
        return _Place(model, Path(model), None)
    if is_file(model):
        raise UnknownModelError(
            f"{model} is a file; name the folder of a model, or audit the file with smdguard audit --model FILE.onnx"
        )
    identity = parse_id(model)
    if identity is not None and "@" not in model and is_folder(Path(model).parent):
        raise UnknownModelError(f"there is no model folder {model}; for a model on the Hub name its revision as well")
    if identity is not None:
        return _Place(model, _pin(*identity), None)
    if os.sep in model:
        raise UnknownModelError(f"there is no model folder {model}")
    names = [known.name for known in manifest.models]
    near = difflib.get_close_matches(model, names, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise UnknownModelError(f"there is no model {model!r}; {hint}smdguard list shows all")


def _publication(entry: ManifestEntry) -> Repository | None:
    """Where the manifest says that the model is published; the files of a model are published together."""
    weights = entry.weights
    return Repository(weights.repo, weights.revision) if weights.repo and weights.revision else None


def _pin(repository: str, revision: str) -> Repository:
    if is_commit(revision):
        return Repository(repository, revision)
    pinned = resolve(repository, revision, CONFIG)
    warnings.warn(
        f"{repository}@{revision} may stand for other files tomorrow; what it stands for today is "
        f"{repository}@{pinned.commit}",
        UnpinnedRevisionWarning,
        stacklevel=5,  # Whoever calls load.
    )
    return pinned


def is_at_hand(entry: ManifestEntry) -> bool:
    """Whether the model's files are on this machine."""
    return _origin(entry) != "hub"


def read_audit(entry: ManifestEntry) -> bytes | None:
    """The audit of a model of the zoo, verified; None where it was not audited or the audit is not on this machine.

    Raises:
        IntegrityError: It is not the one that the manifest names.
    """
    folder = _locate(entry.name).path
    return _read_audit(folder, entry) if entry.evaluations and (folder / AUDIT).exists() else None


def list_zoo() -> list[dict[str, Any]]:
    """What is known of every model of the zoo, as a dictionary each."""
    rows = []
    for entry in read_manifest().models:
        worst = entry.worst_case
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
                "where": _origin(entry),
            }
        )
    return rows


def _origin(entry: ManifestEntry) -> Origin:
    """Where the model's files are: with the installed package, in a checkout, in the Hub's cache, or not here."""
    zoo = zoo_folder()
    if (zoo / "models" / entry.name).is_dir():
        return "bundled" if zoo.name == "_zoo" else "checkout"
    source = _publication(entry)
    files = [CONFIG, WEIGHTS, *([ONNX] if entry.onnx else [])]
    return "cached" if source is not None and all(map(source.has, files)) else "hub"


def _open(place: _Place, *, anew: bool = False) -> ModelFolder:
    """The model's folder, after what the Hub's cache lacks was fetched, or with `anew` everything."""
    source = place.source
    if isinstance(source, Repository) and (anew or not source.has(CONFIG)):
        pinned = place.entry and place.entry.training.config_sha256
        source.fetch(CONFIG, max_bytes=_MAX_TEXT_BYTES, digest=pinned)
    path = place.path / CONFIG
    content = _read(path)
    if place.entry is not None and sha256(content) != place.entry.training.config_sha256:
        raise IntegrityError(
            f"{path} is not the file that the manifest pins; it was changed or damaged: fetch the model again"
        )
    folder = ModelFolder(place.name, place.path, parse(ModelConfig, content, str(path)), place.entry)
    if isinstance(source, Repository):
        _complete(folder, source, anew)
    return folder


def _complete(folder: ModelFolder, source: Repository, anew: bool) -> None:
    """Fetch the files that the configuration lists, those that the Hub's cache lacks or with `anew` all."""
    files = folder.config.files
    missing = [file for file in files if anew or not source.has(file)]
    if not missing:
        return
    strangers = sorted(files.keys() - {WEIGHTS, ONNX, GOLDEN})
    if strangers:
        raise IntegrityError(f"{source.name} lists {strangers[0]}, which is no file of a model")
    num_bytes = sum(file.num_bytes for file in files.values())
    if num_bytes > _MAX_MODEL_BYTES:
        raise IntegrityError(f"{source.name} has {num_bytes:,} bytes; a model may have {_MAX_MODEL_BYTES:,}")
    for file in (CARD, AUDIT):
        with suppress(IntegrityError):  # They are for people to read; a model works without.
            source.fetch(file, max_bytes=_MAX_TEXT_BYTES)
    for file in missing:
        source.fetch(file, max_bytes=files[file].num_bytes, digest=files[file].sha256)


def _read_audit(folder: Path, entry: ManifestEntry) -> bytes:
    content = _read(folder / AUDIT)
    if sha256(content) != entry.evaluations[0].report_sha256:
        raise IntegrityError(f"{folder / AUDIT} is not the file that the manifest names; it was changed or damaged")
    return content


def _read_verified(path: Path, expected: File, pinned_by: str) -> bytes:
    content = _read(path, limit=expected.num_bytes)
    if len(content) != expected.num_bytes or sha256(content) != expected.sha256:
        raise IntegrityError(
            f"{path} is not the file that {pinned_by} names (its size or SHA-256 differs); "
            "it was changed or damaged: fetch it again"
        )
    return content


def _read(path: Path, limit: int = _MAX_TEXT_BYTES) -> bytes:
    return read(path, error=IntegrityError, limit=limit)
