"""Which wrong classes targeted attacks turn to."""

from torch import Tensor

from smdguard.scores import without_class


def likeliest_wrong_classes(logits: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, ...]:
    """Each image's wrong classes, the likeliest first: (B, K), (B,) -> `num_classes` x (B,), or all K - 1 if fewer."""
    wrong = without_class(logits, labels)
    return wrong.topk(min(num_classes, wrong.shape[-1] - 1), dim=-1).indices.unbind(dim=-1)
