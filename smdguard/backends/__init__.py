"""What runs a model: Images -> log-probabilities."""

from typing import Literal, Protocol

import numpy

BackendName = Literal["auto", "onnx", "torch"]


class Backend(Protocol):
    """Something that runs an ensemble on numpy images."""

    name: str

    def member_log_probabilities(self, images: numpy.ndarray) -> numpy.ndarray:
        """Images (B, C, H, W) as 32-bit floats in [0, 1] -> log-probabilities of every member (B, M, K)."""
        ...
