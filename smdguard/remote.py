"""Repositories of the Hugging Face Hub: what of a model is in the Hub's cache, and how the rest gets there.

The Hub's client knows the endpoint, the token and the cache, and does the talking. Its own download stays unused: on a
dead network it retries for 23 seconds, and it keeps whatever a server sends, however long and of whatever content.
"""

import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from smdguard.errors import HubError, IntegrityError, SmdguardError, UnknownModelError
from smdguard.files import is_file, read, sha256, write_atomically

Answer = TypeVar("Answer")

_COMMIT = re.compile(r"[0-9a-f]{40}")
# What the Hub's client refuses is no id: it would say so in the middle of a download.
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
_NAME = rf"(?![^@]*--)(?![^@]*\.git(?:@|$)){_PART}/{_PART}"
_ID = re.compile(rf"(?!.*\.\.)({_NAME})(?:@([A-Za-z0-9][A-Za-z0-9_./-]{{0,254}}))?")
# What the user sets for the Hub's client holds here too; else a dead network is to show within five seconds.
_ETAG_TIMEOUT, _DOWNLOAD_TIMEOUT = "HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"
_ANSWER_SECONDS = 3.5
_STALL_SECONDS = 10.0
_SLOWEST_BYTES_PER_SECOND = 10_000


class MissingFileError(IntegrityError):
    """A repository does not hold a file."""


@dataclass(frozen=True)
class Repository:
    """A repository of the Hub at one commit.

    Args:
        name: Organisation and repository, as in "org/repo".
        commit: 40 hexadecimal digits.
    """

    name: str
    commit: str

    @property
    def folder(self) -> Path:
        """Where the Hub's client keeps the files of that commit."""
        return _cache_folder(self.name) / "snapshots" / self.commit

    def has(self, file: str) -> bool:
        """Whether the file is in the cache."""
        return is_file(self.folder / file)

    def fetch(
        self, file: str, *, max_bytes: int, digest: str | None = None, check: Callable[[bytes], object] | None = None
    ) -> None:
        """Bring a file into the cache, whole and checked or not at all.

        Args:
            file: Its name.
            max_bytes: More is refused.
            digest: Its SHA-256, where it is known.
            check: Raises where the content is not to be kept.

        Raises:
            HubError: The Hub cannot be reached, or is not to be asked.
            UnknownModelError: There is no such repository or commit, or it is private.
            MissingFileError: The file is not there.
            IntegrityError: It is too long, or not what its checksum names.
        """
        content = _download(self, file, max_bytes)
        if digest is not None and sha256(content) != digest:
            raise IntegrityError(f"what the Hub sent as {file} of {self.name} is not the file that its SHA-256 names")
        if check is not None:
            check(content)
        write_atomically(self.folder / file, content)


def parse_id(model: str) -> tuple[str, str] | None:
    """Repository and revision of a Hub id, `org/repo` or `org/repo@revision`; None for anything else."""
    match = _ID.fullmatch(model)
    return None if match is None else (match[1], match[2] or "main")


def is_commit(revision: str) -> bool:
    """Whether a revision is a commit, which cannot change; a branch or tag can."""
    return _COMMIT.fullmatch(revision) is not None


def resolve(repository: str, revision: str, file: str) -> tuple[Repository, bool]:
    """The repository at the commit that a branch or tag stands for, and whether the Hub just said so.

    Where the Hub cannot be reached, that is the commit it stood for when it was last asked.

    Args:
        repository: Organisation and repository.
        revision: The branch or tag.
        file: A file that the repository must hold.

    Raises:
        HubError: The Hub cannot be reached, or is not to be asked.
        UnknownModelError: There is no such repository or revision, or it is private.
        MissingFileError: The repository does not hold the file.
        IntegrityError: What the Hub names is no commit.
    """
    reference = _cache_folder(repository) / "refs" / revision
    seconds = _patience(_ETAG_TIMEOUT, _ANSWER_SECONDS)
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:
        answer = _ask(
            f"{file} of {repository}@{revision}",
            lambda: get_hf_file_metadata(hf_hub_url(repository, file, revision=revision), timeout=seconds),
            seconds,
        )
    except HubError:
        if not is_file(reference):
            raise
        return _at(repository, read(reference, error=HubError).decode(errors="replace")), False
    found = _at(repository, answer.commit_hash or "")
    _remember(reference, found.commit.encode())
    return found, True


def _remember(reference: Path, commit: bytes) -> None:
    """Note what a branch or tag stands for, where that is news; a cache that cannot be written does without."""
    with suppress(SmdguardError):
        if not is_file(reference) or read(reference) != commit:
            write_atomically(reference, commit)


@contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """Turns whatever the Hub's client raises into one line about what was asked for."""
    try:
        yield
    except SmdguardError:
        raise
    except Exception as error:  # The client passes on the errors of its HTTP library, which differs between versions.
        raise _explain(error, what) from error


def _explain(error: Exception, what: str) -> SmdguardError:
    from huggingface_hub import constants
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return HubError(f"{what} is not in the cache, and HF_HUB_OFFLINE forbids fetching it")
    if isinstance(error, EntryNotFoundError):
        return MissingFileError(f"{constants.ENDPOINT} has no {what}")
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if status in (401, 403, 404):
            return UnknownModelError(
                f"{constants.ENDPOINT} has no {what}, or the token in HF_TOKEN gives no access to it (status {status})"
            )
        return HubError(f"{constants.ENDPOINT} failed to answer for {what} (status {status}); try again later")
    reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
    remedy = "check the network"
    if "Timeout" in type(error).__name__:
        remedy += f", or set {_ETAG_TIMEOUT} and {_DOWNLOAD_TIMEOUT} to more seconds"
    return HubError(f"{constants.ENDPOINT} cannot be asked for {what}: {reason}; {remedy}")


def _patience(variable: str, default: float) -> float:
    """How many seconds to wait: as many as the user has set, which the Hub's client has read."""
    return getattr(hub_settings(), variable) if variable in os.environ else default


def _ask(
    what: str,
    question: Callable[[], Answer],
    seconds: float,
    *,
    discard: Callable[[Answer], object] = lambda late: None,
) -> Answer:
    """Ask the Hub, in a thread that is left behind when the answer takes too long; one that comes late is discarded.

    The client's timeouts hold for one step each, and there may be many: looking up the host, trying each of its
    addresses, a header that comes byte by byte.
    """
    answer: Future[Answer] = Future()

    def run() -> None:
        try:
            answer.set_result(question())
        except Exception as error:
            answer.set_exception(error)

    Thread(target=run, daemon=True).start()
    with hub_errors(what):
        try:
            return answer.result(timeout=seconds)
        except TimeoutError as error:
            answer.add_done_callback(lambda late: late.exception() or discard(late.result()))
            raise TimeoutError(f"no answer within {seconds:g} seconds") from error


def _download(source: Repository, file: str, max_bytes: int) -> bytes:
    from huggingface_hub import hf_hub_url

    what = f"{file} of {source.name}@{source.commit}"
    stall_seconds = _patience(_DOWNLOAD_TIMEOUT, _STALL_SECONDS)
    response = _ask(
        what,
        lambda: _open(hf_hub_url(source.name, file, revision=source.commit), stall_seconds),
        _patience(_DOWNLOAD_TIMEOUT, _ANSWER_SECONDS),
        discard=lambda late: late.close(),
    )
    deadline = time.monotonic() + stall_seconds + max_bytes / _SLOWEST_BYTES_PER_SECOND
    content = bytearray()
    with closing(response), hub_errors(what):
        declared = response.headers.get("Content-Length", "")
        if declared.isdecimal() and int(declared) > max_bytes:
            raise IntegrityError(f"{what} has {int(declared):,} bytes, more than the {max_bytes:,} it may have")
        for chunk in response.iter_raw():
            content += chunk
            if len(content) > max_bytes:
                raise IntegrityError(f"{what} is longer than the {max_bytes:,} bytes it may have")
            if time.monotonic() > deadline:
                raise TimeoutError("it comes too slowly")
    return bytes(content)


def _open(url: str, timeout: float) -> Any:
    """The answer to a request, its body still to be read; a redirect to another host is followed without the token.

    Args:
        url: What is asked for.
        timeout: Of each step, in seconds.
    """
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    headers = build_hf_headers(library_name="smdguard") | {"Accept-Encoding": "identity"}
    session = get_session()
    response = session.send(session.build_request("GET", url, headers=headers, timeout=timeout), stream=True)
    hf_raise_for_status(response)
    return response


def _at(repository: str, commit: str) -> Repository:
    """The commit becomes the name of a folder, so it has to be one."""
    if not is_commit(commit):
        raise IntegrityError(f"{commit[:50]!r} is not a commit of {repository}")
    return Repository(repository, commit)


def _cache_folder(repository: str) -> Path:
    return Path(hub_settings().HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"


def hub_settings() -> Any:
    """What the Hub's client has read from the environment.

    Call this before importing anything else from huggingface_hub, which would fail with an error of its own.

    Raises:
        HubError: A variable has a value that it does not take.
    """
    try:
        from huggingface_hub import constants
    except ValueError as error:
        raise HubError(f"a variable HF_... of the environment has a value that is refused: {error}") from error
    return constants
