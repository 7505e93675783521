"""Batches of gradients that autograd is given at once: our functions compute them, but cannot record how."""

import torch
from torch import Tensor
from torch._C._functorch import is_legacy_batchedtensor


def require_recordable(gradient: Tensor) -> Tensor:
    """The gradient, unless autograd is to record what becomes of it and could not: its derivatives would be incomplete.

    Raises:
        RuntimeError: It is a batch of gradients, of `is_grads_batched`, and `create_graph` is set.
    """
    if is_legacy_batchedtensor(gradient) and torch.is_grad_enabled():
        raise RuntimeError("is_grads_batched cannot go with create_graph here; use torch.func.vmap")
    return gradient
