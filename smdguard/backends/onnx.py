"""Ensembles as ONNX graphs, run by ONNX Runtime without PyTorch."""

import ctypes
import io
import json
import os
import sys
from contextlib import nullcontext, redirect_stdout
from typing import Any

import numpy
import onnxruntime

from smdguard.errors import BackendError, IntegrityError, printable
from smdguard.manifest import MAX_LENGTH, Architecture, Input

_OUTPUT = "member_log_probabilities"


class OnnxBackend:
    """Runs an exported ensemble on numpy images.

    Args:
        architecture: The members.
        image_input: What they take.
        model: Content of the ONNX file.
        source: What errors call it.
        device: "auto", "cpu" or "cuda".

    Raises:
        IntegrityError: The content is not an ensemble that smdguard exported, or not one of this architecture.
        BackendError: "cuda" was asked for and ONNX Runtime cannot use a GPU here.
    """

    name = "onnx"

    def __init__(self, architecture: Architecture, image_input: Input, model: bytes, source: str, device: str) -> None:
        self._session = _open_session(model, source, device)
        self._source = source
        self._scores_shape = (architecture.num_members, architecture.num_classes)
        self._require_interface(image_input.shape, source)
        try:  # What the graph declares of its output may be wrong.
            self.member_log_probabilities(numpy.zeros((2, *image_input.shape), numpy.float32))
        except BackendError as error:
            raise IntegrityError(str(error)) from error

    def member_log_probabilities(self, images: numpy.ndarray) -> numpy.ndarray:
        """Images (B, C, H, W) as 32-bit floats in [0, 1] -> log-probabilities of every member (B, M, K).

        Raises:
            BackendError: The graph cannot be run on so many images, or gives scores of another shape.
        """
        try:
            outputs: Any = self._session.run([_OUTPUT], {self._session.get_inputs()[0].name: images})
        except Exception as error:  # ONNX Runtime's exceptions share no narrower public ancestor.
            raise BackendError(f"{self._source} cannot be run by ONNX Runtime: {_first_line(error)}") from error
        wanted = (len(images), *self._scores_shape)
        if outputs[0].shape != wanted:
            raise BackendError(
                f"{self._source} must give {_OUTPUT} {wanted} for {len(images)} images, as config.json says, but gives "
                f"{outputs[0].shape}"
            )
        return outputs[0]

    def _require_interface(self, image_shape: tuple[int, int, int], source: str) -> None:
        """Refuse a graph that declares other images than the configuration, or not the output that is asked for."""
        shape = _input_shape(self._session)
        if tuple(shape[1:]) != image_shape or isinstance(shape[0], int):
            wanted = ", ".join(map(str, image_shape))
            raise IntegrityError(
                f"{source} must take one tensor(float) (B, {wanted}) for any B, as config.json says, but takes "
                f"{_inputs_in_words(self._session)}"
            )
        if (_OUTPUT, "tensor(float)") not in {(output.name, output.type) for output in self._session.get_outputs()}:
            raise IntegrityError(f"{source} has no output {_OUTPUT} of tensor(float); export it with smdguard export")


class OnnxClassifier:
    """Anyone's classifier: images in [0, 1] go in, its first output are logits or log-probabilities.

    Args:
        model: Content of the ONNX file.
        source: What errors call it.
        device: "auto", "cpu" or "cuda".

    Raises:
        IntegrityError: The content cannot be run, or does not take one batch of images of a known size, their 1 or 3
            channels first.
        BackendError: "cuda" was asked for and ONNX Runtime cannot use a GPU here.
    """

    def __init__(self, model: bytes, source: str, device: str) -> None:
        self._session = _open_session(model, source, device)
        shape = _input_shape(self._session)
        if not _are_images(shape):
            raise IntegrityError(
                f"{source} must take one tensor(float) (B, C, H, W) of fixed size, with C 1 or 3 and no length above "
                f"{MAX_LENGTH}, but takes {_inputs_in_words(self._session)}; where channels come last, transpose "
                "inside the graph"
            )
        self.image_shape: tuple[int, int, int] = tuple(shape[1:])
        self.labels = _labels(self._session)
        self._batch_size: int | None = shape[0] if isinstance(shape[0], int) else None

    def __call__(self, images: numpy.ndarray) -> numpy.ndarray:
        """Images (B, C, H, W) as 32-bit floats in [0, 1] -> logits or log-probabilities (B, K)."""
        if self._batch_size is None:
            return self._run(images)
        # Filled up with empty images, for a graph that takes one size of batch only.
        size = self._batch_size
        padded = numpy.concatenate([images, numpy.zeros_like(images, shape=(-len(images) % size, *images.shape[1:]))])
        pieces = [self._run(padded[start : start + size]) for start in range(0, len(padded), size)]
        return numpy.concatenate(pieces)[: len(images)]

    def _run(self, images: numpy.ndarray) -> numpy.ndarray:
        first = self._session.get_outputs()[0].name
        outputs: Any = self._session.run([first], {self._session.get_inputs()[0].name: images})
        return outputs[0]


def _open_session(model: bytes, source: str, device: str) -> onnxruntime.InferenceSession:
    providers = ["CPUExecutionProvider"]
    # A runtime that was built without CUDA warns of it when it is asked for.
    if device != "cpu" and _has_nvidia_driver() and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        with redirect_stdout(io.StringIO()):  # It prints which libraries are missing, into what a command answers.
            onnxruntime.preload_dlls()  # Finds the CUDA libraries that came with PyTorch.
        providers.insert(0, "CUDAExecutionProvider")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # What goes wrong is raised below; the log would only repeat it.
    # ONNX Runtime would look for external data, which nobody has verified, in the working directory.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    try:
        # It prints that it goes on without a GPU that cannot be used.
        with redirect_stdout(io.StringIO()) if len(providers) > 1 else nullcontext():
            session = onnxruntime.InferenceSession(model, options, providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions share no narrower public ancestor.
        if "external data" in str(error).lower():
            raise IntegrityError(
                f"{source} keeps its weights in another file, which is not verified; export it as one file, from "
                "PyTorch with torch.onnx.export(..., external_data=False)"
            ) from error
        raise IntegrityError(f"{source} cannot be run by ONNX Runtime: {_first_line(error)}") from error
    # Those available include CUDA even without a GPU; only a session knows what it got.
    if device == "cuda" and "CUDAExecutionProvider" not in session.get_providers():
        raise BackendError(
            "device 'cuda' was asked for, but ONNX Runtime cannot use a CUDA GPU here; use --device cpu, or PyTorch "
            "with --backend torch"
        )
    return session


def _input_shape(session: onnxruntime.InferenceSession) -> list[Any]:
    """Of the one tensor of 32-bit floats that a graph takes; empty where it takes anything else."""
    inputs = session.get_inputs()
    return inputs[0].shape if len(inputs) == 1 and inputs[0].type == "tensor(float)" else []


def _are_images(shape: list[Any]) -> bool:
    """Whether that is (B, C, H, W) of a size that a model folder could have too; B may be open."""
    if len(shape) != 4 or not all(isinstance(length, int) for length in shape[1:]):
        return False
    return shape[1] in (1, 3) and all(1 <= length <= MAX_LENGTH for length in shape if isinstance(length, int))


def _inputs_in_words(session: onnxruntime.InferenceSession) -> str:
    return ", ".join(f"{one.name!r} {one.type} {one.shape}" for one in session.get_inputs())


def _labels(session: onnxruntime.InferenceSession) -> tuple[str, ...] | None:
    """The names of the classes, where the file says them as ours do."""
    try:
        labels = json.loads(session.get_modelmeta().custom_metadata_map.get("labels", "null"))
    except (ValueError, RecursionError):
        return None
    return tuple(printable(str(label)) for label in labels) if isinstance(labels, list) else None


def _has_nvidia_driver() -> bool:
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
