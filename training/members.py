"""Members of the user's own, made by a function package.module:factory."""

import torch

from smdguard.architectures import ARCHITECTURES, LayeredNetwork
from smdguard.backends.torch import Builder
from smdguard.datasets import Dataset
from smdguard.errors import InvalidInputError
from smdguard.factories import ANY_ERROR, import_factory, in_one_line, is_factory


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


def require_trainable(architecture: str, builder: Builder, dataset: Dataset, *, layered: bool) -> None:
    """Try two members of the user's own out on two images.

    Args:
        architecture: Its name.
        builder: Makes it.
        dataset: Whose images it has to sort.
        layered: Whether it has to be a LayeredNetwork, for the features of its layers to be distilled.

    Raises:
        InvalidInputError: It cannot be made, does not give logits, is no LayeredNetwork where it has to be, or cannot
            learn beside others.
    """
    num_classes = len(dataset.labels)
    try:
        with torch.random.fork_rng(devices=[]):
            member, other = (builder(dataset.image_shape, num_classes) for _ in range(2))
            logits = member.eval()(torch.zeros(2, *dataset.image_shape))
    except ANY_ERROR as error:
        raise InvalidInputError(
            f"{architecture} does not work for images {dataset.image_shape} of {num_classes} classes: "
            f"{in_one_line(error)}"
        ) from error
    if not isinstance(logits, torch.Tensor) or logits.shape != (2, num_classes):
        got = f"shape {tuple(logits.shape)}" if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise InvalidInputError(f"{architecture} must turn 2 images into logits (2, {num_classes}), but gave {got}")
    if layered and not isinstance(member, LayeredNetwork):
        raise InvalidInputError(
            f"dverge and smd-plus look into the members' layers; {architecture} gives a {type(member).__name__}, which "
            "is not an smdguard.architectures.LayeredNetwork: derive it from that, or choose smd"
        )
    if not any(weight.requires_grad for weight in member.parameters()) or not logits.requires_grad:
        raise InvalidInputError(f"{architecture} gives a {type(member).__name__} without a weight that can be trained")
    tensors = [tensor for network in (member, other) for tensor in network.state_dict().values() if tensor.numel()]
    if len({tensor.data_ptr() for tensor in tensors}) < len(tensors):
        raise InvalidInputError(
            f"{architecture} gives members that share weights, with each other or within; each call has to make a "
            "network of its own, and a network must not use one weight under two names"
        )
