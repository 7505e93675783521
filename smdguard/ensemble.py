"""Several networks that answer as one: the average of the members' probabilities."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from smdguard.scores import average_log_probabilities


class Ensemble(nn.Module):
    """Members with one shared normalisation; images in [0, 1] go in, log-probabilities come out.

    Args:
        members: Networks from normalised images (B, C, H, W) to logits (B, K).
        mean: Mean of each channel, on the [0, 1] scale.
        std: Standard deviation of each channel, on the [0, 1] scale.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, members: Sequence[nn.Module], *, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def normalise(self, images: Tensor) -> Tensor:
        """Images in [0, 1] -> what the members were trained on, the same shape."""
        return (images - self.mean) / self.std

    def member_logits(self, images: Tensor) -> Tensor:
        """Logits of every member (M, B, K).

        Args:
            images: In [0, 1]; (B, C, H, W) shown to all members, or (M, B, C, H, W) with a batch for each.
        """
        normalised = self.normalise(images)
        batches = normalised if images.dim() == 5 else [normalised] * len(self.members)
        return torch.stack([member(batch) for member, batch in zip(self.members, batches, strict=True)])

    def member_log_probabilities(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] -> log-probabilities of every member (B, M, K)."""
        return self.member_logits(images).log_softmax(dim=-1).transpose(0, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] -> log-probabilities of the ensemble (B, K)."""
        return average_log_probabilities(self.member_log_probabilities(images))
