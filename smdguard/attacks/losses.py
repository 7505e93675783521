"""What gradient attacks increase: one value an image, larger where the model is closer to the wrong class."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from smdguard.scores import log_odds, of_class, without_class

LossName = Literal["ce", "cw", "dlr", "sce"]
Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy_direction(logits: Tensor, labels: Tensor) -> Tensor:
    """Negated log-odds of the true class: logits (B, K), labels (B,) -> (B,).

    Its gradient is that of the cross-entropy times the positive number 1 / (1 - p_y), so it has the same sign and
    the same direction, but does not vanish in floating point where the model is sure of the true class.
    """
    return -log_odds(logits, labels)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Largest other logit minus the true class's: (B, K), (B,) -> (B,), positive where the decision is wrong.

    Reference:
        Carlini, Wagner, "Towards Evaluating the Robustness of Neural Networks", 2017, loss f6.
    """
    return without_class(logits, labels).amax(dim=-1) - of_class(logits, labels)


def difference_of_logits_ratio(logits: Tensor, labels: Tensor) -> Tensor:
    """The margin divided by the gap between the largest and the third largest logit: (B, K), (B,) -> (B,).

    Unchanged when the logits are shifted or scaled. With fewer than three classes there is no third logit and the
    margin itself is returned.

    Reference:
        Croce, Hein, "Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-free
        Attacks", 2020, Eq. 6.
    """
    if logits.shape[-1] < 3:
        return margin(logits, labels)
    first, _, third = logits.topk(3, dim=-1).values.unbind(dim=-1)
    return margin(logits, labels) / (first - third).clamp_min(1e-12)


def targeted_difference_of_logits_ratio(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """(z_target - z_label) / (z_1 - (z_3 + z_4) / 2), z_1 >= z_2 >= ...: (B, K), (B,), (B,) -> (B,).

    Unchanged when the logits are shifted or scaled. With three classes z_3 stands in for z_4; with two there is
    neither and the numerator is returned.

    Reference:
        Croce, Hein, "Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-free
        Attacks", 2020, Eq. 7.
    """
    of_label, of_target = of_class(logits, labels), of_class(logits, targets)
    if logits.shape[-1] < 3:
        return of_target - of_label
    largest = logits.topk(min(4, logits.shape[-1]), dim=-1).values
    return (of_target - of_label) / (largest[:, 0] - largest[:, 2:].mean(dim=-1)).clamp_min(1e-12)


def standardised_cross_entropy_direction(logits: Tensor, labels: Tensor) -> Tensor:
    """That of the cross-entropy, of logits with mean zero and standard deviation one: (B, K), (B,) -> (B,).

    Unchanged when the logits are shifted or scaled, so it rises only where other classes gain on the true one, and not
    where the model merely becomes less sure. With two classes such logits tell the decision alone, and the plain
    direction is returned. A class that is never given has a score far below all others, such as a mask's -1e4, and
    would make up most of the deviation: it counts as the lowest of the others.

    Reference:
        Hitaj, Pagnotta, Masi, Mancini, "Evaluating the Robustness of Geometry-Aware Instance-Reweighted Adversarial
        Training", 2021 (attacks on scaled logits); here the scale is the logits' own.
    """
    if logits.shape[-1] < 3:
        return cross_entropy_direction(logits, labels)
    logits = _without_masked(logits, labels)
    centred = logits - logits.mean(dim=-1, keepdim=True)
    # By the largest first, because the squares of tiny ones vanish.
    scaled = centred / _or_one(centred.detach().abs().amax(dim=-1, keepdim=True))
    return cross_entropy_direction(scaled / _or_one(scaled.std(dim=-1, keepdim=True)), labels)


def _without_masked(logits: Tensor, labels: Tensor) -> Tensor:
    """The logits, those lifted to the lowest of the rest that lie a hundred times the first three's range below."""
    scores = logits.detach()
    first, _, third = scores.topk(3, dim=-1).values.split(1, dim=-1)
    is_masked = (scores < first - 100 * (first - third)).scatter(-1, labels[:, None], False)
    lowest = scores.masked_fill(is_masked, torch.inf).amin(dim=-1, keepdim=True)
    return torch.where(is_masked, lowest, logits)


def _or_one(scales: Tensor) -> Tensor:
    """The scales, with 1 for those that are zero, as of logits that are all the same, or too small to divide by."""
    return torch.where(scales > torch.finfo(scales.dtype).tiny, scales, torch.ones_like(scales))


LOSSES: dict[LossName, Loss] = {
    "ce": cross_entropy_direction,
    "cw": margin,
    "dlr": difference_of_logits_ratio,
    "sce": standardised_cross_entropy_direction,
}


def rising(name: LossName, logits: Tensor, labels: Tensor, *, targeted: bool = False) -> Tensor:
    """What an attack increases: the loss of the true classes, or its opposite for the classes to reach.

    The untargeted ratio is constant where the wanted class has the third largest logit, so the targeted one stands in.
    """
    if not targeted:
        return LOSSES[name](logits, labels)
    if name == "dlr":
        rivals = without_class(logits, labels).argmax(dim=-1)
        return targeted_difference_of_logits_ratio(logits, rivals, labels)
    return -LOSSES[name](logits, labels)
