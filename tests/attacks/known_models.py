"""Models whose smallest perturbation is known, or is found by any sound attack, and images for them."""

import torch
from torch import Tensor, nn


def linear_model(num_classes: int, scale: float = 1.0) -> nn.Sequential:
    torch.manual_seed(0)
    linear = nn.Linear(16, num_classes).double().requires_grad_(False)
    # Grey images lie about the boundary, so that small steps decide.
    linear.bias.copy_(-0.5 * linear.weight.sum(dim=1))
    linear.weight.mul_(scale)
    linear.bias.mul_(scale)
    return nn.Sequential(nn.Flatten(), linear)


def curved_model(num_classes: int = 4) -> nn.Module:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, num_classes)).requires_grad_(False)
    model[1].weight.mul_(6)  # type: ignore[operator]
    return model.double()


def grey_images(num_images: int) -> Tensor:
    """Images so far from black and white that the box does not bind for small epsilon."""
    generator = torch.Generator().manual_seed(1)
    return 0.4 + 0.2 * torch.rand(num_images, 1, 4, 4, dtype=torch.float64, generator=generator)
