"""The gradient that attacks follow."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

Told = TypeVar("Told")


def input_gradient(ask: Callable[[Tensor], tuple[Tensor, Told]], images: Tensor) -> tuple[Tensor, Told]:
    """Where each image's value rises, and what else was told of the images.

    The values are summed, not averaged: a mean over a large batch would shrink each gradient.

    Args:
        ask: Images (B, C, H, W) -> a value of each (B,), and anything else.
        images: Where the gradient is taken.

    Returns:
        The gradient (B, C, H, W), and what `ask` gave beside the values.
    """
    with torch.enable_grad():
        leaf = images.detach().requires_grad_()
        values, told = ask(leaf)
        gradient = torch.autograd.grad(values.sum(), leaf)[0]
    # A gradient that is not a number shows no way; followed, it would make the image not a number as well.
    return gradient.nan_to_num(nan=0.0), told
