"""The ensemble's output against plain arithmetic, and what it must not depend on."""

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from smdguard.architectures import ARCHITECTURES, LayeredNetwork, LeNet5
from smdguard.ensemble import Ensemble
from smdguard.errors import InvalidInputError


def lenet_ensemble(num_members: int = 3) -> Ensemble:
    torch.manual_seed(0)
    members = [ARCHITECTURES["lenet"]((1, 28, 28), 10) for _ in range(num_members)]
    return Ensemble(members, mean=[0.13], std=[0.31]).eval().requires_grad_(False)


def random_images(num_images: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(num_images, 1, 28, 28, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("architecture", "image_shape", "num_weights"),
    [("lenet", (1, 28, 28), 61_706), ("resnet20", (3, 32, 32), 269_722), ("lenet-wide", (1, 28, 28), 648_226)],
)
def test_networks_have_the_published_number_of_weights(
    architecture: str, image_shape: tuple[int, int, int], num_weights: int
) -> None:
    network = ARCHITECTURES[architecture](image_shape, 10)
    assert sum(weight.numel() for weight in network.parameters()) == num_weights


def test_an_ensemble_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="at least one member"):
        Ensemble([], mean=[0.13], std=[0.31])


def test_output_is_the_logarithm_of_the_mean_probability() -> None:
    ensemble, images = lenet_ensemble(), random_images(5)
    normalised = (images - 0.13) / 0.31
    mean = torch.stack([member(normalised).double().softmax(dim=1) for member in ensemble.members]).mean(dim=0)
    torch.testing.assert_close(ensemble(images).double(), mean.log(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(2, 3, 28, 28), (3, 2, 2, 28, 28), (28, 28), (784,)])
def test_images_of_other_channels_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError) as caught:
        lenet_ensemble().member_logits(torch.rand(shape))
    assert str(caught.value) == f"the ensemble takes images (B, 1, H, W), not of the shape {shape}"


def test_saturated_members_leave_output_and_gradient_alive() -> None:
    class Sure(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            value = images.flatten(1).sum(dim=1, keepdim=True)
            return torch.cat([200 * value, -200 * value], dim=1)

    leaf = torch.ones(1, 1, 2, 2, requires_grad=True)
    output = Ensemble([Sure(), Sure()], mean=[0.0], std=[1.0])(leaf)
    assert output.isfinite().all()
    assert output[0, 1].item() == pytest.approx(-1600)
    # A clamped mean of probabilities would give zero here.
    gradient = torch.autograd.grad(output[0, 1], leaf)[0]
    torch.testing.assert_close(gradient, torch.full_like(leaf, -400))


@given(st.permutations(range(4)), st.integers(0, 100))
@settings(max_examples=15)
def test_order_of_members_does_not_matter(order: list[int], seed: int) -> None:
    ensemble, images = lenet_ensemble(4), random_images(3, seed)
    shuffled = Ensemble([ensemble.members[index] for index in order], mean=[0.13], std=[0.31]).eval()
    torch.testing.assert_close(shuffled(images), ensemble(images))


@given(st.integers(1, 9), st.integers(0, 100))
@settings(max_examples=15)
def test_size_of_the_batch_does_not_matter(size: int, seed: int) -> None:
    ensemble, images = lenet_ensemble(), random_images(9, seed)
    torch.testing.assert_close(torch.cat([ensemble(part) for part in images.split(size)]), ensemble(images))


def test_each_member_can_be_shown_images_of_its_own() -> None:
    ensemble = lenet_ensemble()
    own = torch.stack([random_images(2, seed) for seed in range(3)])
    logits = ensemble.member_logits(own)
    for index in range(3):
        torch.testing.assert_close(logits[index], ensemble.member_logits(own[index])[index])


def test_equal_members_answer_as_one() -> None:
    single = lenet_ensemble(1)
    triple = Ensemble([single.members[0]] * 3, mean=[0.13], std=[0.31])
    torch.testing.assert_close(triple(random_images(4)), single(random_images(4)))
    assert math.isclose(triple(random_images(1)).exp().sum().item(), 1, abs_tol=1e-5)


def test_outputs_have_32_bits_whatever_the_members_compute_in() -> None:
    members = [nn.Sequential(nn.Flatten(), nn.Linear(4, 3)) for _ in range(2)]
    ensemble, images = Ensemble(members, mean=[0.5], std=[0.5]).eval(), torch.rand(5, 1, 2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert members[0](images).dtype == torch.bfloat16
        rounded = ensemble.member_logits(images)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, ensemble.member_logits(images), rtol=0, atol=0.05)
    assert ensemble.double().member_logits(images.double()).dtype == torch.float64


class Tempered(LeNet5):
    """Has a setting that the networks of the package do not have."""

    def __init__(self, temperature: float) -> None:
        super().__init__((1, 28, 28), 10)
        self.temperature = temperature

    def layers(self, images: torch.Tensor) -> Iterator[torch.Tensor]:
        *hidden, logits = super().layers(images)
        yield from (*hidden, logits / self.temperature)


class Own(LayeredNetwork):
    """A layered network with the least that one needs."""

    num_layers = 2

    def __init__(self, num_hidden: int) -> None:
        super().__init__((1, 28, 28), 10)
        self.hidden, self.output = nn.Linear(784, num_hidden), nn.Linear(num_hidden, 10)

    def layers(self, images: torch.Tensor) -> Iterator[torch.Tensor]:
        yield (features := self.hidden(images.flatten(1)))
        yield self.output(features.tanh())


@pytest.mark.parametrize("build", [Tempered, Own])
@pytest.mark.parametrize("leading", [(5,), (2, 5)], ids=["shared", "own"])
def test_layered_networks_of_ones_own_are_asked_themselves(
    build: Callable[[int], LayeredNetwork], leading: tuple[int, ...]
) -> None:
    ensemble = Ensemble([build(4), build(4)], mean=[0.0], std=[1.0]).eval()
    images = torch.rand(*leading, 1, 28, 28)
    batches = images.expand(2, 5, 1, 28, 28)
    for layer in range(ensemble.num_layers):
        features = [member(batch, layer) for member, batch in zip(ensemble.members, batches, strict=True)]
        torch.testing.assert_close(ensemble.member_features(images, layer), torch.stack(features))
    logits = [member(batch) for member, batch in zip(ensemble.members, batches, strict=True)]
    torch.testing.assert_close(ensemble.member_logits(images), torch.stack(logits))


def test_members_whose_layers_cannot_be_seen_are_named() -> None:
    ensemble = Ensemble([nn.Linear(2, 2)], mean=[0.0], std=[1.0])
    with pytest.raises(InvalidInputError, match="not Linear"):
        _ = ensemble.num_layers
