"""Ensembles as ONNX graphs, run by ONNX Runtime without PyTorch."""

import ctypes
import os
from typing import Any

import numpy
import onnxruntime

from smdguard.errors import BackendError, IntegrityError

_OUTPUTS = ["member_log_probabilities"]


class OnnxBackend:
    """Runs an exported ensemble on numpy images.

    Args:
        model: Content of the ONNX file.
        source: What errors call it.
        device: "auto", "cpu" or "cuda".

    Raises:
        IntegrityError: The content is not an ensemble that smdguard exported.
        BackendError: "cuda" was asked for and ONNX Runtime cannot use a GPU here.
    """

    name = "onnx"

    def __init__(self, model: bytes, source: str, device: str) -> None:
        onnxruntime.set_default_logger_severity(4)  # What goes wrong is raised below; the log would only repeat it.
        providers = ["CPUExecutionProvider"]
        if device != "cpu" and _has_nvidia_driver():
            onnxruntime.preload_dlls()  # Finds the CUDA libraries that came with PyTorch.
            providers.insert(0, "CUDAExecutionProvider")
        options = onnxruntime.SessionOptions()
        # ONNX Runtime would look for external data, which nobody has verified, in the working directory.
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
        # Numbers too small to be normal are slow on a CPU and change nothing.
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=providers)
        except Exception as error:  # ONNX Runtime's exceptions share no narrower public ancestor.
            if "external data" in str(error).lower():
                raise IntegrityError(
                    f"{source} keeps its weights in another file, which is not verified; export it as one file"
                ) from error
            raise IntegrityError(f"{source} cannot be run by ONNX Runtime: {_first_line(error)}") from error
        # get_available_providers() lists CUDA even without a GPU; only a session knows what it got.
        if device == "cuda" and "CUDAExecutionProvider" not in self._session.get_providers():
            raise BackendError(
                "device 'cuda' was asked for, but ONNX Runtime cannot use a CUDA GPU here; use --device cpu"
            )
        if not set(_OUTPUTS) <= {output.name for output in self._session.get_outputs()}:
            raise IntegrityError(f"{source} has no output {_OUTPUTS[0]}; export it with smdguard export")

    def member_log_probabilities(self, images: numpy.ndarray) -> numpy.ndarray:
        """Images (B, C, H, W) as 32-bit floats in [0, 1] -> log-probabilities of every member (B, M, K)."""
        outputs: Any = self._session.run(_OUTPUTS, {self._session.get_inputs()[0].name: images})
        return outputs[0]


def _has_nvidia_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
