"""Members of one architecture run as one network: one grouped convolution in place of one for each member."""

import threading
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from smdguard.architectures.layered import LayeredNetwork
from smdguard.architectures.registry import ARCHITECTURES


class SideBySide:
    """Runs equally built members at once.

    Their weights are laid one after another at each call, so gradients reach them and they stay the only ones there
    are; a call takes far longer than the copy.

    Args:
        build: What all members are.
        num_members: M.
    """

    def __init__(self, build: "_Build", num_members: int) -> None:
        self._build, self._num_members = build, num_members

    @classmethod
    def of(cls, members: Sequence[nn.Module]) -> "SideBySide | None":
        """For these members; None where they are not networks of ARCHITECTURES, all built alike."""
        builds = {_build_of(member) for member in members}
        build = builds.pop()
        return cls(build, len(members)) if build is not None and not builds else None

    def pays_on(self, device: torch.device) -> bool:
        """Whether that is faster than one by one: on a CPU for narrow members, elsewhere for all.

        A CPU takes a third longer over a grouped convolution than over several whose channels fill its vectors.
        """
        return device.type != "cpu" or self._build.kind.is_narrow

    def __call__(self, members: Iterable[nn.Module], images: Tensor, layer: int | None = None) -> Tensor:
        """Features of every member at a layer, by default the logits: (M, B, ...).

        Args:
            members: The members, all in the same mode.
            images: Normalised; (B, C, H, W) shown to all members, or (M, B, C, H, W) with a batch for each.
            layer: Counted from 0; the features are those before the activation.
        """
        members = list(members)
        if images.dim() == 5:
            images = images.transpose(0, 1).flatten(1, 2)
        # Small grouped convolutions take half the time on a CPU when an image's channels lie beside each other.
        order = torch.channels_last if images.device.type == "cpu" else torch.contiguous_format
        parameters = _concatenated([dict(member.named_parameters()) for member in members], order)
        buffers = _concatenated([dict(member.named_buffers()) for member in members], order)
        network = _network(self._build, self._num_members, threading.get_ident()).train(members[0].training)
        features = functional_call(network, parameters | buffers, (images.to(memory_format=order), layer))
        if members[0].training:
            _distribute(buffers, members)
        return features.unflatten(1, (len(members), -1)).transpose(0, 1)


class _Build(NamedTuple):
    """What members have to share to run side by side."""

    kind: type[LayeredNetwork]
    image_shape: tuple[int, int, int]
    num_classes: int
    negative_slope: float


def _build_of(network: nn.Module) -> _Build | None:
    """None for any other class, even one derived from those: it may have settings that nobody knows of here."""
    if not isinstance(network, LayeredNetwork) or type(network) not in ARCHITECTURES.values():
        return None
    return _Build(type(network), network.image_shape, network.num_classes, network.negative_slope)


@lru_cache(maxsize=64)
def _network(build: _Build, num_members: int, thread: int) -> LayeredNetwork:
    """The members as one network without weights.

    It is given weights for the time of a call, so each thread has its own.
    """
    with torch.device("meta"):
        return build.kind(
            build.image_shape, build.num_classes, negative_slope=build.negative_slope, num_members=num_members
        )


def _concatenated(states: Sequence[dict[str, Tensor]], order: torch.memory_format) -> dict[str, Tensor]:
    """The members' tensors of each name, one after another; of numbers, such as a count of batches, the first's."""

    def together(tensors: list[Tensor]) -> Tensor:
        if not tensors[0].dim():
            return tensors[0].clone()
        joined = torch.cat(tensors)
        return joined.to(memory_format=order) if joined.dim() == 4 else joined

    return {name: together([state[name] for state in states]) for name in states[0]}


def _distribute(buffers: dict[str, Tensor], members: Sequence[nn.Module]) -> None:
    """Give each member its part of the buffers that a pass in training mode has changed."""
    for name, buffer in buffers.items():
        parts = buffer.chunk(len(members)) if buffer.dim() else [buffer] * len(members)
        for member, part in zip(members, parts, strict=True):
            member.get_buffer(name).copy_(part)
