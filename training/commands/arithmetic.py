"""How a process computes that trains."""

import torch


def set_arithmetic() -> None:
    """Let tiny numbers be zero, and numbers of 32 bits have all their bits, from here on."""
    # Weight decay drives unused weights to numbers so small that a CPU takes many times as long over them.
    torch.set_flush_denormal(True)
    # By default a GPU rounds what it convolves to 19 bits (TF32), and a recipe's float32 would be less than it says.
    torch.backends.cudnn.allow_tf32 = False
