"""Gradient ascent that chooses its own step size, on whatever objective an attack gives it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from smdguard.attacks.attack import Requirement
from smdguard.attacks.gradient import input_gradient
from smdguard.attacks.settings import Settings
from smdguard.threat import ThreatModel


class Judgement(NamedTuple):
    """What an objective makes of B candidates.

    Args:
        objective: What the steps climb, differentiable (B,).
        progress: What tells a better point from a worse one, the larger the better (B,).
        fooled: Whether the attack has what it wants, bool (B,).
    """

    objective: Tensor
    progress: Tensor
    fooled: Tensor


Objective = Callable[[Tensor, Tensor], Judgement]
"""Candidates (B, C, H, W) and their places (B,) among the images of the call -> Judgement."""


@dataclass(frozen=True, kw_only=True)
class AdaptiveAscent(Settings):
    """Steps with momentum along the input gradient; an image's step size is halved where its steps stop paying.

    Args:
        num_steps: Steps of each run.

    Reference:
        Croce, Hein, "Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-free
        Attacks", 2020, Algorithm 1.
    """

    num_steps: int = 100
    requires: ClassVar[Requirement] = "gradients"
    needs_members: ClassVar[bool] = False

    def _climb_in_turn(
        self,
        objectives: Iterable[Objective],
        images: Tensor,
        threat: ThreatModel,
        *,
        generator: torch.Generator,
        early_stop: bool = True,
    ) -> Tensor:
        """Climb each objective from a random start of its own, on the images that still stand.

        Returns:
            Each image's first success; where there is none, or without early stop, the point of most progress.
        """
        found, reached = images.clone(), images.new_full((len(images),), -torch.inf)
        standing = torch.arange(len(images), device=images.device)
        for objective in objectives:
            # Drawn for every image, so that an image's start does not depend on which others stand.
            start = threat.random_start(images, generator)
            if early_stop:
                with torch.no_grad():
                    standing = standing[~objective(found[standing], standing).fooled]
                if not len(standing):
                    break
            walk = _Walk.begin(standing, images[standing], start[standing], threat)
            for place, point, progress in self._climb(objective, walk, threat, early_stop):
                better = progress > reached[place]
                found[place[better]], reached[place[better]] = point[better], progress[better]
        return found

    def _climb(
        self, objective: Objective, walk: "_Walk", threat: ThreatModel, early_stop: bool
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Walk to the end; yields (places, points, progress) of images when they are fooled, of the rest at the end."""
        windows = _checkpoints(self.num_steps)
        for step in range(self.num_steps + 1):
            if step:
                walk.move(threat, inertia=0.25 if step > 1 else 0.0)
            fooled = walk.judge(objective)
            if early_stop and fooled.any():
                yield walk.place[fooled], walk.current[fooled], torch.full_like(walk.value[fooled], torch.inf)
                walk.keep(~fooled)
                if not len(walk.place):
                    return
            if step in windows:
                walk.halve_where_stuck(windows[step])
        yield walk.place, walk.best, walk.best_value


def _checkpoints(num_steps: int) -> dict[int, int]:
    """The steps after which step sizes may be halved, and how many steps lie between each and the one before."""
    window, shortest, shrink = (max(int(share * num_steps), 1) for share in (0.22, 0.06, 0.03))
    step, windows = window, {}
    while step <= num_steps:
        windows[step] = window
        window = max(window - shrink, shortest)
        step += window
    return windows


@dataclass
class _Walk:
    """How far the images that still stand have come; the first axis of every field runs over them."""

    place: Tensor
    images: Tensor
    current: Tensor
    previous: Tensor
    gradient: Tensor
    value: Tensor
    best: Tensor
    best_gradient: Tensor
    best_value: Tensor
    step_size: Tensor
    num_rises: Tensor
    value_at_checkpoint: Tensor
    halved: Tensor

    @classmethod
    def begin(cls, place: Tensor, images: Tensor, start: Tensor, threat: ThreatModel) -> "_Walk":
        """All images at their starts, with steps of 2 x epsilon."""
        unknown = images.new_full((len(images),), torch.inf)
        return cls(
            place=place,
            images=images,
            current=start,
            previous=start,
            gradient=torch.zeros_like(start),
            value=unknown,
            best=start,
            best_gradient=torch.zeros_like(start),
            best_value=-unknown,
            step_size=_per_image(2 * threat.epsilon * torch.ones_like(unknown)),
            num_rises=torch.zeros_like(unknown),
            value_at_checkpoint=-unknown,
            # As if just halved: the second condition needs an earlier checkpoint to look back to.
            halved=torch.ones_like(place, dtype=torch.bool),
        )

    def keep(self, mask: Tensor) -> None:
        """Drop the images outside the mask."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name)[mask])

    def move(self, threat: ThreatModel, *, inertia: float) -> None:
        """One step along the gradient, mixed with a share `inertia` of the step before."""
        ahead = threat.project(self.images, self.current + self.step_size * threat.ascent_direction(self.gradient))
        mixed = self.current + (1 - inertia) * (ahead - self.current) + inertia * (self.current - self.previous)
        self.previous, self.current = self.current, threat.project(self.images, mixed)

    def judge(self, objective: Objective) -> Tensor:
        """Look at the current points, remember the best and say which of them fool the model."""

        def ask(images: Tensor) -> tuple[Tensor, Judgement]:
            judgement = objective(images, self.place)
            return judgement.objective, judgement

        self.gradient, judgement = input_gradient(ask, self.current)
        # What is not a number cannot be climbed, but may be what is sought.
        progress = judgement.progress.detach().to(self.value)
        unknown = torch.full_like(progress, -torch.inf).masked_fill(judgement.fooled, torch.inf)
        value = torch.where(progress.isnan(), unknown, progress)
        self.num_rises = self.num_rises + (value > self.value)
        better = value > self.best_value
        self.best = torch.where(_per_image(better), self.current, self.best)
        self.best_gradient = torch.where(_per_image(better), self.gradient, self.best_gradient)
        self.best_value = torch.where(better, value, self.best_value)
        self.value = value
        return judgement.fooled

    def halve_where_stuck(self, window: int) -> None:
        """Where few of the last steps rose, or nothing better came since the last checkpoint: back, with half the step.

        Reference:
            Croce, Hein, 2020, section 3.1, conditions 1 and 2.
        """
        stalled = ~self.halved & (self.best_value <= self.value_at_checkpoint)
        stuck = (self.num_rises <= 0.75 * window) | stalled
        self.step_size = torch.where(_per_image(stuck), self.step_size / 2, self.step_size)
        self.current = torch.where(_per_image(stuck), self.best, self.current)
        self.gradient = torch.where(_per_image(stuck), self.best_gradient, self.gradient)
        self.halved, self.value_at_checkpoint = stuck, self.best_value
        self.num_rises = torch.zeros_like(self.num_rises)


def _per_image(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)
