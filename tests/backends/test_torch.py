"""Ensembles that are filled from safetensors."""

import torch
from safetensors.torch import save
from torch import nn

from smdguard.backends.torch import build_ensemble, load_ensemble
from smdguard.manifest import Architecture, Input


def across_channels(image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    channels, height, width = image_shape
    in_three_axes = nn.Unflatten(1, (1, 2)), nn.Conv3d(1, 4, (2, height, width))
    return nn.Sequential(nn.Conv2d(channels, 2, 3, padding=1), *in_three_axes, nn.Flatten(), nn.Linear(4, num_classes))


def test_weights_of_members_of_ones_own_may_have_any_number_of_axes() -> None:
    architecture = Architecture(name="own:network", num_members=2, num_classes=5)
    image_input = Input(channels=3, height=6, width=6, mean=(0.5,) * 3, std=(0.2,) * 3)
    made = build_ensemble(architecture, image_input, across_channels).eval()
    loaded = load_ensemble(architecture, image_input, save(made.state_dict()), "the file", across_channels)
    images = torch.rand(2, *image_input.shape, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(loaded(images), made(images), atol=1e-5)
    # The order that is fast, where a weight can have it.
    assert loaded.get_parameter("members.0.0.weight").is_contiguous(memory_format=torch.channels_last)
