"""FGSM, R-FGSM, BIM, PGD and MIM on models whose optimal perturbation is known."""

import pytest
import torch
from torch import Tensor, nn

from smdguard.attacks import BIM, FGSM, MIM, PGD, RFGSM, Attack, Transfer
from smdguard.attacks.attack import is_fooled
from smdguard.threat import ThreatModel
from tests.attacks.crafting import craft, craft_watched
from tests.attacks.known_models import curved_model, grey_images, linear_model

ATTACKS = [FGSM, RFGSM, BIM, PGD, MIM]
ITERATIVE = [BIM, PGD, MIM]


def margin_of(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    logits = model(images)
    return (logits.gather(1, labels[:, None]) - logits.gather(1, 1 - labels[:, None])).squeeze(1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("attack", [kind(early_stop=False) for kind in (FGSM, BIM, MIM)], ids=lambda a: a.name)
def test_reaches_the_optimum_of_a_linear_model(attack: Attack, norm: str) -> None:
    # The margin is linear in x; in the ball its least value is margin - epsilon * dual norm of the weight difference.
    model, images, labels = linear_model(2), grey_images(6), torch.tensor([0, 1, 0, 1, 0, 1])
    threat = ThreatModel(norm=norm, epsilon=0.2)  # type: ignore[arg-type]
    weight = model[1].weight.detach()  # type: ignore[index]
    dual = torch.linalg.vector_norm(weight[0] - weight[1], ord=1 if norm == "linf" else 2)
    adversarial = craft(attack, model, images, labels, threat)
    expected = margin_of(model, images, labels) - threat.epsilon * dual
    torch.testing.assert_close(margin_of(model, adversarial, labels), expected)


def test_pgd_reaches_the_optimum_of_a_linear_model_from_anywhere() -> None:
    model, images, labels = linear_model(2), grey_images(6), torch.tensor([0, 1, 0, 1, 0, 1])
    threat = ThreatModel(norm="linf", epsilon=0.2)
    optimum = craft(FGSM(early_stop=False), model, images, labels, threat)
    adversarial = craft(PGD(early_stop=False, num_steps=20), model, images, labels, threat)
    torch.testing.assert_close(adversarial, optimum)


def test_rfgsm_walks_its_random_step_and_then_the_rest() -> None:
    model, images, labels = linear_model(2), grey_images(6), torch.tensor([0, 1, 0, 1, 0, 1])
    threat = ThreatModel(norm="linf", epsilon=0.2)
    step = (craft(RFGSM(early_stop=False, random_ratio=0.25), model, images, labels, threat) - images).abs()
    # 0.05 at random and 0.15 along the gradient: together 0.2 where they agree, else 0.1.
    torch.testing.assert_close(step, torch.where(step > 0.15, 0.2, 0.1).double())
    assert 0.2 < (step > 0.15).double().mean() < 0.8


@pytest.mark.parametrize("kind", ITERATIVE, ids=lambda k: k.name)
def test_early_stop_keeps_the_first_success(kind: type) -> None:
    model, images = linear_model(2), grey_images(1)
    labels, threat = model(images).argmax(dim=1), ThreatModel(norm="linf", epsilon=0.5)
    # More steps than are needed, because the model is not asked about the last point.
    adversarial, seen = craft_watched(kind(num_steps=30), model, images, labels, threat)
    fooling = [candidate for candidate in seen if is_fooled(model(candidate), labels)]
    assert len(fooling) == 1
    assert torch.equal(adversarial, fooling[0])
    pushed = craft(kind(num_steps=30, early_stop=False), model, images, labels, threat)
    assert margin_of(model, pushed, labels) < margin_of(model, adversarial, labels)


@pytest.mark.parametrize("kind", [FGSM, BIM, MIM], ids=lambda k: k.name)
def test_an_image_does_not_depend_on_its_neighbours(kind: type) -> None:
    model, images, labels = linear_model(2), grey_images(6), torch.tensor([0, 1, 0, 1, 0, 1])
    threat = ThreatModel(norm="linf", epsilon=0.1)
    together = craft(kind(), model, images, labels, threat)
    alone = torch.cat([craft(kind(), model, images[i : i + 1], labels[i : i + 1], threat) for i in range(6)])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize(
    "attack", [FGSM(targeted=True), RFGSM(targeted=True, random_ratio=0.1), *(k(targeted=True) for k in ITERATIVE)]
)
def test_targeted_attacks_reach_the_wanted_class(attack: Attack) -> None:
    model, images = linear_model(3, scale=3), grey_images(6)
    wanted = (model(images).argmax(dim=1) + 1) % 3
    adversarial = craft(attack, model, images, wanted, ThreatModel(norm="linf", epsilon=1.0))
    assert torch.equal(model(adversarial).argmax(dim=1), wanted)


@pytest.mark.parametrize("kind", [FGSM, BIM, MIM], ids=lambda k: k.name)
def test_saturated_float32_logits_are_attacked_like_moderate_ones(kind: type) -> None:
    # At this scale the softmax of every image rounds to exactly one, and the plain cross-entropy has no gradient.
    moderate, saturated = linear_model(2), linear_model(2, scale=1e4).float()
    images = grey_images(6)
    labels, threat = moderate(images).argmax(dim=1), ThreatModel(norm="linf", epsilon=0.1)
    leaf = images.float().requires_grad_()
    plain = torch.autograd.grad(nn.functional.cross_entropy(saturated(leaf), labels, reduction="sum"), leaf)[0]
    assert (plain.flatten(1).abs().amax(dim=1) == 0).any()
    expected = craft(kind(early_stop=False), moderate, images, labels, threat)
    found = craft(kind(early_stop=False), saturated, images.float(), labels, threat)
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=0)


def test_restarts_only_help() -> None:
    model, images = curved_model(3), grey_images(64)
    labels = model(images).argmax(dim=1)
    threat = ThreatModel(norm="linf", epsilon=0.15)
    once = is_fooled(model(craft(PGD(num_steps=2), model, images, labels, threat)), labels)
    often = is_fooled(model(craft(PGD(num_steps=2, num_restarts=8), model, images, labels, threat)), labels)
    assert (often | ~once).all()
    assert often.sum() > once.sum()


def test_transfer_pushes_images_past_the_first_success() -> None:
    model, images = linear_model(2), grey_images(6)
    labels, threat = model(images).argmax(dim=1), ThreatModel(norm="linf", epsilon=0.5)
    transferred = craft(Transfer("surrogate", BIM()), model, images, labels, threat)
    assert torch.equal(transferred, craft(BIM(early_stop=False), model, images, labels, threat))


def test_a_decision_that_is_not_a_number_counts_as_fooled() -> None:
    logits = torch.tensor([[1.0, float("nan")], [1.0, 0.0]])
    labels = torch.tensor([0, 0])
    assert is_fooled(logits, labels).tolist() == [True, False]
    assert is_fooled(logits, labels, targeted=True).tolist() == [False, True]
