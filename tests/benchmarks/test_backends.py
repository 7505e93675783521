"""ONNX Runtime against the plain PyTorch loop over the members, on a batch of 256."""

import numpy
import pytest
import torch
from torch import Tensor

from smdguard.guard import load
from tests.benchmarks.plain import PlainLeNet


@pytest.fixture(scope="module")
def images() -> numpy.ndarray:
    return numpy.random.default_rng(0).random((256, 1, 28, 28), dtype=numpy.float32)


@pytest.mark.benchmark(group="a batch of 256 images")
@pytest.mark.parametrize("backend", ["onnx", "torch"])
def test_back_end(benchmark, backend, images: numpy.ndarray) -> None:
    guard = load("smd-lenet-mnist", backend=backend, device="cpu")
    benchmark(guard.backend.member_log_probabilities, images)


@pytest.mark.benchmark(group="a batch of 256 images")
def test_plain_loop(benchmark, images: numpy.ndarray) -> None:
    members = [PlainLeNet().eval() for _ in range(3)]
    batch = torch.from_numpy(images)

    @torch.inference_mode()
    def predict() -> Tensor:
        normalised = (batch - 0.1307) / 0.3081
        return torch.stack([member(normalised).softmax(dim=1) for member in members]).mean(dim=0)

    benchmark(predict)
