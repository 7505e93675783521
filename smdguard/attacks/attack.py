"""The contract that every attack keeps."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from smdguard.errors import InvalidInputError
from smdguard.threat import ThreatModel

Model = Callable[[Tensor], Tensor]
"""Images (B, C, H, W) in [0, 1] -> logits or log-probabilities (B, K)."""

Requirement = Literal["gradients", "scores", "labels"]
"""What an attack has to see of a model: input gradients, the outputs' values, or only the decision."""


class Attack(Protocol):
    """A frozen dataclass whose fields are its settings and whose repr goes into reports."""

    @property
    def name(self) -> str:
        """What tables call it."""
        ...

    requires: ClassVar[Requirement]
    needs_members: ClassVar[bool]
    """Whether the model must be an ensemble that shows its members' outputs."""

    def __call__(
        self, model: Model, images: Tensor, labels: Tensor, threat: ThreatModel, *, generator: torch.Generator
    ) -> Tensor:
        """Adversarial images, the same shape, in the threat model's ball and in [0, 1].

        Args:
            model: What is attacked; it must treat each image by itself.
            images: (B, C, H, W) in [0, 1].
            labels: The true classes (B,); for a targeted attack the classes to reach.
            threat: What the adversary may do.
            generator: Source of every random draw, on the images' device.
        """
        ...


def to_the_last_step(attack: Any) -> Attack:
    """The attack, without early stop where it has one: images go on past the boundary at which they first succeed."""
    return dataclasses.replace(attack, early_stop=False) if hasattr(attack, "early_stop") else attack


@runtime_checkable
class ShowsMembers(Protocol):
    """A model that gives the logits of its members (M, B, K) as well."""

    def member_logits(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] -> logits of every member (M, B, K)."""
        ...


def require_members(model: Model, attack: str) -> ShowsMembers:
    """The model, which the attack needs to be an ensemble.

    Raises:
        InvalidInputError: It does not show its members.
    """
    if not isinstance(model, ShowsMembers):
        raise InvalidInputError(
            f"{attack} attacks ensembles and needs the method member_logits, which {type(model).__name__} lacks"
        )
    return model


def is_fooled(logits: Tensor, labels: Tensor, *, targeted: bool = False) -> Tensor:
    """Whether each decision is wrong, or for a targeted attack the wanted one: (B, K), (B,) -> bool (B,).

    An output that is not a number is a wrong decision.
    """
    decided = logits.argmax(dim=-1)
    usable = ~logits.isnan().any(dim=-1)
    return usable & (decided == labels) if targeted else ~usable | (decided != labels)
