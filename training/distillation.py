"""Feature distillation: images that look like one thing to people and like another to a member."""

from itertools import islice

import torch
from torch import Tensor

from smdguard.architectures import LayeredNetwork
from smdguard.ensemble import Ensemble
from smdguard.errors import InvalidInputError
from smdguard.threat import ThreatModel, unit
from training.modes import evaluating


def distil(
    ensemble: Ensemble,
    sources: Tensor,
    targets: Tensor,
    layer: int,
    threat: ThreatModel,
    *,
    num_steps: int,
    step_ratio: float,
) -> Tensor:
    """For each member, the images near `sources` whose features come closest to those of `targets`.

    x'_m = argmin_z ||h_m(z) - h_m(x_t)||^2 over the threat model's ball around x_s, by steps from x_s against the sign
    of the summed gradients, each divided by its L1 norm. Crafted in evaluation mode.

    Args:
        ensemble: Members that are LayeredNetworks.
        sources: x_s (B, C, H, W) in [0, 1].
        targets: x_t (B, C, H, W) in [0, 1].
        layer: h is the features of this layer before its activation; counted from 0.
        threat: The ball, in the norm "linf".
        num_steps: Number of steps.
        step_ratio: Length of a step relative to epsilon.

    Returns:
        (M, B, C, H, W).

    Reference:
        Yang et al., "DVERGE: Diversifying Vulnerabilities for Enhanced Robust Generation of Ensembles", 2020, Eq. 1.
    """
    sources = sources.expand(len(ensemble.members), *sources.shape)
    distilled, momentum = sources, torch.zeros_like(sources)
    step_size = step_ratio * threat.epsilon
    with evaluating(ensemble):
        with torch.no_grad():
            wanted = member_features(ensemble, targets.expand_as(sources), layer)
        for _ in range(num_steps):
            leaf = distilled.detach().requires_grad_()
            distance = (member_features(ensemble, leaf, layer) - wanted).square().sum()
            gradient = torch.autograd.grad(distance, leaf)[0]
            momentum = momentum + unit(gradient.flatten(0, 1), order=1).view_as(gradient)
            distilled = threat.project(sources, distilled - step_size * momentum.sign())
    return distilled


def member_features(ensemble: Ensemble, images: Tensor, layer: int) -> Tensor:
    """Features of every member at a layer, before its activation: (M, B, C, H, W) -> (M, B, ...)."""
    members = [_layered(member) for member in ensemble.members]
    features = (member.layers(batch) for member, batch in zip(members, ensemble.normalise(images), strict=True))
    return torch.stack([next(islice(layers, layer, None)) for layers in features])


def num_layers(ensemble: Ensemble) -> int:
    """Number of layers that the members' features can be taken from."""
    return _layered(ensemble.members[0]).num_layers


def _layered(member: torch.nn.Module) -> LayeredNetwork:
    if not isinstance(member, LayeredNetwork):
        raise InvalidInputError(f"distillation needs members that are LayeredNetworks; {type(member).__name__} is not")
    return member
