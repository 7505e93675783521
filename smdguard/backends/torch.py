"""Ensembles as PyTorch modules: built from a configuration, filled from safetensors, run on any device."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial

import numpy
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from smdguard.architectures import ARCHITECTURES
from smdguard.backends import require_known_device
from smdguard.ensemble import Ensemble
from smdguard.errors import BackendError, IntegrityError
from smdguard.factories import ANY_ERROR, in_one_line, is_factory
from smdguard.manifest import Architecture, Input

Builder = Callable[[tuple[int, int, int], int], nn.Module]
"""Makes a member from the image's shape and the number of classes."""

# Those that PyTorch computes with; of smaller ones it knows little more than the names.
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def torch_device(name: str) -> torch.device:
    """The device that "auto", "cpu" or "cuda" stands for on this machine.

    Raises:
        InvalidInputError: It is called otherwise.
        BackendError: "cuda" was asked for and PyTorch cannot use a GPU here.
    """
    require_known_device(name)
    if name == "auto":
        name = "cuda" if _has_usable_gpu() else "cpu"
    elif name == "cuda" and not _has_usable_gpu():
        raise BackendError("device 'cuda' was asked for, but PyTorch finds no usable CUDA GPU; use --device cpu")
    return torch.device(name)


def _has_usable_gpu() -> bool:
    """Whether PyTorch finds a GPU and can compute with it; of one too old for it, it only warns."""
    if not torch.cuda.is_available():
        return False
    try:
        torch.ones(1, device="cuda").add(1).item()
    except RuntimeError:
        return False
    return True


def build_ensemble(architecture: Architecture, image_input: Input, builder: Builder | None = None) -> Ensemble:
    """An ensemble with fresh weights, drawn from PyTorch's default generator.

    Args:
        architecture: The members.
        image_input: What they take.
        builder: Makes a member of the user's own; no code is imported because a configuration names it.

    Raises:
        IntegrityError: The architecture is not one that this version knows.
    """
    builder = builder or partial(_known(architecture.name), negative_slope=architecture.negative_slope)
    members = [builder(image_input.shape, architecture.num_classes) for _ in range(architecture.num_members)]
    return Ensemble(members, mean=image_input.mean, std=image_input.std)


def _known(architecture: str) -> Callable[..., nn.Module]:
    if architecture in ARCHITECTURES:
        return ARCHITECTURES[architecture]
    if is_factory(architecture):
        raise IntegrityError(
            f"the members are made by {architecture}, a function of somebody's own, and no code is imported just "
            "because a file names it; name it with --builder, or pass it: smdguard.load(model, builder=function)"
        )
    known = ", ".join(ARCHITECTURES)
    raise IntegrityError(f"architecture {architecture!r} is unknown to this version; it knows {known}")


def load_ensemble(
    architecture: Architecture, image_input: Input, weights: bytes, source: str, builder: Builder | None = None
) -> Ensemble:
    """The ensemble with the weights of a safetensors file, in evaluation mode and without gradients for its weights.

    Args:
        architecture: The members.
        image_input: What they take.
        weights: Content of the safetensors file.
        source: What errors call the file.
        builder: As in build_ensemble.

    Raises:
        IntegrityError: The content is not safetensors, or not the weights of this architecture; or a builder gives
            members whose state is not tensors alone.
    """
    try:
        tensors = load(weights)
    except SafetensorError as error:
        raise IntegrityError(f"{source} is not a safetensors file: {error}") from error
    except KeyError as error:  # What safetensors says of a type that it has no tensors for.
        raise IntegrityError(f"{source} holds weights of a type that cannot be used, {error}") from error
    strange = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}.difference(_FLOATS)
    if strange:
        raise IntegrityError(f"{source} holds weights of a type that cannot be used, {min(map(str, strange))}")
    # Nothing is allocated before the sizes that a configuration claims are found to be those of the weights. A builder
    # is the user's own code, which may look into its tensors.
    with torch.device("meta") if builder is None else nullcontext():
        ensemble = _try_to_build(architecture, image_input, builder)
    if not holds_tensors_alone(ensemble):
        raise IntegrityError(
            f"{source} holds tensors alone, and the members that were built for it more: their state must be tensors, "
            "of shapes that do not wait for the first images"
        )
    if _shapes(tensors) != _shapes(ensemble.state_dict()):
        raise IntegrityError(
            f"{source} does not hold the weights of {architecture.num_members} members of {architecture.name} with "
            f"{architecture.num_classes} classes"
        )
    if builder is None:
        ensemble = build_ensemble(architecture, image_input)
    ensemble.load_state_dict({name: _without_subnormals(tensor) for name, tensor in tensors.items()})
    # Channels last makes the convolutions and poolings of small networks about 1.6 times as fast on a CPU. Only weights
    # with four axes can have that order, and a network of the user's own may have more.
    nn.utils.convert_conv2d_weight_memory_format(ensemble, torch.channels_last)
    return ensemble.eval().requires_grad_(False)


def holds_tensors_alone(network: nn.Module) -> bool:
    """Whether all that is saved of a network is tensors, of shapes that are known before it sees the first images."""
    return all(isinstance(value, Tensor) and not is_lazy(value) for value in network.state_dict().values())


def _without_subnormals(weights: Tensor) -> Tensor:
    """The weights with those below the smallest normal number set to zero.

    Weight decay drives unused weights there; they change no output, but a CPU takes many times as long over them.
    """
    if not weights.is_floating_point():
        return weights
    return torch.where(weights.abs() < torch.finfo(weights.dtype).tiny, 0, weights)


def _try_to_build(architecture: Architecture, image_input: Input, builder: Builder | None) -> Ensemble:
    try:
        return build_ensemble(architecture, image_input, builder)
    except IntegrityError:
        raise
    except ANY_ERROR as error:
        size = f"{image_input.height} x {image_input.width}"
        raise IntegrityError(
            f"{architecture.name} cannot be built for images of {size} pixels: {in_one_line(error)}"
        ) from error


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


class TorchBackend:
    """Runs an ensemble on numpy images.

    Args:
        ensemble: In evaluation mode.
        device: "auto", "cpu" or "cuda".
    """

    name = "torch"

    def __init__(self, ensemble: Ensemble, device: str) -> None:
        self._device = torch_device(device)
        self._ensemble = ensemble.to(self._device)

    def member_log_probabilities(self, images: numpy.ndarray) -> numpy.ndarray:
        """Images (B, C, H, W) as 32-bit floats in [0, 1] -> log-probabilities of every member (B, M, K).

        Raises:
            BackendError: There is too little memory, or members of the user's own fail.
        """
        try:
            with torch.inference_mode():
                return self._ensemble.member_log_probabilities(torch.from_numpy(images).to(self._device)).cpu().numpy()
        except ANY_ERROR as error:
            raise BackendError(
                f"the members cannot be run by PyTorch on {self._device.type} for images {images.shape}: "
                f"{in_one_line(error)}"
            ) from error
