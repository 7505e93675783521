"""What an audit has finished, on disk, so that the same command goes on from there."""

from contextlib import suppress
from pathlib import Path

from smdguard.files import final_name, write_atomically


class PartialResults:
    """One small file for each finished piece of work.

    A file is there whole or not at all, so an audit may be killed at any moment.

    Args:
        folder: For these files alone; there is none until something is finished.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._used: set[str] = set()

    def get(self, key: str, default: bytes) -> bytes:
        """What an audit finished under the key, else the default."""
        self._used.add(key)
        try:
            return (self.folder / key).read_bytes()
        except OSError:
            return default

    def __setitem__(self, key: str, value: bytes) -> None:
        self._used.add(key)
        write_atomically(self.folder / key, value)

    @property
    def is_empty(self) -> bool:
        """Whether no audit has left anything to go on from; hidden files are no results."""
        return not any(self.folder.glob("[!.]*"))

    def discard(self) -> None:
        """Remove what this audit used, and the folder too unless something else is in it.

        Nothing is raised where a file cannot be removed: what the audit found is delivered by then.
        """
        # By name: a hidden file may be anyone's, and a write that is under way another audit's.
        killed_writes = [path.name for path in self.folder.glob(".*") if final_name(path.name) in self._used]
        for name in (*self._used, *killed_writes):
            with suppress(OSError):
                (self.folder / name).unlink(missing_ok=True)
        with suppress(OSError):
            self.folder.rmdir()
