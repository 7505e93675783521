"""A model's files in a folder, each checked before it is used."""

from dataclasses import dataclass
from pathlib import Path

from smdguard.errors import IntegrityError
from smdguard.files import MAX_TEXT_BYTES, read, read_start, sha256
from smdguard.manifest import File, ManifestEntry, ModelConfig

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
ONNX = "model.onnx"
GOLDEN = "golden.safetensors"
AUDIT = "audit.json"
CARD = "README.md"


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
        return read_verified(self.path / file, self.config.files[file], CONFIG)

    def verify(self) -> int:
        """Check every file that has a checksum; returns how many bytes those of the model are.

        Raises:
            IntegrityError: A file is missing, or not what its checksum names.
        """
        self.verify_audit()
        return self.verify_files()

    def verify_files(self) -> int:
        """As verify, without the audit, which a model works without."""
        return sum(len(self.read(file)) for file in self.config.files)

    def verify_audit(self) -> None:
        """Check the audit against the manifest's checksum of it, for a model that has one.

        Raises:
            IntegrityError: It is missing, or not the one that the manifest names.
        """
        if self.entry is not None and self.entry.evaluations:
            read_pinned_audit(self.path, self.entry)


def read_pinned_audit(folder: Path, entry: ManifestEntry) -> bytes:
    """The audit beside a model of the zoo.

    Raises:
        IntegrityError: It is missing, or not the one that the manifest names.
    """
    content = read_text(folder / AUDIT)
    if sha256(content) != entry.audit_sha256:
        raise IntegrityError(f"{folder / AUDIT} is not the file that the manifest names; it was changed or damaged")
    return content


def read_verified(path: Path, expected: File, pinned_by: str) -> bytes:
    """The content of a file, after its length and SHA-256 were checked; `pinned_by` says who names them.

    Raises:
        IntegrityError: The file is missing, or not what its checksum names.
    """
    content = read_start(path, expected.num_bytes + 1, error=IntegrityError)
    if len(content) != expected.num_bytes or sha256(content) != expected.sha256:
        raise IntegrityError(
            f"{path} is not the file that {pinned_by} names (its size or SHA-256 differs); "
            "it was changed or damaged: fetch it again"
        )
    return content


def read_text(path: Path) -> bytes:
    """The content of a file that is text.

    Raises:
        IntegrityError: It cannot be read, or has more than `MAX_TEXT_BYTES`.
    """
    return read(path, error=IntegrityError, limit=MAX_TEXT_BYTES)
