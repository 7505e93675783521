"""Golden outputs: what a model must give for a few images, whatever runs it."""

import numpy
from safetensors.numpy import load, save

from smdguard.backends import Backend
from smdguard.errors import IntegrityError

NUM_IMAGES = 16
ATOL = 1e-5


def make_golden(backend: Backend, images: numpy.ndarray) -> bytes:
    """A safetensors file with the images (B, C, H, W), of 8 bits, and the members' probabilities (B, M, K)."""
    tensors = {"images": images, "member_probabilities": _member_probabilities(backend, images)}
    # safetensors writes an array's memory as it lies, whatever the order of its axes.
    return save({name: numpy.ascontiguousarray(array) for name, array in tensors.items()})


def check_golden(backend: Backend, golden: bytes, *, atol: float, name: str) -> float:
    """Ask a back end again; returns the largest difference of a probability.

    Raises:
        IntegrityError: It differs by more than `atol`.
    """
    tensors = load(golden)
    again = _member_probabilities(backend, tensors["images"])
    difference = float(numpy.abs(again - tensors["member_probabilities"]).max())
    if not difference <= atol:
        raise IntegrityError(
            f"{name} on {backend.name}: a probability differs by {difference:.2g} from its golden output, "
            f"allowed is {atol:.2g}"
        )
    return difference


def _member_probabilities(backend: Backend, images: numpy.ndarray) -> numpy.ndarray:
    return numpy.exp(backend.member_log_probabilities(images.astype(numpy.float32) / 255))
