"""The attack made for ensembles, on ensembles whose weak member is known."""

from math import exp

import pytest
import torch
from torch import Tensor, nn

from smdguard.attacks import Attack, MemberReweighing, Unsuspicious
from smdguard.attacks.attack import is_fooled
from smdguard.attacks.losses import margin
from smdguard.attacks.member_reweighing import blend, member_weights
from smdguard.ensemble import Ensemble
from smdguard.errors import InvalidInputError
from smdguard.threat import Norm, ThreatModel
from tests.attacks.crafting import craft
from tests.attacks.known_models import grey_images

ATTACK = MemberReweighing(num_steps=20)


def ensemble_of(*members: nn.Module) -> Ensemble:
    return Ensemble(members, mean=[0.0], std=[1.0]).double().requires_grad_(False)


def linear_ensemble(scale: float = 1.0, spread: float = 0.5, num_classes: int = 3) -> Ensemble:
    """Members about one common linear map; grey images lie about its boundaries."""
    generator = torch.Generator().manual_seed(0)
    common, *own = torch.randn(4, num_classes, 16, generator=generator, dtype=torch.float64)
    members = [nn.Linear(16, num_classes).double() for _ in own]
    for member, offset in zip(members, own, strict=True):
        member.weight.data = scale * (common + spread * offset)
        member.bias.data = -0.5 * member.weight.data.sum(dim=1)
    return ensemble_of(*(nn.Sequential(nn.Flatten(), member) for member in members))


def test_weights_are_the_derivative_of_the_ensembles_decision() -> None:
    # One step of each member's logit of the likeliest wrong class, by finite differences.
    logits = torch.tensor([[[2.0, 0.5, -1.0]], [[1.0, 0.8, 0.0]], [[4.0, -1.0, 1.0]]], dtype=torch.float64)
    step = 1e-6

    def decision(values: Tensor) -> Tensor:
        mean = values.softmax(-1).mean(0)[0].log()
        return mean[0] - mean[1]

    changes = []
    for member in range(3):
        moved = logits.clone()
        moved[member, 0, 1] += step
        changes.append((decision(logits) - decision(moved)) / step)
    expected = torch.stack(changes) / sum(changes)
    torch.testing.assert_close(member_weights(logits, torch.tensor([0]))[:, 0], expected, rtol=1e-4, atol=1e-6)


def test_members_that_are_wrong_already_weigh_nothing() -> None:
    logits = torch.tensor([[[0.0, 3.0]], [[4.0, 0.0]]])
    assert member_weights(logits, torch.tensor([0])).flatten().tolist() == [0, 1]


def test_blend_by_hand() -> None:
    # The surest member leads by 20, which is too much for a softmax to be alive: all logits are halved.
    logits = torch.tensor([[[20.0, 0.0]], [[3.0, 0.0]]], dtype=torch.float64)
    output = torch.tensor([[-0.5, -2.5]], dtype=torch.float64)
    odds = [1 / (1 + exp(10)), 1 / (1 + exp(1.5))]
    # With two classes a member's influence is that of its probability p: p (1 - p) (1 / (1 - P) + 1 / P).
    first, second = (p * (1 - p) / sum(q * (1 - q) for q in odds) for p in odds)
    expected = [0.25 * -0.5 / 2 + 0.75 * (first * 10 + second * 1.5), 0.25 * -2.5 / 2]
    blended = blend(logits, output, torch.tensor([0]), 0.75)
    torch.testing.assert_close(blended, torch.tensor([expected], dtype=torch.float64))


def test_scales_and_weights_of_the_blend_are_constants_to_its_gradient() -> None:
    logits = torch.tensor([[[20.0, 0.0]], [[3.0, 0.0]]], dtype=torch.float64, requires_grad=True)
    output = torch.tensor([[-0.5, -2.5]], dtype=torch.float64, requires_grad=True)
    label = torch.tensor([0])
    of_label = blend(logits, output, label, 0.75)[0, 0]
    by_logits, by_output = torch.autograd.grad(of_label, (logits, output))
    # The members' logits are halved before they are weighed, and so is the output.
    weights = member_weights(logits.detach() / 2, label)
    torch.testing.assert_close(by_logits, torch.stack([0.75 * weights / 2, torch.zeros_like(weights)], dim=-1))
    torch.testing.assert_close(by_output, torch.tensor([[0.25 / 2, 0.0]], dtype=torch.float64))


def test_all_members_wrong_leaves_the_ensemble_to_be_climbed() -> None:
    logits = torch.tensor([[[0.9, 1.0, -5.0]], [[0.9, -5.0, 1.0]]]).requires_grad_()
    output = logits.softmax(-1).mean(0).log()
    assert output.argmax() == 0
    blended = blend(logits, output, torch.tensor([0]), 0.5)
    gradient = torch.autograd.grad(margin(blended, torch.tensor([0])).sum(), logits)[0]
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_fools_exactly_the_images_that_can_be_fooled(norm: Norm) -> None:
    # Members with one and the same linear map: the ensemble is that map and its optimal perturbation is known.
    model, images = linear_ensemble(spread=0, num_classes=2), grey_images(100)
    labels, weight = model(images).argmax(dim=1), model.members[0][1].weight  # type: ignore[index]
    rise = torch.linalg.vector_norm(weight[0] - weight[1], ord=1 if norm == "linf" else 2)
    needed = -margin(model(images), labels) / rise
    threat = ThreatModel(norm=norm, epsilon=needed.median().item())
    fooled = is_fooled(model(craft(MemberReweighing(), model, images, labels, threat)), labels)
    assert fooled[needed < 0.995 * threat.epsilon].all()
    assert not fooled[needed > threat.epsilon].any()


def test_saturated_float32_members_are_attacked_like_moderate_ones() -> None:
    moderate, saturated = linear_ensemble(10), linear_ensemble(1e3).float()
    images, threat = grey_images(60), ThreatModel("linf", 0.01)
    labels = saturated(images.float()).argmax(dim=1)
    certain = saturated(images.float()).amax(dim=1) == 0
    assert certain.double().mean() > 0.5
    expected = is_fooled(moderate(craft(ATTACK, moderate, images, labels, threat)), labels)
    found = is_fooled(saturated(craft(ATTACK, saturated, images.float(), labels, threat)), labels)
    assert 0.1 < expected.double().mean() < 0.9
    assert (found == expected).double().mean() > 0.9


@pytest.mark.parametrize("attack", [ATTACK, Unsuspicious(threshold=0.1)])
def test_a_model_without_members_is_refused(attack: Attack) -> None:
    with pytest.raises(InvalidInputError, match=f"^{attack.name} attacks .* member_logits, which Flatten lacks"):
        craft(attack, nn.Flatten(), grey_images(1), torch.tensor([0]), ThreatModel("linf", 0.3))
