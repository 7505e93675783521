"""Files on disk: where the zoo is, checksums, and writes that are whole or not there at all."""

import hashlib
import os
import tempfile
from pathlib import Path


def zoo_folder() -> Path:
    """Where the zoo is: inside the installed package, or beside it in a checkout."""
    bundled = Path(__file__).parent / "_zoo"
    return bundled if bundled.is_dir() else Path(__file__).parent.parent / "zoo"


def sha256(content: bytes) -> str:
    """SHA-256 of the content in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Put the content at `path` so that whoever reads it, at any moment, finds the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
