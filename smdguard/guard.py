"""A loaded model: images go in, predictions with a measure of trust come out."""

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy
from PIL import Image

from smdguard.backends import Backend, BackendName, require_known_device
from smdguard.drawing import DIGIT_INK_SHARE
from smdguard.errors import BackendError, ImageError, InvalidInputError
from smdguard.files import MAX_IMAGE_BYTES, read
from smdguard.hub import find_model
from smdguard.model_folder import ONNX, WEIGHTS, ModelFolder
from smdguard.preprocess import ImageShape, Mode, decode, prepare, prepare_array
from smdguard.scores import agreement, average_log_probabilities, disagreement

if TYPE_CHECKING:
    from smdguard.backends.torch import Builder
    from smdguard.ensemble import Ensemble

ImageSource = str | os.PathLike | bytes | Image.Image | numpy.ndarray
# The data sets known by name, and how much of an image's side what it shows takes up: MNIST's digits fill 20 of 28
# pixels, the others' things reach from edge to edge. Written here, as importing DATASETS would import torch.
_INK_SHARES = {"mnist": DIGIT_INK_SHARE, "fashion-mnist": 1.0, "cifar10": 1.0}
# Networks make several times as much memory out of the images that they are shown.
_MAX_BATCH_SIZE = 256
_MAX_BATCH_VALUES = 2**21
# Rounding of 32-bit logarithms of a hundred thousand classes stays far below.
_MAX_SUM_ERROR = 1e-3


@dataclass(frozen=True)
class Prediction:
    """What the ensemble makes of one image.

    Args:
        label: Name of the most probable class.
        class_index: Its index.
        probability: Its probability, in [0, 1].
        agreement: Share of the members that decide for it, in [0, 1].
        disagreement: How much the members' probabilities differ, in nats; 0 where they are equal.
        suspicious: Whether the disagreement is above what 99 % of clean images stay under; None for a model that was
            not calibrated. Adversarial images can stay under it too: an absence of suspicion proves nothing.
        probabilities: Probability of every class, in the order of the labels.
    """

    label: str
    class_index: int
    probability: float
    agreement: float
    disagreement: float
    suspicious: bool | None
    probabilities: tuple[float, ...]


class Guard:
    """A verified model behind one back end.

    Args:
        folder: The model's files.
        backend: "onnx", "torch", or "auto": ONNX where the model has it, unless a builder is given.
        device: "auto", "cpu" or "cuda".
        builder: For members of the user's own, the function (image_shape, num_classes) that makes one.
    """

    def __init__(
        self,
        folder: ModelFolder,
        *,
        backend: BackendName = "auto",
        device: str = "auto",
        builder: "Builder | None" = None,
    ) -> None:
        require_known_device(device)
        self.name = folder.name
        self.config = folder.config
        self._folder = folder
        self._device = device
        self._builder = builder
        if backend == "auto":
            backend = "onnx" if folder.has(ONNX) and builder is None else "torch"
        self.backend = self._open_backend(backend)

    def _open_backend(self, backend: BackendName) -> Backend:
        if backend == "torch":
            from smdguard.backends.torch import TorchBackend

            return TorchBackend(self.ensemble, self._device)
        if backend != "onnx":
            raise InvalidInputError(f"the back end must be auto, onnx or torch, not {backend!r}")
        if not self._folder.has(ONNX):
            raise BackendError(f"{self.name} has no ONNX file; make one with smdguard export, or use --backend torch")
        from smdguard.backends.onnx import OnnxBackend

        content, source = self._folder.read(ONNX), str(self._folder.path / ONNX)
        return OnnxBackend(self.config.architecture, self.config.input, content, source, self._device)

    @cached_property
    def ensemble(self) -> "Ensemble":
        """The members as a PyTorch module, in evaluation mode on the guard's device."""
        from smdguard.backends.torch import load_ensemble, torch_device

        source = str(self._folder.path / WEIGHTS)
        weights = self._folder.read(WEIGHTS)
        ensemble = load_ensemble(self.config.architecture, self.config.input, weights, source, self._builder)
        return ensemble.to(torch_device(self._device))

    @property
    def _ink_share(self) -> float:
        return _INK_SHARES.get(self.config.training.dataset, DIGIT_INK_SHARE)

    @property
    def _usual_mode(self) -> Mode:
        """What the model was trained on: images as a known data set was made, those of a folder as a whole."""
        return "fit" if self.config.training.dataset in _INK_SHARES else "resize"

    @property
    def image_shape(self) -> ImageShape:
        """Channels, height and width of the images that the model takes."""
        return ImageShape(*self.config.input.shape)

    @property
    def batch_size(self) -> int:
        """How many images are shown to the model at a time: the larger, the fewer."""
        return max(1, min(_MAX_BATCH_SIZE, _MAX_BATCH_VALUES // math.prod(self.image_shape)))

    @overload
    def predict(self, images: ImageSource, *, preprocess: Mode | None = None) -> Prediction: ...
    @overload
    def predict(self, images: Iterable[ImageSource], *, preprocess: Mode | None = None) -> list[Prediction]: ...
    def predict(
        self, images: ImageSource | Iterable[ImageSource], *, preprocess: Mode | None = None
    ) -> Prediction | list[Prediction]:
        """Classify an image, or each of several.

        Args:
            images: A path, the bytes of a PNG or JPEG file, a PIL image, or an array (H, W), (H, W, C) or (C, H, W)
                of 8-bit integers or of floats in [0, 1].
            preprocess: How an image of another size becomes one of the model's: "fit" as the data set was made,
                "resize" as a whole, "none" not at all; None as in training, which is "resize" for a model that was
                trained on a folder of images, else "fit".

        Raises:
            ImageError: An image cannot be read or is outside the limits.
            InvalidInputError: An array is not an image, or what was given is none of these.
        """
        if isinstance(images, ImageSource) or not isinstance(images, Iterable):
            return self.predict_prepared(self.prepare(images, preprocess=preprocess)[None])[0]
        predictions, remaining = [], iter(images)
        while batch := list(islice(remaining, self.batch_size)):
            prepared = [self.prepare(image, preprocess=preprocess) for image in batch]
            predictions += self.predict_prepared(numpy.stack(prepared))
        return predictions

    def prepare(
        self, image: ImageSource, *, preprocess: Mode | None = None, source: str | None = None
    ) -> numpy.ndarray:
        """The image as the model takes it: (C, H, W) as 32-bit floats in [0, 1].

        `source` is what errors call the image; otherwise arguments and errors are those of predict.
        """
        mode = self._usual_mode if preprocess is None else preprocess
        if isinstance(image, numpy.ndarray):
            return prepare_array(image, self.image_shape, mode, source=source or "the array", ink_share=self._ink_share)
        if isinstance(image, Image.Image):
            return prepare(image, self.image_shape, mode, source=source or "the image", ink_share=self._ink_share)
        if isinstance(image, str | os.PathLike):
            # No more than an image may have; a file can be endless.
            source, image = source or str(image), read(Path(image), error=ImageError, limit=MAX_IMAGE_BYTES)
        if not isinstance(image, bytes):
            raise InvalidInputError(
                f"an image cannot be of type {type(image).__name__}; give a path, the bytes of a PNG or JPEG file, a "
                "PIL image, or a numpy array"
            )
        source = source or "the bytes"
        if len(image) > MAX_IMAGE_BYTES:
            raise ImageError(f"{source} has more than {MAX_IMAGE_BYTES:,} bytes, which is the limit")
        return prepare(decode(image, source), self.image_shape, mode, source=source, ink_share=self._ink_share)

    def member_log_probabilities(self, images: numpy.ndarray) -> numpy.ndarray:
        """As the back end's, but for any number of images: they are shown to the model a batch at a time."""
        batches = [images[start : start + self.batch_size] for start in range(0, len(images), self.batch_size)]
        return numpy.concatenate([self.backend.member_log_probabilities(batch) for batch in batches])

    def predict_prepared(self, images: numpy.ndarray) -> list[Prediction]:
        """Predictions for images (B, C, H, W) as 32-bit floats in [0, 1], which prepare gives; none for none.

        Raises:
            InvalidInputError: The images have another shape or type.
            BackendError: The back end fails, or gives no probabilities.
        """
        if not len(images):
            return []
        if images.dtype != numpy.float32 or images.shape[1:] != self.image_shape:
            wanted = ", ".join(map(str, self.image_shape))
            raise InvalidInputError(
                f"prepared images must be of float32 (B, {wanted}), as prepare gives them, not of {images.dtype} "
                f"{tuple(images.shape)}"
            )
        member_log_probabilities = self.member_log_probabilities(images)
        with numpy.errstate(over="ignore", invalid="ignore"):
            probabilities = numpy.exp(average_log_probabilities(member_log_probabilities))
            sums = probabilities.sum(axis=-1)
        # NaN of one member makes the average NaN; an ONNX file from elsewhere may give logits.
        if not numpy.allclose(sums, 1, rtol=0, atol=_MAX_SUM_ERROR):
            furthest = sums[abs(sums - 1).argmax()]  # NaN counts as the largest.
            raise BackendError(
                f"{self.name} gives outputs that are not probabilities (for one image they sum to {furthest:g}); its "
                "weights or its ONNX file are unusable"
            )
        agreements = agreement(member_log_probabilities)
        disagreements = disagreement(member_log_probabilities)
        suspicion = self.config.suspicion
        return [
            Prediction(
                label=self.config.labels[index],
                class_index=index,
                probability=float(row[index]),
                agreement=float(agreed),
                disagreement=float(disagreed),
                suspicious=None if suspicion is None else bool(disagreed > suspicion.threshold),
                probabilities=tuple(row.tolist()),
            )
            for row, index, agreed, disagreed in zip(
                probabilities, probabilities.argmax(-1).tolist(), agreements, disagreements, strict=True
            )
        ]


def load(
    model: str | Path, *, backend: BackendName = "auto", device: str = "auto", builder: "Builder | None" = None
) -> Guard:
    """Load a model, each file of it checked against its checksum before it is used.

    Args:
        model: A name of the zoo, the path of a model folder, or "org/repo@revision" on the Hugging Face Hub; a Path is
            always a folder.
        backend: "onnx", "torch", or "auto": ONNX where the model has it, unless a builder is given.
        device: "auto", "cpu" or "cuda".
        builder: For members of the user's own, the function (image_shape, num_classes) that makes one.

    Raises:
        UnknownModelError: There is no such model.
        IntegrityError: A file is missing, malformed, or not what its checksum names.
        HubError: It has to be fetched, and the Hub cannot be reached.
        BackendError: The back end or device is not to be had.

    Example:
        >>> guard = load("smd-lenet-mnist")
        >>> guard.predict(numpy.zeros((28, 28), dtype=numpy.uint8)).suspicious
        True
    """
    return Guard(find_model(model), backend=backend, device=device, builder=builder)
