"""Golden outputs: what a model must give for a few images, whatever runs it."""

import numpy
from safetensors import SafetensorError
from safetensors.numpy import load, save

from smdguard.backends import Backend
from smdguard.errors import IntegrityError
from smdguard.guard import Guard

# As many of each of ten classes.
NUM_IMAGES = 20
ATOL = 1e-5


def make_golden(backend: Backend, images: numpy.ndarray) -> bytes:
    """A safetensors file with the images (B, C, H, W), of 8 bits, and the members' probabilities (B, M, K)."""
    tensors = {"images": images, "member_probabilities": _member_probabilities(backend, images)}
    # safetensors writes an array's memory as it lies, whatever the order of its axes.
    return save({name: numpy.ascontiguousarray(array) for name, array in tensors.items()})


def check_golden(guard: Guard, golden: bytes, *, atol: float) -> float:
    """Ask a model again; returns the largest difference of a probability.

    Raises:
        IntegrityError: It differs by more than `atol`, or the golden outputs cannot be any of this model.
    """
    images, expected = _parse(golden, guard)
    again = _member_probabilities(guard, images)
    if again.shape != expected.shape:
        raise IntegrityError(
            f"{guard.name} on {guard.backend.name}: its outputs have the shape {again.shape}, its golden ones "
            f"{expected.shape}"
        )
    difference = float(numpy.abs(again - expected).max())
    if not difference <= atol:
        raise IntegrityError(
            f"{guard.name} on {guard.backend.name}: a probability differs by {difference:.2g} from its golden output; "
            f"at most {atol:.2g} is allowed"
        )
    return difference


def _parse(golden: bytes, guard: Guard) -> tuple[numpy.ndarray, numpy.ndarray]:
    try:
        tensors = load(golden)
        images, expected = tensors["images"], tensors["member_probabilities"]
    except (SafetensorError, KeyError) as error:
        raise IntegrityError(f"{guard.name}: its golden outputs are not images with outputs: {error}") from error
    if images.dtype != numpy.uint8 or images.shape[1:] != guard.image_shape or not len(images):
        raise IntegrityError(
            f"{guard.name}: its golden outputs are of images {images.dtype} {images.shape}, and it takes 8-bit images "
            f"of {tuple(guard.image_shape)}"
        )
    return images, expected


def _member_probabilities(model: Backend | Guard, images: numpy.ndarray) -> numpy.ndarray:
    return numpy.exp(model.member_log_probabilities(images.astype(numpy.float32) / 255))
