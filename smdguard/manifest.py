"""The zoo's schema: a model folder's config.json and the manifest that lists the published models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from smdguard.errors import IntegrityError
from smdguard.files import MAX_TEXT_BYTES, read

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
MAX_NAME_LENGTH = 100
MAX_LENGTH = 4096
"""The longest side, in pixels, of the images that a model may take."""
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=MAX_NAME_LENGTH)]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)]
Record = TypeVar("Record", bound=BaseModel)
WORST_CASE = "worst_case"
Fraction = Annotated[float, Field(ge=0, le=1)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Architecture(_Record):
    """Which network the members are, how many there are, and into how many classes they sort.

    negative_slope is the slope of their rectifiers below zero.
    """

    name: str
    num_members: int = Field(ge=1, le=64)
    num_classes: int = Field(ge=2, le=100_000)
    negative_slope: float = Field(default=0.0, ge=0, lt=1)


class Input(_Record):
    """The images a model takes, in [0, 1], and the normalisation inside it."""

    channels: Literal[1, 3]
    height: int = Field(ge=1, le=MAX_LENGTH)
    width: int = Field(ge=1, le=MAX_LENGTH)
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return self.channels, self.height, self.width

    @model_validator(mode="after")
    def _one_value_a_channel(self) -> Input:
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(f"mean and std must have one value for each of the {self.channels} channels")
        return self


class Objective(_Record):
    """The loss that the members were trained with."""

    name: str
    parameters: dict[str, float | int | str | bool] = {}
    adversarial_training: dict[str, float | int | str | bool] | None = None


Precision = Literal["float32", "bfloat16"]
"""What the members' convolutions and matrix products are computed in while they are trained."""


class Training(_Record):
    """How a model was trained."""

    dataset: str
    num_epochs: int = Field(ge=1)
    seed: int = Field(ge=0)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    learning_rate_schedule: str
    weight_decay: float = Field(ge=0)
    augmentation: bool
    precision: Precision = "float32"
    num_calibration_images: int = Field(ge=0)
    commit: str | None = None


class Suspicion(_Record):
    """The disagreement above which an input looks suspicious, and how it was calibrated.

    threshold is in nats; quantile is the share of clean images at or below it, as estimated on num_images held-out
    ones; test_rate the share of the clean test images above it.
    """

    threshold: float = Field(ge=0)
    quantile: Fraction
    num_images: int = Field(ge=1)
    test_rate: Fraction


class File(_Record):
    """What a file must be."""

    sha256: Sha256
    num_bytes: int = Field(ge=0, le=4 * 2**30)


class ModelConfig(_Record):
    """A model folder's config.json."""

    schema_version: Literal[1] = 1
    name: Name
    architecture: Architecture
    input: Input
    labels: tuple[str, ...]
    objective: Objective
    training: Training
    suspicion: Suspicion | None
    clean_accuracy: Fraction
    files: dict[FileName, File]

    @property
    def suspicion_threshold(self) -> float | None:
        """Disagreement in nats above which an input looks suspicious; None where it was not calibrated."""
        return self.suspicion and self.suspicion.threshold

    @model_validator(mode="after")
    def _one_label_a_class(self) -> ModelConfig:
        if len(self.labels) != self.architecture.num_classes:
            raise ValueError(f"{len(self.labels)} labels for {self.architecture.num_classes} classes")
        return self


class EntryTraining(_Record):
    """How an entry's model was trained; config_sha256 pins the config.json that says the rest."""

    dataset: str
    num_epochs: int = Field(ge=1)
    seed: int = Field(ge=0)
    commit: str | None
    config_sha256: Sha256


class RemoteFile(_Record):
    """A file of an entry: where it is published (revision is null until it is) and what it must be."""

    repo: str | None = None
    revision: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")] | None = None
    file: FileName
    sha256: Sha256
    num_bytes: int = Field(ge=0)


class GoldenOutputs(_Record):
    """Outputs that the model must reproduce to within atol."""

    file: FileName
    sha256: Sha256
    atol: float = Field(gt=0)


class EvaluationThreat(_Record):
    """Norm and radius of an evaluation."""

    norm: Literal["linf", "l2"]
    epsilon: float = Field(ge=0)


class Evaluation(_Record):
    """One figure of the entry's audit; attack "worst_case" is the per-image worst over all that were run.

    `num_attacked` is how many images an attack was made on where others before it had left no more standing; its figure
    is then what stands after all of them.
    """

    threat: EvaluationThreat
    attack: str
    num_images: int = Field(ge=1)
    num_attacked: int | None = Field(default=None, ge=1)
    seed: int
    clean_accuracy: Fraction
    robust_accuracy: Fraction
    report_sha256: Sha256
    versions: dict[str, str]


class ManifestEntry(_Record):
    """One model of the zoo."""

    schema_version: Literal[1] = 1
    name: Name
    architecture: Architecture
    input: Input
    labels: tuple[str, ...]
    objective: Objective
    training: EntryTraining
    weights: RemoteFile
    onnx: RemoteFile | None
    golden: GoldenOutputs
    evaluations: tuple[Evaluation, ...]
    verdict: Literal["robust", "fragile", "unreliable"]
    license: str
    citation: str

    @property
    def worst_case(self) -> Evaluation | None:
        """The worst case at the audit's radius; None where the model was not audited."""
        return next((evaluation for evaluation in self.evaluations if evaluation.attack == WORST_CASE), None)

    @property
    def audit_sha256(self) -> str | None:
        """Of the audit that the evaluations come from; None where the model was not audited."""
        return self.evaluations[0].report_sha256 if self.evaluations else None

    @property
    def curve(self) -> list[Evaluation]:
        """The worst case at each radius of the audit, from the smallest on."""
        worst_cases = (evaluation for evaluation in self.evaluations if evaluation.attack == WORST_CASE)
        return sorted(worst_cases, key=lambda evaluation: evaluation.threat.epsilon)

    def published_at(self, repo: str | None, revision: str | None) -> ManifestEntry:
        """The entry with another place on the Hub for its files.

        Args:
            repo: The repository, as org/name; None for both where the files are only on this machine.
            revision: The commit.
        """
        place = {"repo": repo, "revision": revision}
        files = {"weights": self.weights, "onnx": self.onnx}
        return self.model_copy(update={key: file and file.model_copy(update=place) for key, file in files.items()})


class TestSubset(File):
    """Bundled test images of a data set, an .npz file in the zoo's data folder."""

    __test__ = False  # Not a test, whatever pytest thinks of the name.
    file: FileName
    num_images: int = Field(ge=1)


class Manifest(_Record):
    """The zoo's manifest.json."""

    schema_version: Literal[1] = 1
    models: tuple[ManifestEntry, ...] = ()
    test_subsets: dict[str, TestSubset] = {}

    def find(self, name: str) -> ManifestEntry | None:
        """The entry of that name, if there is one."""
        return next((entry for entry in self.models if entry.name == name), None)


def parse(record: type[Record], content: bytes, source: str, *, hint: str = "") -> Record:
    """Read a record from JSON.

    Args:
        record: Which record.
        content: The JSON text.
        source: What errors call the text, such as its path.
        hint: What the message ends with.

    Raises:
        IntegrityError: The text is not such a record; the message names the source and the first field at fault.
    """
    try:
        return record.model_validate_json(content)
    except ValidationError as error:
        raise IntegrityError(f"{source} is not a valid {record.__name__}: {first_fault(error)}{hint}") from error


def read_record(record: type[Record], path: Path) -> Record:
    """Read a record from a file.

    Raises:
        IntegrityError: The file cannot be read, has more than `MAX_TEXT_BYTES`, or holds no such record.
    """
    return parse(record, read(path, error=IntegrityError, limit=MAX_TEXT_BYTES), str(path))


def first_fault(error: ValidationError) -> str:
    """Where the first thing is that was refused, and why."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the whole file"
    return f"{where}: {first['msg']}"


def serialise(record: BaseModel) -> bytes:
    """The record as indented JSON with a final newline; equal records give equal bytes."""
    content: Any = record.model_dump(mode="json")
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
