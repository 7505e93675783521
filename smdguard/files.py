"""Files on disk: where the zoo is, checksums, and writes that are whole or not there at all."""

import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from smdguard.errors import SmdguardError

MAX_TEXT_BYTES = 2**24
"""Of JSON and Markdown."""
MAX_IMAGE_BYTES = 100_000_000
_PART_BYTES = 2**20
_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{16}", re.DOTALL)


def zoo_folder() -> Path:
    """Where the zoo is: inside the installed package, or beside it in a checkout."""
    bundled = Path(__file__).parent / "_zoo"
    return bundled if bundled.is_dir() else Path(__file__).parent.parent / "zoo"


def is_folder(path: str | Path) -> bool:
    """Whether a folder of that name is known to be there; where the system will not tell, there is none.

    It does not where no file can have the name, such as a too long one, or where the folder around may not be entered.
    """
    try:
        return Path(path).is_dir()
    except OSError:
        return False


def is_file(path: str | Path) -> bool:
    """Whether there is a file of that name; see is_folder."""
    try:
        return Path(path).is_file()
    except OSError:
        return False


def sha256(content: bytes) -> str:
    """SHA-256 of the content in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def read(path: Path, *, error: type[SmdguardError] = SmdguardError, limit: int | None = None, hint: str = "") -> bytes:
    """The content of a file.

    Args:
        path: The file.
        error: What to raise.
        limit: How many bytes it may have, for a file from someone else; without one all is read.
        hint: What the message ends with when the file cannot be read.

    Raises:
        SmdguardError: The file cannot be read, or has more bytes than the limit.
    """
    content = read_start(path, None if limit is None else limit + 1, error=error, hint=hint)
    if limit is not None and len(content) > limit:
        raise error(f"{path} has more than {limit:,} bytes, which is the limit")
    return content


def read_start(
    path: Path, num_bytes: int | None, *, error: type[SmdguardError] = SmdguardError, hint: str = ""
) -> bytes:
    """The first bytes of a file, or with None all; see read.

    Raises:
        SmdguardError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read() if num_bytes is None else _first_bytes(file, num_bytes)
    except (OSError, ValueError, MemoryError) as failure:  # A zero byte in the name is a ValueError.
        reason = getattr(failure, "strerror", None) or str(failure) or "there is not enough memory"
        raise error(f"{path} cannot be read: {reason}{hint}") from failure


def _first_bytes(file: BinaryIO, num_bytes: int) -> bytes:
    """In parts: for a single one Python would set all the memory aside, however small the file is."""
    content = BytesIO()
    while part := file.read(min(_PART_BYTES, num_bytes - content.tell())):
        content.write(part)
    return content.getvalue()


def write_atomically(path: Path, content: bytes) -> None:
    """Put the content at `path` so that whoever reads it, at any moment, finds the old file or the whole new one.

    A link is replaced: in a folder from someone else it may lead to any file of whoever writes.

    Raises:
        SmdguardError: The file cannot be written.
    """
    with named_errors(path):
        _replace(path, content)


def write_where_named(path: Path, content: bytes) -> None:
    """As write_atomically, for a path that the user chose: what a link, a pipe or a device leads to is written.

    Raises:
        SmdguardError: The file cannot be written.
    """
    with named_errors(path):
        if path.exists() and not path.is_file():
            path.write_bytes(content)
        else:
            _replace(Path(os.path.realpath(path)), content)


def final_name(temporary: str) -> str | None:
    """What a file that a killed write has left was to be called; None where it was none of ours that left it."""
    match = _TEMPORARY.fullmatch(temporary)
    return match and match[1]


def _replace(place: Path, content: bytes) -> None:
    """A file that is there hands on its permissions, a new one has those that the system gives."""
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f".{place.name}.{secrets.token_hex(8)}")  # As final_name reads it.
    try:
        with temporary.open("xb") as file:
            if is_file(place) and not place.is_symlink():
                temporary.chmod(stat.S_IMODE(place.stat().st_mode))
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(place)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Turn what the system says of a file or folder that is written into one clear line.

    Raises:
        SmdguardError: It cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise SmdguardError(f"{path} cannot be written: {error.strerror or error}") from error
