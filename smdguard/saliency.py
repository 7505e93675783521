"""Where the members look: input gradients of the true class, how far they align, and the SMD measure."""

from collections.abc import Sized
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from smdguard.scores import log_odds, of_class

SaliencySource = Literal["probability", "logit", "centred_logit"]


class _Ensemble(Protocol):
    @property
    def members(self) -> Sized: ...
    def member_logits(self, images: Tensor) -> Tensor: ...


def saliency_score(logits: Tensor, labels: Tensor, source: SaliencySource = "probability") -> Tensor:
    """What a saliency is the derivative of: logits (M, B, K), labels (B,) -> (M, B).

    Args:
        logits: The members' logits.
        labels: True classes.
        source: "probability" uses the log-odds, whose gradient is a positive multiple of the probability's and does
            not underflow; "logit" the true class's logit; "centred_logit" that minus the mean over the classes.
    """
    if source == "probability":
        return log_odds(logits, labels)
    if source == "centred_logit":
        logits = logits - logits.mean(dim=-1, keepdim=True)
    return of_class(logits, labels)


def member_saliencies(
    ensemble: _Ensemble, images: Tensor, labels: Tensor, source: SaliencySource = "probability"
) -> Tensor:
    """Each member's saliency s_m = d score_m / dx: images (B, C, H, W), labels (B,) -> (M, B, C, H, W).

    Reference:
        Bogun, Kostadinov, Borth, "Saliency Diversified Deep Ensemble for Robustness to Adversaries", 2022, Eq. 1.
    """
    with torch.enable_grad():
        leaf = images.expand(len(ensemble.members), *images.shape).detach().requires_grad_()
        score = saliency_score(ensemble.member_logits(leaf), labels, source)
        return torch.autograd.grad(score.sum(), leaf)[0]


def pairwise_cosine(saliencies: Tensor) -> Tensor:
    """Cosine of every pair m < l of members: saliencies (M, B, ...) -> (M (M - 1) / 2, B), each in [-1, 1].

    That of a saliency shorter than 1e-19, whose square 32 bits cannot hold, is nearer to 0.
    """
    directions = functional.normalize(saliencies.flatten(2), dim=-1, eps=1e-19)
    # By slices, the last of which is empty: a CPU takes several times as long over the gradient of an index.
    with_later = [(directions[m] * directions[m + 1 :]).sum(dim=-1) for m in range(len(directions))]
    return torch.cat(with_later)


def saliency_alignment(saliencies: Tensor) -> Tensor:
    """The SMD measure of each image, log sum_{m < l} exp cos(s_m, s_l): saliencies (M, B, ...) -> (B,).

    Small where the members look at different parts of the image.

    Reference:
        Bogun, Kostadinov, Borth, "Saliency Diversified Deep Ensemble for Robustness to Adversaries", 2022, Eq. 2.
    """
    return pairwise_cosine(saliencies).logsumexp(dim=0)
