"""Each objective against its formula, written out plainly in 64-bit floats and differentiated twice."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from itertools import combinations, permutations
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smdguard.architectures import LayeredNetwork
from smdguard.ensemble import Ensemble
from training.batch import Batch
from training.objectives import ADVERSARIES, OBJECTIVES, AdversarialTraining
from training.objectives.adp import ADP, log_volume
from training.objectives.dverge import DVERGE, of_the_others
from training.objectives.gal import GAL
from training.objectives.naive import Naive
from training.objectives.objective import Objective
from training.objectives.smd import SMD
from training.objectives.smd_plus import SMDPlus


def assert_same(objective: Objective, batch: Batch, reference: Callable[[Batch], Tensor]) -> None:
    """Both give the same loss and the same gradient for every weight, each on a copy of the ensemble."""
    targets = list(batch.second_pass)
    outcomes = []
    for loss_of in (lambda b: torch.stack(list(objective(b).values())).sum(), reference):
        ensemble = deepcopy(batch.ensemble)
        loss = loss_of(replace(batch, ensemble=ensemble, second_pass=iter(targets)))
        outcomes.append([loss, *torch.autograd.grad(loss, list(ensemble.parameters()), materialize_grads=True)])
    torch.testing.assert_close(*outcomes, rtol=1e-8, atol=1e-10)


def predictions(member: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """The images and what a member makes of them."""
    images = batch.images.clone().requires_grad_()
    return images, member((images - 0.25) / 0.5)


def cross_entropies(batch: Batch) -> list[Tensor]:
    """Mean over the images of -log p_y, for each member."""
    rows = torch.arange(len(batch.labels))
    return [-predictions(m, batch)[1].softmax(-1)[rows, batch.labels].log().mean() for m in batch.ensemble.members]


def mean_alignment(directions: list[Tensor]) -> Tensor:
    """Mean over the images of log sum over the pairs of exp cos."""
    images = []
    for maps in zip(*directions, strict=True):
        cosines = [
            (a * b).sum() / (a.square().sum().sqrt() * b.square().sum().sqrt()) for a, b in combinations(maps, 2)
        ]
        images.append(torch.stack([cosine.exp() for cosine in cosines]).sum().log())
    return torch.stack(images).mean()


def saliencies(batch: Batch, source: str) -> list[Tensor]:
    """d f(x)[y] / dx of each member."""
    found = []
    rows = torch.arange(len(batch.labels))
    for member in batch.ensemble.members:
        images, logits = predictions(member, batch)
        probabilities = logits.exp() / logits.exp().sum(-1, keepdim=True)
        scores = {
            "probability": probabilities,
            "log_odds": (probabilities / (1 - probabilities)).log(),
            "log_probability": probabilities.log(),
            "logit": logits,
            "centred_logit": logits - logits.sum(-1, keepdim=True) / 4,
        }
        found.append(torch.autograd.grad(scores[source][rows, batch.labels].sum(), images, create_graph=True)[0])
    return found


def direction_of(wanted: str, batch: Batch) -> str:
    """Where each image goes its own way through the members, the log-odds have the direction of what is wanted.

    Batch normalisation in training mode mixes the images of a batch, so there the log-odds are on their own.
    """
    mixes = any(isinstance(module, nn.BatchNorm2d) for module in batch.ensemble.modules())
    return "log_odds" if mixes else wanted


def test_naive(batch: Batch) -> None:
    assert_same(Naive(), batch, lambda b: torch.stack(cross_entropies(b)).sum())


@pytest.mark.parametrize("source", ["probability", "logit", "centred_logit"])
def test_smd(batch: Batch, source: Any) -> None:
    def reference(b: Batch) -> Tensor:
        maps = saliencies(b, direction_of(source, b) if source == "probability" else source)
        return torch.stack(cross_entropies(b)).sum() + 0.7 * mean_alignment(maps)

    assert_same(SMD(weight=0.7, saliency=source), batch, reference)


def test_gal(batch: Batch) -> None:
    def reference(b: Batch) -> Tensor:
        gradients = saliencies(b, direction_of("log_probability", b))
        return torch.stack(cross_entropies(b)).mean() + 0.5 * mean_alignment(gradients)

    assert_same(GAL(noise=0.0), batch, reference)


def test_gal_makes_half_of_the_images_noisy(batch: Batch) -> None:
    many = replace(batch, images=torch.zeros(2000, 1, 6, 6))
    noise = GAL()._with_noise(many).images
    noisy = noise.flatten(1).any(dim=1)
    assert noisy.double().mean().item() == pytest.approx(0.5, abs=0.05)
    assert noise[noisy].std().item() == pytest.approx(0.045, rel=0.02)


def test_adp(batch: Batch) -> None:
    def reference(b: Batch) -> Tensor:
        probabilities = torch.stack([predictions(member, b)[1].softmax(-1) for member in b.ensemble.members])
        diversity = []
        for image, label in enumerate(b.labels.tolist()):
            mean = probabilities[:, image].mean(0)
            others = torch.stack([torch.cat([p[:label], p[label + 1 :]]) for p in probabilities[:, image]])
            rows = others / others.square().sum(1, keepdim=True).sqrt()
            volume = torch.linalg.det(rows @ rows.T + 1e-6 * torch.eye(3)) + 1e-20
            diversity.append(2.0 * -(mean * mean.log()).sum() + 0.5 * volume.log())
        return torch.stack(cross_entropies(b)).sum() - torch.stack(diversity).mean()

    assert_same(ADP(alpha=2.0, beta=0.5), batch, reference)


def test_adp_stays_finite_for_equal_and_for_saturated_members() -> None:
    logits = torch.tensor([200.0, 0.0, -50.0, 3.0]).expand(5, 1, 4).clone().requires_grad_()
    volume = log_volume(logits, torch.tensor([0]))
    (gradient,) = torch.autograd.grad(volume.sum(), logits)
    # Equal rows: the eigenvalues are 5 + 1e-6 and four times 1e-6.
    assert volume.item() == pytest.approx(torch.tensor(5 * 1e-24 + 1e-20, dtype=torch.float64).log().item(), rel=1e-6)
    assert gradient.isfinite().all()


def distilled_plainly(batch: Batch, targets: Tensor, layer: int, epsilon: float) -> list[Tensor]:
    """Each member's x' = argmin ||h(z) - h(x_t)||^2, image by image, in evaluation mode."""
    batch.ensemble.eval()
    found = []
    for member in batch.ensemble.members:
        assert isinstance(member, LayeredNetwork)
        rows = []
        for source, target in zip(batch.images, targets, strict=True):
            wanted = list(member.layers((target[None] - 0.25) / 0.5))[layer].detach()
            image, momentum = source, torch.zeros_like(source)
            for _ in range(10):
                leaf = image.clone().requires_grad_()
                distance = (list(member.layers((leaf[None] - 0.25) / 0.5))[layer] - wanted).square().sum()
                (gradient,) = torch.autograd.grad(distance, leaf)
                momentum = momentum + gradient / gradient.abs().sum()
                moved = image - epsilon / 10 * momentum.sign()
                image = torch.minimum(torch.maximum(moved, source - epsilon), source + epsilon).clamp(0, 1)
            rows.append(image)
        found.append(torch.stack(rows))
    batch.ensemble.train()
    return found


def distilled_loss(batch: Batch) -> Tensor:
    """Sum over i and j != i of CE(f_i(x'_j), y)."""
    targets, labels = next(batch.second_pass)
    distilled = distilled_plainly(batch, targets, layer=batch.epoch_seed % 3, epsilon=0.2)
    losses = []
    for member, network in enumerate(batch.ensemble.members):
        # One pass over the images of all the others, which matters to batch normalisation.
        shown = torch.cat([images for other, images in enumerate(distilled) if other != member])
        each = -network((shown - 0.25) / 0.5).log_softmax(-1)[torch.arange(10), labels.repeat(2)]
        losses.append(each.view(2, 5).mean(1).sum())
    return torch.stack(losses).sum()


@pytest.mark.parametrize("epoch_seed", [0, 1, 2, 2**63 - 1])
def test_dverge(batch: Batch, epoch_seed: int) -> None:
    assert_same(DVERGE(epsilon=0.2), replace(batch, epoch_seed=epoch_seed), distilled_loss)


def test_smd_plus(batch: Batch) -> None:
    def reference(b: Batch) -> Tensor:
        return distilled_loss(b) + 0.7 * mean_alignment(saliencies(b, direction_of("probability", b)))

    assert_same(SMDPlus(epsilon=0.2, weight=0.7), batch, reference)


def test_members_get_the_images_of_all_others() -> None:
    assert of_the_others(torch.tensor([[0, 0], [1, 1], [2, 2]])).tolist() == [[1, 1, 2, 2], [0, 0, 2, 2], [0, 0, 1, 1]]


def every_objective() -> dict[str, Objective]:
    plain: dict[str, Objective] = {method: kind() for method, kind in OBJECTIVES.items()}
    attacked = {f"smd-{name}": AdversarialTraining(plain["smd"], kind()) for name, kind in ADVERSARIES.items()}
    return plain | attacked


@pytest.mark.parametrize("name", every_objective())
def test_the_order_of_the_members_does_not_matter(name: str, batch: Batch) -> None:
    objective = every_objective()[name]
    targets = list(batch.second_pass)
    terms = []
    for order in permutations(batch.ensemble.members):
        shuffled = Ensemble(deepcopy(order), mean=[0.25], std=[0.5]).double().train()
        generator = torch.Generator().manual_seed(0)
        terms.append(objective(replace(batch, ensemble=shuffled, generator=generator, second_pass=iter(targets))))
    for other in terms[1:]:
        torch.testing.assert_close(other, terms[0], rtol=1e-8, atol=1e-10)
