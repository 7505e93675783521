"""Wrong use, caught before time is spent on it."""

import math
import operator
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from smdguard.attacks import Model
from smdguard.auditing.gradients import has_gradients
from smdguard.errors import InvalidInputError
from smdguard.factories import ANY_ERROR, in_one_line
from smdguard.threat import ThreatModel


def checked_images(images: Any) -> Tensor:
    """The images as 32-bit floats (B, C, H, W).

    Raises:
        InvalidInputError: They have another shape or type, are on a device that cannot do, are not finite, or leave
            [0, 1].
    """
    images = _tensor(images, "images")
    if images.dim() != 4 or not images.numel():
        raise InvalidInputError(
            f"images must have the shape (B, C, H, W) with B at least 1 and pixels in each, not {tuple(images.shape)}"
        )
    if not images.is_floating_point():
        raise InvalidInputError(f"images must be floats in [0, 1], not {images.dtype}; divide 8-bit images by 255")
    if images.device.type == "mps":
        raise InvalidInputError("images are on mps, which has no 64-bit floats; move the model and them to the CPU")
    # What numpy divides by 255 becomes 64 bits wide, and the weights of a model have 32.
    images = images.float()
    num_broken = int((~images.isfinite()).flatten(1).any(dim=1).sum())
    if num_broken:
        raise InvalidInputError(f"{num_broken} of {len(images)} images hold NaN or infinite pixels")
    low, high = images.min().item(), images.max().item()
    if low < 0 or high > 1:
        raise InvalidInputError(
            f"images must lie in [0, 1], but these span [{low:.4g}, {high:.4g}]; normalisation belongs in the model"
        )
    return images


def _tensor(values: Any, what: str) -> Tensor:
    """A tensor that a gradient can be taken at, also of one made under torch.inference_mode()."""
    if isinstance(values, numpy.ndarray):
        # Those that were turned round or may only be read are nothing that torch can look at in place.
        values = numpy.require(values, requirements=["C", "W"])
    try:
        tensor = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidInputError(
            f"{what} must be a tensor or an array of numbers, not {type(values).__name__} ({in_one_line(error)})"
        ) from error
    return tensor.clone() if tensor.is_inference() else tensor


def checked_labels(labels: Any, images: Tensor) -> Tensor:
    """The labels as an integer tensor (B,) on the images' device.

    Raises:
        InvalidInputError: There is not one integer for each image.
    """
    labels = _tensor(labels, "labels")
    if labels.shape != images.shape[:1]:
        raise InvalidInputError(
            f"labels must have the shape ({len(images)},), one for each image, not {tuple(labels.shape)}"
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise InvalidInputError(f"labels must be class indices (integers), not {labels.dtype}")
    return labels.to(images.device, torch.int64)


def check_model(model: Model, images: Tensor, labels: Tensor, name: str = "the model") -> int:
    """Try a model on a few images; returns how many classes it tells apart.

    Raises:
        InvalidInputError: It is no function of images, is in training mode, or its batch normalisation is, its weights
            were made under torch.inference_mode(), it fails, its output is not (B, K) finite values, or a label is no
            class.
    """
    if not callable(model):
        raise InvalidInputError(
            f"{name} must be a function of images, such as a torch.nn.Module, not {type(model).__name__}; what "
            "smdguard.load returns holds one as its `ensemble`"
        )
    if isinstance(model, nn.Module):
        _check_module(model, name)
    output = _checked_output(model, images[:2], name)
    # Some models turn the answer for a single image into one without a row.
    _checked_output(model, images[:1], name)
    if not output.isfinite().all():
        raise InvalidInputError(f"{name} gave NaN or infinite values for the first images; logits must be finite")
    num_classes = output.shape[1]
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise InvalidInputError(
            f"labels must lie in 0 to {num_classes - 1}, the classes of {name}, but these span {low} to {high}"
        )
    sums = output.float().sum(dim=1)
    rounding = 2e-2 if output.dtype in (torch.float16, torch.bfloat16) else 1e-4
    if bool((output >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=rounding):
        raise InvalidInputError(
            f"{name} seems to give probabilities; give logits or log-probabilities (leave out the last softmax): where "
            "it is sure, probabilities hardly change, attacks find no way, and the audit would overstate its robustness"
        )
    return num_classes


def _check_module(model: nn.Module, name: str) -> None:
    if model.training:
        raise InvalidInputError(f"{name} is in training mode; call model.eval() first")
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training for module in model.modules()):
        raise InvalidInputError(
            f"{name} has batch normalisation in training mode, which lets images change each other's answers; call "
            "model.eval() last"
        )
    if any(weights.is_inference() for weights in (*model.parameters(), *model.buffers())):
        raise InvalidInputError(
            f"{name} has weights made under torch.inference_mode(), along which no gradient can be taken; make or load "
            "it outside"
        )


def _checked_output(model: Model, images: Tensor, name: str) -> Tensor:
    return checked_logits(answer(model, images, name), images, name)


def answer(model: Model, images: Tensor, name: str) -> Any:
    """What a model gives for a few images, whatever it is.

    Raises:
        InvalidInputError: It fails.
    """
    try:
        with torch.no_grad():
            return model(images.clone())
    except ANY_ERROR as error:
        given = f"{images.dtype} images {tuple(images.shape)} on {images.device}"
        raise InvalidInputError(f"{name} cannot be asked about {given}: {in_one_line(error)}") from error


def checked_logits(output: Any, images: Tensor, name: str) -> Tensor:
    """What a model gave for a few images: (B, K).

    Raises:
        InvalidInputError: It is something else.
    """
    wanted = f"{name} must turn {len(images)} images into logits ({len(images)}, K)"
    if not isinstance(output, Tensor):
        logits = "its .logits" if hasattr(output, "logits") else "the tensor of logits alone"
        raise InvalidInputError(f"{wanted}, but gave {_kind(output)}; wrap it in a function that returns {logits}")
    if output.dim() != 2 or len(output) != len(images) or output.shape[1] < 2:
        raise InvalidInputError(f"{wanted}, but gave shape {tuple(output.shape)}")
    if output.device != images.device:
        raise InvalidInputError(f"{name} was given images on {images.device}, but gave its outputs on {output.device}")
    return output


def _kind(output: Any) -> str:
    """The type of what is no tensor, and what it holds where that is known."""
    kind = type(output).__name__
    if isinstance(output, Mapping):
        return f"{kind} with {', '.join(map(repr, output))}"
    return f"{kind} of {len(output)}" if isinstance(output, list | tuple) else kind


def check_surrogate(name: str, model: Model, images: Tensor, labels: Tensor, num_classes: int) -> None:
    """Try a model that black-box attacks are to be made on.

    Raises:
        InvalidInputError: It is not as an audited model has to be, has other classes, or gives no input gradients.
    """
    found = check_model(model, images, labels, f"the surrogate {name}")
    if found != num_classes:
        raise InvalidInputError(f"the surrogate {name} has {found} classes, and the model {num_classes}")
    if not has_gradients(model, images[:2]):
        raise InvalidInputError(f"the surrogate {name} gives no input gradients; attacks on it are made along them")


def check_threat(threat: ThreatModel) -> None:
    """See that a threat model is one.

    Raises:
        InvalidInputError: It is something else.
    """
    if not isinstance(threat, ThreatModel):
        raise InvalidInputError(f"threat must be a ThreatModel, such as ThreatModel('linf', 0.1), not {threat!r}")


def checked_seed(seed: Any) -> int:
    """The seed as Python's own integer, which a report can hold; numpy has others.

    Raises:
        InvalidInputError: It is no integer.
    """
    try:
        if isinstance(seed, bool):
            raise TypeError
        return operator.index(seed)
    except TypeError:
        raise InvalidInputError(f"seed must be an integer, not {seed!r}") from None


def checked_class_names(class_names: Any, num_classes: int) -> tuple[str, ...]:
    """The names of the classes, or none.

    Raises:
        InvalidInputError: They are no sequence or array of strings, or there are some and not one for each class.
    """
    # A set has an order of its own, another each time.
    in_order = isinstance(class_names, Collection) and not isinstance(class_names, str | set | frozenset)
    if not in_order or not all(isinstance(name, str) for name in class_names):
        raise InvalidInputError(f"class_names must be a sequence of strings, not {class_names!r}")
    if len(class_names) not in (0, num_classes):
        raise InvalidInputError(f"class_names has {len(class_names)} names, and the model {num_classes} classes")
    return tuple(map(str, class_names))


def checked_epsilons(epsilons: Sequence[float], threat: ThreatModel) -> list[float]:
    """The radii to audit, ascending, the threat model's own last.

    Raises:
        InvalidInputError: They are no numbers, or a radius is negative or above the threat model's.
    """
    try:
        wanted = [float(epsilon) for epsilon in epsilons]
    except (TypeError, ValueError, RuntimeError):
        raise InvalidInputError(f"epsilons must be a sequence of numbers, not {epsilons!r}") from None
    # A radius such as 3 * 0.1 is meant to be 0.3.
    radii = [threat.epsilon if math.isclose(epsilon, threat.epsilon) else epsilon for epsilon in wanted]
    for radius in radii:
        if not 0 <= radius <= threat.epsilon:
            raise InvalidInputError(f"every epsilon must lie between 0 and {threat.epsilon:g}, not {radius:g}")
    return sorted({*radii, threat.epsilon})
