"""Make attacks shard by shard: repeatable, resumable, checked, and within memory."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from smdguard.attacks import Attack, Model, Transfer
from smdguard.attacks.attack import is_fooled
from smdguard.auditing.batching import Batching
from smdguard.errors import InvalidInputError
from smdguard.threat import ThreatModel

SHARD_SIZE = 250

Measure = Callable[[Tensor, Tensor], Tensor]
"""Adversarial images (B, C, H, W) and labels (B,) -> what became of each, (B, width)."""


class Store(Protocol):
    """Where the results of finished shards are kept, so that an audit can go on from there; a dict is one."""

    def get(self, key: str, default: bytes, /) -> bytes:
        """What was kept under the key, else the default."""
        ...

    def __setitem__(self, key: str, value: bytes, /) -> None: ...


@dataclass(frozen=True)
class Planned:
    """An attack and the model that it is made on."""

    attack: Attack
    made_on: Model
    source: str

    @property
    def description(self) -> str:
        """What progress bars call it."""
        where = f" crafted on {self.source}" if isinstance(self.attack, Transfer) else ""
        return f"{self.attack.name}{where}"


@dataclass(frozen=True)
class Workshop:
    """Makes attacks on the images of one audit.

    Args:
        images: Clean images (B, C, H, W).
        labels: Their classes (B,).
        seed: Seed of every random draw.
        fingerprint: Of everything that decides the results beside the attack, the radius and the images attacked.
        store: Results of finished shards.
        advance: Hears what each finished shard was of.
        batching: How many images a model is asked about at a time.
    """

    images: Tensor
    labels: Tensor
    seed: int
    fingerprint: str
    store: Store
    advance: Callable[[str], None]
    batching: Batching = field(default_factory=lambda: Batching(SHARD_SIZE))

    def measure(
        self, planned: Planned, threat: ThreatModel, measure: Measure, *, width: int = 1, pursued: Tensor | None = None
    ) -> Tensor:
        """What became of each image under an attack: bool (B, width), false for those that are not pursued."""
        wanted = torch.ones_like(self.labels, dtype=torch.bool) if pursued is None else pursued
        measured = wanted.new_zeros(len(wanted), width)
        for number, rows in enumerate(torch.arange(len(wanted), device=wanted.device).split(SHARD_SIZE)):
            rows = rows[wanted[rows]]
            if len(rows):
                measured[rows] = self.measure_rows(planned, threat, measure, rows, width=width, shard=number)
            left = int(measured[:, 0].sum())
            self.advance(f"{planned.description} at {threat.epsilon:.3g}, {left} standing")
        return measured

    def measure_rows(
        self,
        planned: Planned,
        threat: ThreatModel,
        measure: Measure,
        rows: Tensor,
        *,
        width: int,
        shard: int = 0,
        dtype: torch.dtype = torch.bool,
    ) -> Tensor:
        """What became of some images under an attack that is made on all of them at once: (B, width)."""
        key = self._key(planned, threat, rows, shard)
        known = self.store.get(key, b"")
        if len(known) == len(rows) * width * dtype.itemsize:
            return torch.frombuffer(bytearray(known), dtype=dtype).view(-1, width).to(rows.device)
        adversarial = self.craft(planned, self.images[rows], self.labels[rows], threat, shard)
        measured = self.batching.run(lambda: measure(adversarial, self.labels[rows]))
        self.store[key] = measured.cpu().numpy().tobytes()
        return measured

    def craft(self, planned: Planned, images: Tensor, labels: Tensor, threat: ThreatModel, shard: int) -> Tensor:
        """Adversarial images, checked to lie in the ball and in the box."""

        def work() -> Tensor:
            generator = self.generator(repr(planned.attack), shard)
            return planned.attack(self.batching.wrap(planned.made_on), images, labels, threat, generator=generator)

        adversarial = self.batching.run(work)
        _check_adversarial(planned.attack, images, adversarial, threat)
        return adversarial

    def standing(self, model: Model, images: Tensor, labels: Tensor) -> Tensor:
        """Which images the model gets right: bool (B,)."""
        batched = self.batching.wrap(model)

        def work() -> Tensor:
            with torch.no_grad():
                fooled = [
                    is_fooled(batched(shard), truth)
                    for shard, truth in zip(images.split(SHARD_SIZE), labels.split(SHARD_SIZE), strict=True)
                ]
            return ~torch.cat(fooled)

        return self.batching.run(work)

    def generator(self, purpose: str, shard: int = 0) -> torch.Generator:
        """A source of random draws that depends on the seed, the purpose and the shard alone."""
        digest = hashlib.sha256(f"{self.seed}\n{purpose}\n{shard}".encode()).digest()
        return torch.Generator(self.images.device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)

    def _key(self, planned: Planned, threat: ThreatModel, rows: Tensor, number: int) -> str:
        parts = (self.fingerprint, repr(planned.attack), planned.source, repr(threat), number, rows.tolist())
        return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()


def _check_adversarial(attack: Attack, images: Tensor, adversarial: Tensor, threat: ThreatModel) -> None:
    if _described(adversarial) != _described(images):
        raise InvalidInputError(f"{attack!r} turned {_described(images)} into {_described(adversarial)}")
    excess = (threat.distance(images, adversarial) - threat.epsilon).max().item()
    outside = torch.maximum(-adversarial, adversarial - 1).max().item()
    # Rounding in float32 is below 1e-6 for one pixel and adds up in a length; NaN fails both comparisons.
    tolerance = 1e-6 if threat.norm == "linf" else 1e-5 * max(1.0, threat.epsilon)
    if not (excess <= tolerance and outside <= 0):
        raise InvalidInputError(
            f"{attack!r} left the threat model: {max(excess, 0.0):.3g} outside the ball, "
            f"{max(outside, 0.0):.3g} outside [0, 1]"
        )


def _described(images: object) -> str:
    """What attacks may not change of images."""
    if not isinstance(images, Tensor):
        return f"a {type(images).__name__}"
    return f"{images.dtype} images {tuple(images.shape)} on {images.device}"
