"""Which few of many images stand for all."""

import torch
from torch import Tensor

# So few that the probes take a tenth of a quick audit of 1,000 images.
NUM_PROBED = 200
# So few that a thousand questions about each take no longer than a quick audit of a robust model.
NUM_QUERIED = 60


def evenly_spaced(num_images: int, num_wanted: int, device: torch.device) -> Tensor:
    """Places of at most `num_wanted` images, from one end to the other: (num_wanted,), or (num_images,) if fewer."""
    return torch.linspace(0, num_images - 1, min(num_images, num_wanted), device=device).round().long()


def probe_rows(num_images: int, device: torch.device) -> Tensor:
    """Places of the images that an audit probes."""
    return evenly_spaced(num_images, NUM_PROBED, device)
