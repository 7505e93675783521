"""Several networks that answer as one: the average of the members' probabilities."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from smdguard.architectures import LayeredNetwork, SideBySide
from smdguard.errors import InvalidInputError
from smdguard.scores import average_log_probabilities, member_log_probabilities


class Ensemble(nn.Module):
    """Members with one shared normalisation; images in [0, 1] go in, log-probabilities come out.

    Args:
        members: Networks from normalised images (B, C, H, W) to logits (B, K). Those of ARCHITECTURES run side by side
            if they are built alike and that is faster, others one by one.
        mean: Mean of each channel, on the [0, 1] scale.
        std: Standard deviation of each channel, on the [0, 1] scale.

    Raises:
        InvalidInputError: There is no member.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, members: Sequence[nn.Module], *, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if not members:
            raise InvalidInputError("an ensemble needs at least one member, and there is none")
        self.members = nn.ModuleList(members)
        self._side_by_side = SideBySide.of(members)
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def normalise(self, images: Tensor) -> Tensor:
        """Images in [0, 1] -> what the members were trained on, the same shape.

        Raises:
            InvalidInputError: They have other channels, which members side by side would share out among them.
        """
        if images.shape[-3:-2] != self.mean.shape[:1]:
            raise InvalidInputError(
                f"the ensemble takes images (B, {len(self.mean)}, H, W), not of the shape {tuple(images.shape)}"
            )
        return (images - self.mean) / self.std

    def member_logits(self, images: Tensor) -> Tensor:
        """Logits of every member (M, B, K), of at least 32 bits whatever the members compute in.

        Args:
            images: In [0, 1], of the members' type unless autocast converts them; (B, C, H, W) shown to all members, or
                (M, B, C, H, W) with a batch for each.
        """
        return self._run(images)

    def member_features(self, images: Tensor, layer: int) -> Tensor:
        """Features of every member at a layer, before their activation (M, B, ...), of at least 32 bits.

        Args:
            images: As in member_logits.
            layer: Counted from 0, below `num_layers`.

        Raises:
            InvalidInputError: The members cannot be looked into.
        """
        self._layered_member()
        return self._run(images, layer)

    @property
    def num_layers(self) -> int:
        """How many layers the members' features can be had of.

        Raises:
            InvalidInputError: The members cannot be looked into.
        """
        return self._layered_member().num_layers

    def _layered_member(self) -> LayeredNetwork:
        """One of the members, which are all of a kind."""
        first, kinds = self.members[0], {type(member) for member in self.members}
        if not isinstance(first, LayeredNetwork) or len(kinds) > 1:
            names = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise InvalidInputError(f"the features of members need LayeredNetworks of one kind, not {names}")
        return first

    def _run(self, images: Tensor, *layer: int) -> Tensor:
        """Outputs of every member at a layer, by default the last (M, B, ...), of at least 32 bits."""
        normalised = self.normalise(images)
        if self._side_by_side is not None and self._side_by_side.pays_on(images.device):
            return _of_32_bits(self._side_by_side(self.members, normalised, *layer))
        batches = normalised if images.dim() == 5 else [normalised] * len(self.members)
        outputs = [member(batch, *layer) for member, batch in zip(self.members, batches, strict=True)]
        return _of_32_bits(torch.stack(outputs))

    def member_log_probabilities(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] -> log-probabilities of every member (B, M, K)."""
        return member_log_probabilities(self.member_logits(images))

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] -> log-probabilities of the ensemble (B, K)."""
        return average_log_probabilities(self.member_log_probabilities(images))


def _of_32_bits(output: Tensor) -> Tensor:
    """The output in 32 bits where it has fewer, which are too few for logarithms and differences."""
    return output.float() if output.dtype in (torch.bfloat16, torch.float16) else output
