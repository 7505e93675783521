"""Three small ensembles trained in seconds (naive, diversified, adversarially trained) and images for them."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from smdguard.attacks import PGD
from smdguard.ensemble import Ensemble
from smdguard.saliency import saliency_alignment, saliency_score
from smdguard.threat import ThreatModel

NUM_CLASSES, SIZE, NUM_EPOCHS = 6, 10, 5
TRAINING_ATTACK = PGD(num_steps=3, step_ratio=0.5, early_stop=False)
TRAINING_THREAT = ThreatModel("linf", 0.02)

Loss = Callable[[Ensemble, Tensor, Tensor], Tensor]


def draw(num_images: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Blurred patterns, one a class, under blurred and fine noise."""
    patterns = _blurred((NUM_CLASSES, 1, SIZE, SIZE), torch.Generator().manual_seed(7))
    labels = torch.randint(NUM_CLASSES, (num_images,), generator=generator)
    noise = _blurred((num_images, 1, SIZE, SIZE), generator)
    fine = 0.2 * torch.randn((num_images, 1, SIZE, SIZE), generator=generator)
    return (patterns[labels] * 1.5 + noise + fine - 0.75).clamp(0, 1), labels


def _blurred(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return functional.avg_pool2d(torch.rand(shape, generator=generator), 5, stride=1, padding=2)


def cross_entropy(ensemble: Ensemble, images: Tensor, labels: Tensor) -> Tensor:
    """Of every member, added up."""
    return sum(functional.cross_entropy(logits, labels) for logits in ensemble.member_logits(images))  # type: ignore[return-value]


def diversified(ensemble: Ensemble, images: Tensor, labels: Tensor) -> Tensor:
    """The cross-entropy and the alignment of the members' saliencies, as SMD has it."""
    leaf = images.expand(len(ensemble.members), *images.shape).clone().requires_grad_()
    score = saliency_score(ensemble.member_logits(leaf), labels)
    saliencies = torch.autograd.grad(score.sum(), leaf, create_graph=True)[0]
    return cross_entropy(ensemble, images, labels) + saliency_alignment(saliencies).mean()


def adversarial(ensemble: Ensemble, images: Tensor, labels: Tensor) -> Tensor:
    """The cross-entropy on what PGD makes of the images."""
    shown = TRAINING_ATTACK(ensemble, images, labels, TRAINING_THREAT, generator=torch.Generator().manual_seed(0))
    return cross_entropy(ensemble, shown, labels)


LOSSES: dict[str, Loss] = {"naive": cross_entropy, "diversified": diversified, "adversarial": adversarial}


@functools.cache  # The order in which tests come brings each back several times.
def train(name: str) -> Ensemble:
    """Three members of two convolutions, with one of the LOSSES."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        images, labels = draw(2000, torch.Generator().manual_seed(0))
        layers = [
            (nn.Conv2d(1, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 6))
            for _ in range(3)
        ]
        ensemble = Ensemble([nn.Sequential(*member) for member in layers], mean=[0.0], std=[1.0])
        optimiser = torch.optim.Adam(ensemble.parameters(), lr=1e-2)
        for _ in range(NUM_EPOCHS):
            for batch in torch.randperm(len(images)).split(128):
                optimiser.zero_grad()
                LOSSES[name](ensemble, images[batch], labels[batch]).backward()
                optimiser.step()
    return ensemble.eval().requires_grad_(False)
