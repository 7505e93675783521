"""What an audit has finished, on disk, so that the same command goes on from there."""

import shutil
from collections.abc import Iterator, MutableMapping
from pathlib import Path

from smdguard.files import write_atomically


class PartialResults(MutableMapping[str, bytes]):
    """One small file for each finished piece of work.

    A file is there whole or not at all, so an audit may be killed at any moment.

    Args:
        folder: For these files alone; there is none until something is finished.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __getitem__(self, key: str) -> bytes:
        try:
            return (self._folder / key).read_bytes()
        except OSError as error:
            raise KeyError(key) from error

    def __setitem__(self, key: str, value: bytes) -> None:
        write_atomically(self._folder / key, value)

    def __delitem__(self, key: str) -> None:
        (self._folder / key).unlink()

    def __iter__(self) -> Iterator[str]:
        return (file.name for file in self._folder.glob("[!.]*"))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def discard(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)
