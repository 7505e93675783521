"""How long an audit takes at most, told before it begins."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from smdguard.attacks import (
    APGD,
    BIM,
    FAB,
    FGSM,
    MIM,
    PGD,
    RFGSM,
    Attack,
    BoundaryWalk,
    MemberReweighing,
    Model,
    Square,
    TargetedAPGD,
    Transfer,
    Unsuspicious,
)
from smdguard.attacks.boundary_walk import NUM_FIRST_HALVINGS, NUM_HALVINGS
from smdguard.auditing import probes
from smdguard.auditing.batching import Batching
from smdguard.auditing.crafting import SHARD_SIZE
from smdguard.auditing.gradients import has_gradients, loss_gradient
from smdguard.auditing.plan import Plan
from smdguard.auditing.presets import LONG_QUERY, has_long_query
from smdguard.auditing.sampling import NUM_QUERIED


class Calls(NamedTuple):
    """How often a model is asked about an image.

    Args:
        for_gradient: For its output and the way back to the input.
        for_output: For its output alone.
    """

    for_gradient: int
    for_output: int = 0


class Pace(NamedTuple):
    """Seconds that a model takes for one call of each kind, about a shard of images."""

    gradient: float
    output: float

    def seconds(self, calls: Calls) -> float:
        """For so many calls."""
        return calls.for_gradient * self.gradient + calls.for_output * self.output


def calls_at_most(attack: Attack) -> Calls | None:
    """What an attack asks about an image that it never fools; None where the attack is none of ours."""
    match attack:
        case FGSM() | RFGSM():
            return Calls(1)
        case BIM(num_steps=steps) | MIM(num_steps=steps):
            return Calls(steps)
        case PGD(num_steps=steps, num_restarts=restarts):
            return Calls(restarts * steps, restarts - 1)
        case APGD(num_steps=steps, num_restarts=restarts):
            return Calls(restarts * (steps + 1), restarts)
        case TargetedAPGD(num_steps=steps, num_target_classes=classes, num_restarts=restarts):
            return Calls(classes * restarts * (steps + 1), 1 + classes * restarts)
        case MemberReweighing(num_steps=steps, member_shares=shares):
            return Calls(len(shares) * (steps + 1), len(shares))
        case FAB(num_steps=steps, num_target_classes=classes):
            return Calls(classes * steps, 1 + classes * steps)
        case BoundaryWalk(num_steps=steps):
            return Calls(steps, 2 + NUM_FIRST_HALVINGS + steps * (1 + NUM_HALVINGS))
        case Square(num_queries=queries):
            return Calls(0, 1 + queries)
        case Unsuspicious(num_steps=steps, num_target_classes=classes):
            return Calls(classes * (steps + 1), 1 + classes)
        case Transfer(attack=transferred):
            return calls_at_most(transferred)
    return None


def seconds_at_most(plan: Plan, *, labels: Tensor, num_radii: int, pace_of: Callable[[Model], Pace]) -> float | None:
    """Of all calls of the models, if no attack fooled any image; None where an attack's calls are not known.

    What attacks compute beside the calls, and the exhibits of attacks along gradients, are too little to count.

    Args:
        plan: The attacks of the audit.
        labels: Of the images that they are made on, (B,).
        num_radii: At how many radii they are made.
        pace_of: How fast a model is.
    """
    paces = {id(model): pace_of(model) for model in (plan.model, *plan.surrogates.values(), *plan.members.values())}
    total = 0.0
    for attack, made_on, num_times in _runs(plan, labels, num_radii):
        calls = calls_at_most(attack)
        if calls is None:
            return None
        # What an attack returns is checked with one more call of the audited model.
        total += num_times * (paces[id(made_on)].seconds(calls) + paces[id(plan.model)].output)
    return total


def _runs(plan: Plan, labels: Tensor, num_radii: int) -> Iterator[tuple[Attack, Model, float]]:
    """Every attack, the model that it is made on, and on how many shards of images."""
    num_shards = -(-len(labels) // SHARD_SIZE)
    direct: Iterable[Attack] = (*plan.attacks, *plan.pursuits)
    yield from ((attack, plan.model, num_radii * num_shards) for attack in direct)
    yield from ((planned.attack, planned.made_on, num_radii * num_shards) for planned in plan.transfers)
    for at_largest, radii in ((False, num_radii - 1), (True, 1)):
        for attack in plan.on_members(at_largest=at_largest):
            yield from ((attack, member, radii * num_shards) for member in plan.members.values())
    yield from ((attack, plan.model, 1) for attack in plan.on_suspicion)
    if plan.has_gradients:
        yield from ((attack, plan.model, 1) for attack in probes.UNBOUNDED)
        yield probes.TRACED, plan.model, num_radii
        yield from ((attack, plan.model, num_radii) for attack in probes.scale_free_attacks(labels).values())
        if not has_long_query(plan.preset):
            yield LONG_QUERY, plan.model, num_radii * NUM_QUERIED / SHARD_SIZE
    if not plan.transfers and all(attack.requires == "scores" for attack in direct):
        # Quicker ones failing, the exhibits make these again.
        yield from ((attack, plan.model, 1) for attack in direct)


def measure_pace(model: Model, batching: Batching, images: Tensor, labels: Tensor) -> Pace:
    """Time one call of each kind; for a gradient only where the model itself gives one, not zeros in its place."""
    batched = batching.wrap(model)
    with torch.no_grad():
        output = _seconds(lambda: batched(images))
    gradient = _seconds(lambda: loss_gradient(batched, images, labels)) if has_gradients(model, images[:2]) else 0.0
    return Pace(gradient, output)


def _seconds(call: Callable[[], Tensor]) -> float:
    start = time.perf_counter()
    # A device that works on its own is waited for by asking for a number.
    call().sum().item()
    return time.perf_counter() - start
