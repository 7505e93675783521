"""Members of one architecture run as one network: one grouped convolution in place of one for each member."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from smdguard.architectures.layered import LayeredNetwork


class SideBySide:
    """Runs equally built members at once.

    Their weights are laid one after another at each call, so gradients reach them and they stay the only ones there
    are; a call takes far longer than the copy.

    Args:
        network: What one member is like.
        num_members: M.
    """

    def __init__(self, network: LayeredNetwork, num_members: int) -> None:
        with torch.device("meta"):
            self._network = type(network)(
                network.image_shape,
                network.num_classes,
                negative_slope=network.negative_slope,
                num_members=num_members,
            )

    @classmethod
    def of(cls, members: Sequence[nn.Module]) -> "SideBySide | None":
        """For these members; None where they are not equally built LayeredNetworks."""
        first = members[0]
        if not isinstance(first, LayeredNetwork) or any(_build(member) != _build(first) for member in members):
            return None
        return cls(first, len(members))

    @property
    def num_layers(self) -> int:
        """How many layers a member has."""
        return self._network.num_layers

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
        self._network.train(members[0].training)
        features = functional_call(self._network, parameters | buffers, (images.to(memory_format=order), layer))
        if members[0].training:
            _distribute(buffers, members)
        return features.unflatten(1, (len(members), -1)).transpose(0, 1)


def _build(network: nn.Module) -> Any:
    """What two members have to share to run side by side."""
    if not isinstance(network, LayeredNetwork):
        return None
    return type(network), network.image_shape, network.num_classes, network.negative_slope


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
