"""Layers against the same written out, and those that a network shows."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from smdguard.architectures import ARCHITECTURES, LayeredNetwork
from smdguard.architectures.layered import normalised
from smdguard.architectures.narrow_convolution import NarrowConvolution


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "convolution",
    [
        nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=False),
        NarrowConvolution(4, 6, kernel_size=3, padding=1, groups=2, bias=False),
    ],
    ids=["groups", "narrow"],
)
def test_normalised_convolution_is_a_convolution_then_batch_normalisation(
    convolution: nn.Conv2d, training: bool
) -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(6)
    for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        tensor.uniform_(0.5, 2.0)
    layers = nn.ModuleList([convolution, norm]).double().train(training)
    images, results = torch.rand(3, 4, 8, 8, dtype=torch.float64), []
    for run in (normalised, lambda convolution, norm, features: norm(convolution(features))):
        copied, leaf = deepcopy(layers), images.clone().requires_grad_()
        features = run(*copied, leaf)
        gradients = torch.autograd.grad(features.sigmoid().sum(), [leaf, *copied.parameters()])
        results.append([features, *gradients, *copied.buffers()])
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_shows_its_layers(name: str) -> None:
    torch.manual_seed(0)
    network = ARCHITECTURES[name]((3, 32, 32), 10, negative_slope=0.1).eval()
    assert isinstance(network, LayeredNetwork)
    images = torch.rand(2, 3, 32, 32)
    layers = list(network.layers(images))
    assert len(layers) == network.num_layers
    assert torch.equal(layers[-1], network(images))
    assert all((features < 0).any() for features in layers), "features are taken before the activation"
    assert any(isinstance(module, nn.LeakyReLU) for module in network.modules())
