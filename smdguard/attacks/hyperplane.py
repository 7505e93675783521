"""The shortest way from an image to a hyperplane, inside the box [0, 1]."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from smdguard.threat import Norm

# Of a normal's largest entry; pixels that weigh less do not move.
SMALLEST_WEIGHT = 1e-8


def step_onto_hyperplane(images: Tensor, normals: Tensor, gaps: Tensor, norm: Norm) -> Tensor:
    """The shortest step d with <normal, d> = gap and image + d in the box; as far as the box allows if none gets there.

    In the optimum all pixels set out towards the hyperplane at once, at equal speed for "linf" and at that of their
    weight for "l2", and each goes on until it meets the box. So the time of arrival lies between two of those meetings,
    which sorting brings in order.

    Args:
        images: Where the steps begin, (B, C, H, W) in [0, 1].
        normals: Of the hyperplanes, the same shape.
        gaps: By how much <normal, image> has to grow, (B,).
        norm: In which the step is shortest.

    Reference:
        Croce, Hein, "Minimally Distorted Adversarial Examples with a Fast Adaptive Boundary Attack", 2020, section 2.
    """
    points, flat = images.flatten(1), normals.flatten(1)
    largest = flat.abs().amax(dim=1, keepdim=True)
    scale = torch.where(largest > 0, largest, torch.ones_like(largest))
    weight = flat.abs() / scale
    weight = weight.where(weight > SMALLEST_WEIGHT, 0)
    distance = gaps.abs().unsqueeze(1) / scale
    direction = flat.sign() * gaps.sign().unsqueeze(1)
    room = torch.where(direction > 0, 1 - points, points)
    speed = (weight > 0).to(weight) if norm == "linf" else weight
    stop = (room / speed).where(weight > 0, 0)
    stops, order = stop.sort(dim=1)
    # Between two stops: what the pixels that stand have contributed, and how fast those that move go on contributing.
    stopped = pad((weight * room).gather(1, order).cumsum(dim=1), (1, 0))
    moving = pad((weight * speed).gather(1, order).flip(1).cumsum(dim=1).flip(1), (0, 1))
    num_stopped = (stopped[:, 1:] + stops * moving[:, 1:] < distance).sum(dim=1, keepdim=True)
    rate = moving.gather(1, num_stopped).clamp_min(torch.finfo(moving.dtype).tiny)
    arrival = ((distance - stopped.gather(1, num_stopped)) / rate).minimum(stops[:, -1:])
    return (direction * torch.minimum(arrival * speed, room)).view_as(images)
