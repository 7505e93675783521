"""Find a model by the name it is given, in the zoo, in a folder or on the Hub."""

import difflib
import os
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from smdguard.catalogue import read_manifest, source_of
from smdguard.errors import HubError, IntegrityError, SmdguardError, UnknownModelError, UnpinnedRevisionWarning
from smdguard.files import MAX_TEXT_BYTES, is_file, is_folder, sha256
from smdguard.manifest import ManifestEntry, ModelConfig, parse
from smdguard.model_folder import AUDIT, CARD, CONFIG, GOLDEN, ONNX, WEIGHTS, ModelFolder, read_text
from smdguard.remote import MissingFileError, Repository, is_commit, parse_id, resolve

_MAX_MODEL_BYTES = 2**30
_ONLY_OURS = "; from the Hub only models made with smdguard can be loaded, audit others as package.module:factory"


@dataclass(frozen=True)
class _Place:
    """Where a model is: in a folder, or in a repository of the Hub and perhaps in its cache."""

    name: str
    source: Path | Repository
    entry: ManifestEntry | None

    @property
    def path(self) -> Path:
        return self.source.folder if isinstance(self.source, Repository) else self.source


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
    """As find_model, but with its files verified; what is damaged in the Hub's cache is fetched again.

    The Hub's audit may be another than the manifest's, made again since the model was published; then none is kept.
    """
    place = _locate(model)
    try:
        folder = _open(place)
        folder.verify_files()
    except IntegrityError:
        if not isinstance(place.source, Repository):
            raise
        folder = _open(place, anew=True)
        folder.verify_files()
    try:
        folder.verify_audit()
    except IntegrityError:
        if not isinstance(place.source, Repository):
            raise
        with suppress(SmdguardError, OSError):  # In a cache that cannot be written it stays.
            (folder.path / AUDIT).unlink(missing_ok=True)
            _fetch_papers(place.source, place.entry)
    return folder


def find_config(model: str) -> ModelConfig:
    """The configuration of a model; see find_model. Of one that is on the Hub only, nothing else is fetched."""
    return _configured(_locate(model)).config


def read_card(model: str) -> str | ModelConfig:
    """The model card, in Markdown, or the configuration of a model that has none: a training leaves none.

    Of a model that is on the Hub only, nothing else is fetched.

    Raises:
        UnknownModelError: There is no such model.
        IntegrityError: The card cannot be read, or without one the configuration.
        HubError: It is not here, and the Hub cannot be reached.
    """
    place = _locate(model)
    source = place.source
    if isinstance(source, Repository) and not source.has(CARD):
        try:
            source.fetch(CARD, max_bytes=MAX_TEXT_BYTES)
        except MissingFileError:
            pass
        except HubError:  # The cache may be all there is to know.
            if not source.has(CONFIG):
                raise
    if is_file(place.path / CARD):
        return read_text(place.path / CARD).decode(errors="replace")
    return _configured(place).config


def _locate(model: str | Path) -> _Place:
    if isinstance(model, Path):
        if not is_folder(model):
            raise UnknownModelError(f"there is no model folder {model}")
        return _Place(str(model), model, None)
    manifest = read_manifest()
    entry = manifest.find(model)
    if entry is not None:
        source = source_of(entry)
        if source is None:
            raise UnknownModelError(f"{model} is in the zoo, but its files are neither on this machine nor on the Hub")
        return _Place(model, source, entry)
    if is_folder(model):
        return _Place(model, Path(model), None)
    if is_file(model):
        raise UnknownModelError(
            f"{model} is a file; name the folder of a model, or for smdguard audit a FILE.onnx or, as "
            "package.module:function, a function of yours that returns a PyTorch model"
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


def _pin(repository: str, revision: str) -> Repository:
    if is_commit(revision):
        return Repository(repository, revision)
    pinned, is_current = resolve(repository, revision, CONFIG)
    stands = "stands for today" if is_current else "stood for when the Hub could last be asked"
    warnings.warn(
        f"{repository}@{revision} may stand for other files tomorrow; what it {stands} is {repository}@{pinned.commit}",
        UnpinnedRevisionWarning,
        stacklevel=5,  # Whoever calls load.
    )
    return pinned


def _open(place: _Place, *, anew: bool = False) -> ModelFolder:
    """The model's folder, after what the Hub's cache lacks was fetched, or with `anew` everything."""
    folder = _configured(place, anew=anew)
    if isinstance(place.source, Repository):
        _complete(folder, place.source, anew)
    return folder


def _configured(place: _Place, *, anew: bool = False) -> ModelFolder:
    """The model's folder, with its configuration and whatever else is there."""
    source = place.source
    if isinstance(source, Repository) and (anew or not source.has(CONFIG)):
        pinned = place.entry and place.entry.training.config_sha256
        what = f"{CONFIG} of {source.name}@{source.commit}"
        source.fetch(
            CONFIG,
            max_bytes=MAX_TEXT_BYTES,
            digest=pinned,
            check=lambda content: parse(ModelConfig, content, what, hint=_ONLY_OURS),
        )
    path = place.path / CONFIG
    if isinstance(source, Path) and place.entry is None and not is_file(path):
        raise IntegrityError(
            f"{source} is not a finished model, it has no {CONFIG}; name the folder of one, or if a training was "
            "stopped there, go on with its command and --resume"
        )
    content = read_text(path)
    if place.entry is not None and sha256(content) != place.entry.training.config_sha256:
        raise IntegrityError(
            f"{path} is not the file that the manifest pins; it was changed or damaged: fetch the model again"
        )
    return ModelFolder(place.name, place.path, parse(ModelConfig, content, str(path)), place.entry)


def _complete(folder: ModelFolder, source: Repository, anew: bool) -> None:
    """Fetch the files that the configuration lists, those that the Hub's cache lacks or with `anew` all."""
    files = folder.config.files
    missing = [file for file in files if anew or not source.has(file)]
    if not missing:
        return
    strangers = sorted(files.keys() - {WEIGHTS, ONNX, GOLDEN})
    if strangers:
        raise IntegrityError(f"{source.name} lists {strangers[0]}, which is not a file of a model")
    num_bytes = sum(file.num_bytes for file in files.values())
    if num_bytes > _MAX_MODEL_BYTES:
        raise IntegrityError(f"{source.name} has {num_bytes:,} bytes; a model may have {_MAX_MODEL_BYTES:,}")
    with suppress(SmdguardError):  # They are for people to read; a model works without.
        _fetch_papers(source, folder.entry)
    for file in missing:
        source.fetch(file, max_bytes=files[file].num_bytes, digest=files[file].sha256)


def _fetch_papers(source: Repository, entry: ManifestEntry | None) -> None:
    """Fetch the card and the audit, where the repository has them; a Hub that does not answer is not asked again."""
    for file, digest in ((CARD, None), (AUDIT, entry and entry.audit_sha256)):
        with suppress(IntegrityError, UnknownModelError):
            source.fetch(file, max_bytes=MAX_TEXT_BYTES, digest=digest)
