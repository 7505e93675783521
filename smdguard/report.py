"""What an audit found: data only. Accuracies are fractions."""

import base64
import binascii
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from smdguard.errors import InvalidInputError
from smdguard.threat import ThreatModel

SCHEMA_VERSION = 1
Access = Literal["white-box", "black-box", "member"]
Severity = Literal["high", "medium", "note"]
Verdict = Literal["robust", "fragile", "unreliable"]
# The checks that find a model's answers to be draws.
RANDOM_OUTPUT, DEPENDS_ON_BATCH = "random_output", "depends_on_batch"


@dataclass(frozen=True)
class Interval:
    """An estimated share with its 95 % confidence bounds, all in [0, 1]."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class AttackResult:
    """How many images one attack leaves standing.

    Args:
        name: What tables call the attack.
        repr: Its settings; made on a surrogate or one member it ran to its last step, whatever `early_stop` is there.
        access: "white-box" made on the audited model, "black-box" on a surrogate, "member" on one member.
        source: What it was made on.
        epsilon: Radius it was made for.
        num_attacked: Images it was made on: all, or only those that the white-box attacks before it left standing; for
            one along gradients, those that the ones along gradients did.
        robust_accuracy: Share of all images that are still classified rightly, after it and, where it pursued what
            others left standing, after them.
    """

    name: str
    repr: str
    access: Access
    source: str
    epsilon: float
    num_attacked: int
    robust_accuracy: Interval


@dataclass(frozen=True)
class RobustAccuracy:
    """The share of images that no attack of the audit fooled."""

    robust_accuracy: Interval


@dataclass(frozen=True)
class CurvePoint:
    """The worst case at one radius: over all attacks up to that radius."""

    epsilon: float
    robust_accuracy: Interval


@dataclass(frozen=True)
class TransferMatrix:
    """members[i][j] is member j's accuracy on images made with an attack on member i alone.

    `attack` are the attack's settings, though it ran to its last step whatever `early_stop` is; `name` is its name.
    """

    members: tuple[tuple[float, ...], ...]
    epsilon: float
    attack: str
    name: str

    def __post_init__(self) -> None:
        if not self.members or any(len(row) != len(self.members) for row in self.members):
            raise InvalidInputError("the transfer matrix must have a row and a column for each member")


@dataclass(frozen=True)
class Finding:
    """Something about the audit that its reader must know.

    Args:
        check: Name of the check, such as "gradient_masking".
        severity: "high" where figures are not to be trusted, "medium", or "note".
        message: What was seen, what it means and what to do.
        evidence: The numbers behind it.
    """

    check: str
    severity: Severity
    message: str
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SuspicionUnderAttack:
    """What an attack leaves of the suspicion, the score that is to flag adversarial images.

    Args:
        name: What tables call the attack.
        repr: Its settings.
        robust_accuracy: Share of the images that are still classified rightly.
        flagged: Share of those that are not whose score is above the threshold; None where all are.
        undetected: Share of all images that are classified wrongly and not flagged.
        auroc: Probability that a fooled image has a higher score than a clean one; None where none is fooled.
    """

    name: str
    repr: str
    robust_accuracy: Interval
    flagged: Interval | None
    undetected: Interval
    auroc: float | None


@dataclass(frozen=True)
class SuspicionReport:
    """Does the members' disagreement give adversarial images away?

    Args:
        threshold: Disagreement in nats above which an image is flagged.
        clean_flagged: Share of all clean images that are flagged.
        num_images: How many of them the attacks were made on.
        attacks: One that does not know of the suspicion, then one that does.
    """

    threshold: float
    clean_flagged: Interval
    num_images: int
    attacks: tuple[SuspicionUnderAttack, ...]


@dataclass(frozen=True)
class Impossible:
    """What could not be made on the model, an attack or a picture, and why not."""

    name: str
    reason: str


@dataclass(frozen=True)
class Baseline:
    """The accuracy curve of an undefended model of the same kind, to hold the audited one's against.

    Args:
        name: Its name in the zoo.
        preset: The attacks it was audited with.
        num_images: How many images that was.
        curve: Its worst case at each radius.
    """

    name: str
    preset: str | None
    num_images: int
    curve: tuple[CurvePoint, ...]


@dataclass(frozen=True)
class Picture:
    """Pixels of 8 bits: `pixels` is the base64 text of channels x height x width bytes."""

    channels: int
    height: int
    width: int
    pixels: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return self.channels, self.height, self.width

    def __post_init__(self) -> None:
        try:
            num_bytes = len(base64.b64decode(self.pixels, validate=True))
        except (binascii.Error, ValueError) as error:
            raise InvalidInputError(f"the pixels of a picture are not base64: {error}") from error
        if min(self.shape) < 1 or num_bytes != math.prod(self.shape):
            size = " x ".join(map(str, self.shape))
            raise InvalidInputError(f"a picture of {size} pixels cannot hold {num_bytes} bytes")


@dataclass(frozen=True)
class GalleryImage:
    """An image that the model gets right, and what the attacks made of it; fooled where the two classes differ.

    Args:
        label: True class, which is also the model's class for the clean image.
        clean: The image.
        clean_probability: What the model gives the true class.
        adversarial: The adversarial image or, where none fools, the last attempt.
        adversarial_label: The model's class for that.
        adversarial_probability: What the model gives that class.
        attack: What made it.
        perturbation: What the attack changed, with levels as in SaliencyMaps.
    """

    label: int
    clean: Picture
    clean_probability: float
    adversarial: Picture
    adversarial_label: int
    adversarial_probability: float
    attack: str
    perturbation: Picture

    def __post_init__(self) -> None:
        if self.clean.shape != self.adversarial.shape:
            raise InvalidInputError("an image of the gallery and the adversarial one must be of one size")


@dataclass(frozen=True)
class SaliencyMaps:
    """Where each member looks on one image.

    Args:
        label: True class.
        image: The image.
        maps: For each member the input gradient of the true class's log-odds, summed over the channels; 128 is zero,
            1 and 255 the map's strongest.
        cosines: Cosine of each pair of members' gradients, in the order (0, 1), (0, 2), ..., (1, 2), ...
    """

    label: int
    image: Picture
    maps: tuple[Picture, ...]
    cosines: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.maps:
            raise InvalidInputError("there must be the saliency map of at least one member")
        if len(self.cosines) != math.comb(len(self.maps), 2):
            raise InvalidInputError(f"{len(self.cosines)} cosines cannot be those of {len(self.maps)} members")


@dataclass(frozen=True)
class Disagreement:
    """The members' disagreement in nats, on clean images and on those of them that fool once attacked."""

    clean: tuple[float, ...]
    adversarial: tuple[float, ...]


@dataclass(frozen=True)
class Exhibits:
    """What there is to see beside the numbers; the saliency maps and the disagreement only of ensembles."""

    gallery: tuple[GalleryImage, ...]
    saliency: tuple[SaliencyMaps, ...]
    disagreement: Disagreement | None

    def __post_init__(self) -> None:
        if len({len(shown.maps) for shown in self.saliency}) > 1:
            raise InvalidInputError("the saliency maps must be of the same members on every image")


@dataclass(frozen=True)
class AuditReport:
    """Everything an audit found; see the fields' own types.

    `verdict_reason` says the verdict in one sentence; `transfer` is how PGD carries over between the members, and
    `further_transfers` how other attacks do; `versions` names the software, `device` what it ran on, and `command` how
    it was called from a command line; `seconds` is wall-clock time since the last start; `impossible` are the attacks
    and pictures that the model does not allow; `partial` says that the audit was stopped before all attacks were made;
    `class_names` are in the order of the classes, and empty where nobody knows them.
    """

    model: str
    dataset: str | None
    num_images: int
    threat: ThreatModel
    clean_accuracy: Interval
    attacks: tuple[AttackResult, ...]
    worst_case: RobustAccuracy
    curve: tuple[CurvePoint, ...]
    transfer: TransferMatrix | None
    findings: tuple[Finding, ...]
    verdict: Verdict
    verdict_reason: str
    preset: str | None
    versions: dict[str, str]
    seed: int
    seconds: float
    schema_version: int = SCHEMA_VERSION
    exhibits: Exhibits | None = field(default=None, repr=False)
    baseline: Baseline | None = None
    impossible: tuple[Impossible, ...] = ()
    partial: bool = False
    suspicion: SuspicionReport | None = None
    further_transfers: tuple[TransferMatrix, ...] = ()
    class_names: tuple[str, ...] = ()
    device: str | None = None
    command: str | None = None

    @property
    def whole_curve(self) -> tuple[CurvePoint, ...]:
        """The curve from radius 0 on, where it is the clean accuracy; empty where there is no curve."""
        if not self.curve or self.curve[0].epsilon == 0:
            return self.curve
        return (CurvePoint(0.0, self.clean_accuracy), *self.curve)

    @property
    def is_steady(self) -> bool:
        """Whether an image gets the same answer each time; where it does not, every figure is one draw."""
        return all(finding.check not in (RANDOM_OUTPUT, DEPENDS_ON_BATCH) for finding in self.findings)
