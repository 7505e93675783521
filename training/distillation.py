"""Feature distillation: images that look like one thing to people and like another to a member."""

import torch
from torch import Tensor

from smdguard.ensemble import Ensemble
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
    of the summed gradients, each divided by its L1 norm. An image that is its own target stays as it is. Crafted in
    evaluation mode.

    Args:
        ensemble: Equally built LayeredNetworks.
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
    # An image that is its own target is there already; normalised, the rounding in its distance would become a step.
    is_to_move = (sources != targets).flatten(1).any(dim=1).view(-1, 1, 1, 1)
    sources = sources.expand(len(ensemble.members), *sources.shape)
    distilled, momentum = sources, torch.zeros_like(sources)
    step_size = step_ratio * threat.epsilon
    with evaluating(ensemble):
        with torch.no_grad():
            wanted = ensemble.member_features(targets, layer)
        for _ in range(num_steps):
            leaf = distilled.detach().requires_grad_()
            distance = (ensemble.member_features(leaf, layer) - wanted).square().sum()
            gradient = torch.autograd.grad(distance, leaf)[0] * is_to_move
            momentum = momentum + unit(gradient.flatten(0, 1), order=1).view_as(gradient)
            distilled = threat.project(sources, distilled - step_size * momentum.sign())
    return distilled
