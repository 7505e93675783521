"""Members of the user's own, made by a function package.module:factory."""

import torch
from torch import Tensor, nn

from smdguard.architectures import ARCHITECTURES, LayeredNetwork
from smdguard.backends.torch import Builder, holds_tensors_alone
from smdguard.datasets import Dataset
from smdguard.errors import InvalidInputError
from smdguard.factories import ANY_ERROR, import_factory, in_one_line, is_factory
from training.parameters import OF_SECOND_ORDER


def builder_of(architecture: str) -> Builder | None:
    """What makes the user's own members; None for a network that comes with smdguard.

    Args:
        architecture: One of ARCHITECTURES, or package.module:factory, a function (image_shape, num_classes) -> a module
            from normalised images (B, C, H, W) to logits (B, K).

    Raises:
        InvalidInputError: There is no such architecture or function.
    """
    if architecture in ARCHITECTURES:
        return None
    if not is_factory(architecture):
        raise InvalidInputError(
            f"there is no architecture {architecture!r}; there are {', '.join(ARCHITECTURES)}, or a function of your "
            "own as package.module:factory"
        )
    return import_factory(architecture)


def require_trainable(
    architecture: str, builder: Builder, dataset: Dataset, *, layered: bool, second_order: bool
) -> None:
    """Try two members of the user's own out on two images.

    Args:
        architecture: Its name.
        builder: Makes it.
        dataset: Whose images it has to sort.
        layered: Whether it has to be a LayeredNetwork, for the features of its layers to be distilled.
        second_order: Whether its input gradients are trained.

    Raises:
        InvalidInputError: It cannot be made or saved, does not give logits, is no LayeredNetwork or has no second
            derivatives where it has to, or cannot learn beside others.
    """
    num_classes = len(dataset.labels)
    images = torch.zeros(2, *dataset.image_shape)
    try:
        with torch.random.fork_rng(devices=[]):
            member, other = (builder(dataset.image_shape, num_classes) for _ in range(2))
            logits = member.eval()(images)
    except ANY_ERROR as error:
        raise InvalidInputError(
            f"{architecture} does not work for images {dataset.image_shape} of {num_classes} classes: "
            f"{in_one_line(error)}"
        ) from error
    if not isinstance(logits, Tensor) or logits.shape != (2, num_classes):
        got = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise InvalidInputError(f"{architecture} must turn 2 images into logits (2, {num_classes}), but gave {got}")
    if layered and not isinstance(member, LayeredNetwork):
        raise InvalidInputError(
            f"dverge and smd-plus look into the members' layers; {architecture} gives a {type(member).__name__}, which "
            "is not an smdguard.architectures.LayeredNetwork: derive it from that, or choose smd"
        )
    if not any(weight.requires_grad for weight in member.parameters()) or not logits.requires_grad:
        raise InvalidInputError(f"{architecture} gives a {type(member).__name__} without a weight that can be trained")
    if second_order:
        _require_second_derivatives(architecture, member, images)
    _require_weights_of_their_own(architecture, member, other)


def _require_second_derivatives(architecture: str, member: nn.Module, images: Tensor) -> None:
    weights = [weight for weight in member.parameters() if weight.requires_grad]
    images = images.clone().requires_grad_()
    try:
        (gradient,) = torch.autograd.grad(member(images).sum(), images, create_graph=True)
        if gradient.requires_grad:  # That of a linear member does not depend on the images, but on its weights.
            torch.autograd.grad(gradient.square().sum(), weights, allow_unused=True)
    except RuntimeError as error:
        raise InvalidInputError(
            f"{', '.join(OF_SECOND_ORDER)} train the members' input gradients, which {architecture} does not allow "
            f"({in_one_line(error)}); attention allows it within torch.nn.attention.sdpa_kernel(SDPBackend.MATH), and "
            "naive, adp and dverge do without"
        ) from error


def _require_weights_of_their_own(architecture: str, *networks: nn.Module) -> None:
    """Refuse networks that share weights, or hold what is no tensor of its own from the start and cannot be saved."""
    if not all(map(holds_tensors_alone, networks)):
        raise InvalidInputError(
            f"{architecture} gives a network that cannot be saved: its state must be tensors alone, of shapes that do "
            "not wait for the first images"
        )
    states = [network.state_dict() for network in networks]
    tensors = [tensor for state in states for tensor in state.values() if tensor.numel()]
    if len({tensor.data_ptr() for tensor in tensors}) < len(tensors):
        raise InvalidInputError(
            f"{architecture} gives members that share weights, with each other or within; each call has to make a "
            "network of its own, and a network must not use one weight under two names"
        )
