"""Members trained side by side without any word between them."""

from dataclasses import dataclass

from torch import Tensor

from training.member_pass import MemberPass


@dataclass(frozen=True)
class Naive:
    """Sum of the members' cross-entropies."""

    def __call__(self, members: MemberPass) -> dict[str, Tensor]:
        return {"cross_entropy": members.cross_entropy.mean(dim=1).sum()}
