"""Publish models of the zoo on the Hugging Face Hub: for each a repository, one commit, a tag, and its pin."""

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile

from smdguard.errors import IntegrityError
from smdguard.files import read, sha256
from smdguard.hub import find_model
from smdguard.manifest import ManifestEntry
from smdguard.model_folder import AUDIT, CARD, CONFIG, GOLDEN, ONNX, WEIGHTS
from smdguard.remote import hub_errors
from zoo.entries import replace_in_manifest

FILES = (WEIGHTS, ONNX, GOLDEN, CONFIG, AUDIT, CARD)


class _Head(NamedTuple):
    commit: str
    files: Mapping[str, RepoFile]


def publish_model(entry: ManifestEntry, namespace: str, *, private: bool = False, dry_run: bool = False) -> str:
    """Bring a model's files to the Hub and pin them in the manifest; returns a line that says what was done.

    What was done before is not done again, so a run that was cut may be repeated.

    Args:
        entry: The model.
        namespace: The user or organisation to publish under.
        private: Whether a repository that has to be created is to be private.
        dry_run: Only say what would be done.

    Raises:
        HubError: The Hub cannot be reached.
        UnknownModelError: The token does not allow it.
        IntegrityError: A file is missing.
    """
    repository = f"{namespace}/{entry.name}"
    folder = find_model(entry.name)
    folder.verify()
    contents = {file: read(folder.path / file, error=IntegrityError) for file in FILES}
    with hub_errors(repository):
        api = HfApi()
        head = _read_head(api, repository)
        new = [file for file, content in contents.items() if head is None or not _is_published(content, file, head)]
        if dry_run:
            return f"{repository}: {_describe(head, new)}"
        if head is None:
            api.create_repo(repository, private=private, exist_ok=True)
        commit = _commit(api, repository, head, {file: contents[file] for file in new})
        api.create_tag(repository, tag=_tag(contents, commit), revision=commit, exist_ok=True)
    pinned = entry.published_at(repository, commit)
    if pinned != entry:
        replace_in_manifest(pinned)
    return f"{repository}@{commit}: {f'{len(new)} files sent' if new else 'nothing new'}"


def _read_head(api: HfApi, repository: str) -> _Head | None:
    """The latest commit and its files; None where there is no such repository."""
    try:
        commit = api.model_info(repository).sha
    except RepositoryNotFoundError:
        return None
    if commit is None:
        return None
    tree = api.list_repo_tree(repository, revision=commit)
    return _Head(commit, {item.path: item for item in tree if isinstance(item, RepoFile)})


def _is_published(content: bytes, file: str, head: _Head) -> bool:
    """Large files are known by their SHA-256, the others by the name that git gives them."""
    published = head.files.get(file)
    if published is None:
        return False
    if published.lfs is not None:
        return published.lfs.sha256 == sha256(content)
    return published.blob_id == hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _commit(api: HfApi, repository: str, head: _Head | None, contents: Mapping[str, bytes]) -> str:
    """The commit with those contents: a new one on top of the head, or the head where there are none."""
    if head is not None and not contents:
        return head.commit
    answer = api.create_commit(
        repository,
        [CommitOperationAdd(file, content) for file, content in contents.items()],
        commit_message=f"Publish {', '.join(contents)}",
        parent_commit=head and head.commit,
    )
    return answer.oid


def _tag(contents: Mapping[str, bytes], commit: str) -> str:
    """A name for exactly these contents in that commit, so that a run after a cut one gives the same tag."""
    digest = sha256("".join(sha256(content) for content in contents.values()).encode())
    return f"files-{digest[:12]}-{commit[:8]}"


def _describe(head: _Head | None, new: list[str]) -> str:
    if head is not None and not new:
        return "nothing new"
    return f"{'would be created and ' if head is None else 'would '}get {', '.join(new)}"
