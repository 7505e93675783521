"""Ensembles that are filled from safetensors."""

import numpy
import pytest
import torch
from safetensors.torch import save
from torch import nn

from smdguard.backends.torch import TorchBackend, build_ensemble, load_ensemble
from smdguard.ensemble import Ensemble
from smdguard.errors import BackendError, IntegrityError
from smdguard.manifest import Architecture, Input

ARCHITECTURE = Architecture(name="own:network", num_members=1, num_classes=5)
IMAGE_INPUT = Input(channels=3, height=6, width=6, mean=(0.5,) * 3, std=(0.2,) * 3)


def across_channels(image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    channels, height, width = image_shape
    in_three_axes = nn.Unflatten(1, (1, 2)), nn.Conv3d(1, 4, (2, height, width))
    return nn.Sequential(nn.Conv2d(channels, 2, 3, padding=1), *in_three_axes, nn.Flatten(), nn.Linear(4, num_classes))


def test_weights_of_members_of_ones_own_may_have_any_number_of_axes() -> None:
    architecture = ARCHITECTURE.model_copy(update={"num_members": 2})
    made = build_ensemble(architecture, IMAGE_INPUT, across_channels).eval()
    loaded = load_ensemble(architecture, IMAGE_INPUT, save(made.state_dict()), "the file", across_channels)
    images = torch.rand(2, *IMAGE_INPUT.shape, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(loaded(images), made(images), atol=1e-5)
    # The order that is fast, where a weight can have it.
    assert loaded.get_parameter("members.0.0.weight").is_contiguous(memory_format=torch.channels_last)


class WithMore(nn.Linear):
    def get_extra_state(self) -> dict[str, int]:
        return {"version": 1}

    def set_extra_state(self, state: object) -> None:
        pass


@pytest.mark.parametrize("layer", [nn.LazyLinear(5), WithMore(108, 5)], ids=["lazy", "extra state"])
def test_members_whose_state_is_more_than_tensors_are_refused(layer: nn.Module) -> None:
    weights = save({"members.0.1.weight": torch.zeros(5, 108), "members.0.1.bias": torch.zeros(5)})
    with pytest.raises(IntegrityError, match=r"^the file holds tensors alone, and the members that were built for it"):
        load_ensemble(ARCHITECTURE, IMAGE_INPUT, weights, "the file", lambda *_: nn.Sequential(nn.Flatten(), layer))


class OutOfMemory(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        raise MemoryError


def test_members_that_cannot_be_run_are_one_line() -> None:
    backend = TorchBackend(Ensemble([OutOfMemory()], mean=(0.5,) * 3, std=(0.2,) * 3), "cpu")
    with pytest.raises(BackendError, match=r"^the members cannot be run by PyTorch on cpu for images \(2, 3, 6, 6\): "):
        backend.member_log_probabilities(numpy.zeros((2, 3, 6, 6), numpy.float32))
