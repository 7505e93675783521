"""Images that are crafted during training: where they end up, and what they leave alone."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import nll_loss

from smdguard.ensemble import Ensemble
from smdguard.threat import ThreatModel
from tests.training.conftest import NormalisedTinyNetwork
from training.batch import Batch
from training.distillation import distil
from training.objectives import OBJECTIVES, AdversarialTraining
from training.objectives.adversarial import HoldOutAttack, SelfAttack
from training.objectives.naive import Naive

THREAT = ThreatModel("linf", 0.2)


def distilled(batch: Batch) -> torch.Tensor:
    return distil(batch.ensemble, batch.images, batch.next_targets(), 1, THREAT, num_steps=10, step_ratio=0.1)


@pytest.mark.parametrize(
    "craft", [distilled, SelfAttack(), HoldOutAttack()], ids=["distillation", "self-attack", "hold-out-attack"]
)
def test_crafting_leaves_the_ensembles_as_they_were(craft: Callable[[Batch], object], batch: Batch) -> None:
    ensembles = [batch.ensemble, *batch.holdouts]
    before = [{name: tensor.clone() for name, tensor in e.state_dict().items()} for e in ensembles]
    craft(batch)
    for ensemble, state in zip(ensembles, before, strict=True):
        assert all(torch.equal(tensor, state[name]) for name, tensor in ensemble.state_dict().items())
        assert all(weight.grad is None for weight in ensemble.parameters())
    assert batch.ensemble.training
    assert not any(holdout.training for holdout in batch.holdouts)


@pytest.mark.parametrize("ensemble", [NormalisedTinyNetwork], indirect=True)
@pytest.mark.parametrize(
    ("method", "num_updates"), [("smd", 1), ("gal", 1), ("adp", 1), ("dverge", 1), ("smd-plus", 2)]
)
def test_statistics_are_updated_once_a_pass(method: str, num_updates: int, batch: Batch) -> None:
    OBJECTIVES[method]()(batch)
    counts = [count for name, count in batch.ensemble.named_buffers() if name.endswith("num_batches_tracked")]
    assert [int(count) for count in counts] == [num_updates] * 3


def test_distillation_approaches_the_targets_within_the_ball(batch: Batch) -> None:
    targets, _ = next(batch.second_pass)
    crafted = distil(batch.ensemble, batch.images, targets, 1, THREAT, num_steps=10, step_ratio=0.1)
    assert ((crafted - batch.images).abs() <= 0.2 + 1e-12).all()
    assert ((crafted >= 0) & (crafted <= 1)).all()
    assert not crafted.requires_grad
    batch.ensemble.eval()
    sources = batch.images.expand_as(crafted)
    wanted = batch.ensemble.member_features(targets, 1)

    def distance(images: torch.Tensor) -> torch.Tensor:
        return (batch.ensemble.member_features(images, 1) - wanted).square().sum(dim=-1)

    assert (distance(crafted) < distance(sources)).all()


def test_an_image_that_is_its_own_target_stays_as_it_is(batch: Batch) -> None:
    """Whatever rounding makes of a distance of zero in another batch."""
    targets = batch.images.roll(1, dims=0)
    targets[0] = batch.images[0]
    crafted = distil(batch.ensemble, batch.images, targets, 0, THREAT, num_steps=3, step_ratio=0.1)
    moved = (crafted != batch.images).flatten(2).any(dim=2)
    assert not moved[:, 0].any()
    assert moved[:, 1:].all()


def test_self_attack_raises_epsilon_at_first_and_fools_the_ensemble(batch: Batch) -> None:
    adversary = SelfAttack(epsilon=0.3, warm_up=0.5)
    largest = [
        (adversary(replace(batch, progress=progress)).images - batch.images).abs().max().item()
        for progress in (0.0, 0.25, 0.5, 0.75)
    ]
    assert largest == pytest.approx([0.0, 0.15, 0.3, 0.3], abs=1e-12)
    assert (SelfAttack(warm_up=0.0)(replace(batch, progress=0.0)).images != batch.images).any()
    batch.ensemble.eval()
    harmed = adversary(batch).members.cross_entropy.sum()
    assert harmed > batch.members.cross_entropy.sum()


def test_hold_out_attack_gives_clean_and_adversarial_the_same_weight(batch: Batch) -> None:
    both = HoldOutAttack()(batch)
    clean, adversarial = both.images.chunk(2)
    assert torch.equal(clean, batch.images)
    assert (adversarial - clean).abs().max() <= 0.1 + 1e-12
    assert torch.equal(both.labels, batch.labels.repeat(2))
    assert len(both.next_targets()) == 10
    batch.ensemble.eval()
    halves = [Naive()(replace(batch, images=images))["cross_entropy"] for images in (clean, adversarial)]
    together = AdversarialTraining(Naive(), lambda batch: both)(batch)["cross_entropy"]
    torch.testing.assert_close(together, (halves[0] + halves[1]) / 2)


@pytest.mark.parametrize("seed", range(4))
def test_hold_out_attack_fools_the_hold_out_that_is_drawn(batch: Batch, seed: int) -> None:
    drawn = int(torch.randint(2, (), generator=torch.Generator().manual_seed(seed)))
    both = HoldOutAttack()(replace(batch, generator=torch.Generator().manual_seed(seed)))

    def harm(holdout: Ensemble) -> torch.Tensor:
        """How much larger its loss is on each adversarial image than on the clean one."""
        clean, adversarial = nll_loss(holdout(both.images), both.labels, reduction="none").chunk(2)
        return adversarial - clean

    fooled, other = batch.holdouts[drawn], batch.holdouts[1 - drawn]
    assert (harm(fooled) > 0).all()
    assert harm(fooled).mean() > harm(other).mean()
