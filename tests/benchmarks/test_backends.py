"""ONNX Runtime against the plain PyTorch loop over the members, on a batch of 256."""

from collections.abc import Callable
from functools import partial

import numpy
import pytest
import torch
from torch import Tensor

from smdguard.guard import load
from tests.benchmarks.conftest import Compare
from tests.benchmarks.plain import PlainLeNet


@pytest.fixture(scope="module")
def images() -> numpy.ndarray:
    return numpy.random.default_rng(0).random((256, 1, 28, 28), dtype=numpy.float32)


def test_back_end(compare: Compare, images: numpy.ndarray) -> None:
    backends = [load("smd-lenet-mnist", backend=name, device="cpu").backend for name in ("onnx", "torch")]
    cases = {backend.name: partial(backend.member_log_probabilities, images) for backend in backends}
    compare("A batch of 256 images", cases | {"plain loop over the members": plain_prediction(images)}, 50)


def plain_prediction(images: numpy.ndarray) -> Callable[[], Tensor]:
    """Of a loop over three members."""
    members = [PlainLeNet().eval() for _ in range(3)]
    batch = torch.from_numpy(images)

    @torch.inference_mode()
    def predict() -> Tensor:
        normalised = (batch - 0.1307) / 0.3081
        return torch.stack([member(normalised).softmax(dim=1) for member in members]).mean(dim=0)

    return predict
