"""Batches of gradients that autograd is given at once, which our functions pass on but cannot record."""

import torch
from torch import Tensor
from torch._C._functorch import is_legacy_batchedtensor


def recorded(gradient: Tensor) -> Tensor:
    """Refuse, where more derivatives are wanted, what autograd would leave out of them without a word.

    Raises:
        RuntimeError: The gradient is a batch of them, of `is_grads_batched`, and the graph is to be made.
    """
    if is_legacy_batchedtensor(gradient) and torch.is_grad_enabled():
        raise RuntimeError("is_grads_batched cannot go with create_graph here; use torch.func.vmap")
    return gradient
