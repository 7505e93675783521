"""Whether a model's input gradients can be had, and whether they can be trusted."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from smdguard.attacks import Model
from smdguard.attacks.losses import cross_entropy_direction
from smdguard.auditing.batching import ask, is_out_of_memory
from smdguard.auditing.statistics import share_of
from smdguard.threat import ThreatModel

MAX_BROKEN_GRADIENTS = 0.01
# A quarter of an 8-bit image's grey level, shorter than the steps of attacks: who curves within it misleads them.
# In half precision the little that it gains may drown in rounding; what a whole level gains does so less often, and
# what four gain seldom.
MAX_MISLEADING_GRADIENTS, STEPS, LONG_STEP = 0.05, (0.001, 0.004), 0.016


@dataclass(frozen=True)
class GradientHealth:
    """Shares of the images whose input gradient cannot be followed.

    Args:
        zero: It is zero.
        not_finite: It is infinite or not a number.
        random: It is another one when asked again.
        misleading: No small step along it, from a random point on the way out of the image's ball or from where that
            ends, raises the loss; the larger of both shares.
    """

    zero: float
    not_finite: float
    random: float
    misleading: float

    @property
    def broken(self) -> bool:
        """Whether gradient attacks cannot be expected to work."""
        unusable = max(self.zero, self.not_finite, self.random)
        return unusable > MAX_BROKEN_GRADIENTS or self.misleading > MAX_MISLEADING_GRADIENTS


def has_gradients(model: Model, images: Tensor) -> bool:
    """Whether the model's output carries a gradient back to its input."""
    with torch.enable_grad():
        leaf = images.detach().requires_grad_()
        try:
            output = ask(model, leaf)
            return output.requires_grad and torch.autograd.grad(output.sum(), leaf, allow_unused=True)[0] is not None
        except RuntimeError as error:  # Such as numpy's refusal of a tensor that wants a gradient, or no way back.
            if is_out_of_memory(error):
                raise
            return False


def gradient_health(
    model: Model, images: Iterable[Tensor], labels: Iterable[Tensor], threat: ThreatModel
) -> GradientHealth:
    """Look twice at the input gradients of clean images, given in batches, and once each at two points of each ball."""
    zero, not_finite, random, on_the_way, at_the_edge = [], [], [], [], []
    generator = torch.Generator().manual_seed(0)
    for batch, truth in zip(images, labels, strict=True):
        first, second = loss_gradient(model, batch, truth), loss_gradient(model, batch, truth)
        largest = first.flatten(1).abs().amax(dim=1)
        difference = (first - second).flatten(1).abs().amax(dim=1)
        zero.append(largest == 0)
        not_finite.append(~first.flatten(1).isfinite().all(dim=1))
        random.append(difference > 1e-3 * largest)
        way, edge = points_in_ball(batch, threat, generator)
        on_the_way.append(~_rises(model, way, truth))
        at_the_edge.append(~_rises(model, edge, truth))
    shares = [share_of(torch.cat(part)) for part in (zero, not_finite, random, on_the_way, at_the_edge)]
    return GradientHealth(*shares[:3], misleading=max(shares[3:]))


def points_in_ball(images: Tensor, threat: ThreatModel, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two points of the ball around each image: as likely at any distance from it, and as far out as attacks go.

    A defence can mislead near the image alone, where attacks begin, or at the ball's edge, where they spend their
    steps.
    """
    edge = threat.random_start(images.cpu(), generator)
    reach = torch.rand(len(images), *[1] * (images.dim() - 1), generator=generator, dtype=images.dtype)
    return images.cpu().lerp(edge, reach).to(images.device), edge.to(images.device)


def _rises(model: Model, images: Tensor, labels: Tensor) -> Tensor:
    """Whether any small step along each image's gradient raises its loss: bool (B,).

    Only scores that are rounded stay exactly as they were after one; then a longer step may show what it hides, as it
    may where they are numbers of half precision.
    """
    direction = loss_gradient(model, images, labels).sign()
    points = [images, *((images + step * direction).clamp(0, 1) for step in (*STEPS, LONG_STEP))]
    with torch.no_grad():
        outputs = [model(each) for each in points]
    # In 64 bits, which tell the losses of logits near zero apart.
    before, *short, long = (cross_entropy_direction(output.double(), labels) for output in outputs)
    after = torch.stack(short)
    is_rounded = (after == before).any(dim=0) | _are_halves(outputs[0])
    return (after > before).any(dim=0) | (is_rounded & (long > before))


def _are_halves(outputs: Tensor) -> Tensor:
    """Whether all scores of an image (B, K) are numbers of half precision, as what was computed in it stays: (B,)."""
    return torch.stack([outputs == outputs.to(kind) for kind in (torch.bfloat16, torch.float16)]).all(dim=2).any(dim=0)


def loss_gradient(model: Model, images: Tensor, labels: Tensor) -> Tensor:
    """The direction in which each image's loss rises: (B, C, H, W), (B,) -> (B, C, H, W)."""
    with torch.enable_grad():
        leaf = images.detach().requires_grad_()
        return torch.autograd.grad(cross_entropy_direction(model(leaf), labels).sum(), leaf)[0]
