"""What runs a model: Images -> log-probabilities."""

from typing import Literal, Protocol

import numpy

from smdguard.errors import InvalidInputError

BackendName = Literal["auto", "onnx", "torch"]


class Backend(Protocol):
    """Something that runs an ensemble on numpy images."""

    name: str

    def member_log_probabilities(self, images: numpy.ndarray) -> numpy.ndarray:
        """Images (B, C, H, W) as 32-bit floats in [0, 1] -> log-probabilities of every member (B, M, K)."""
        ...


def require_known_device(name: str) -> None:
    """Refuse what is no name of a device, before anything is loaded for it.

    Raises:
        InvalidInputError: It is not "auto", "cpu" or "cuda".
    """
    if name not in ("auto", "cpu", "cuda"):
        raise InvalidInputError(f"the device must be auto, cpu or cuda, not {name!r}")
