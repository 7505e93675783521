"""FAB on models whose smallest perturbation is known."""

import pytest
import torch
from torch import Tensor, nn

from smdguard.attacks import FAB
from smdguard.attacks.attack import is_fooled
from smdguard.attacks.losses import margin
from smdguard.threat import Norm, ThreatModel
from tests.attacks.known_models import curved_model, grey_images, linear_model

NORMS: list[Norm] = ["linf", "l2"]
# How close the attack comes: it overshoots by a twentieth of what is left after it went back by a tenth.
NEARLY = 1.006


def craft(
    model: object, images: Tensor, labels: Tensor, threat: ThreatModel, *, num_steps: int = 12, **settings: int
) -> Tensor:
    attack, generator = FAB(num_steps=num_steps, **settings), torch.Generator().manual_seed(0)
    return attack(model, images, labels, threat, generator=generator)  # type: ignore[arg-type]


def smallest_radius(model: nn.Sequential, images: Tensor, labels: Tensor, norm: Norm) -> Tensor:
    """Of a linear model, where the box does not bind: least of (z_y - z_k) / dual norm of (w_y - w_k), (B,)."""
    logits, weight = model(images), model[1].weight
    order = 1 if norm == "linf" else 2
    slopes = torch.linalg.vector_norm(weight[labels][:, None] - weight[None], ord=order, dim=2)
    radii = (logits.gather(1, labels[:, None]) - logits) / slopes
    return radii.scatter(1, labels[:, None], torch.inf).amin(dim=1)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("num_classes", [2, 5])
def test_finds_the_smallest_perturbation_of_a_linear_model(norm: Norm, num_classes: int) -> None:
    model, images = linear_model(num_classes), grey_images(12)
    labels = model(images).argmax(dim=1)
    for row, radius in enumerate(smallest_radius(model, images, labels, norm).tolist()):
        image, label = images[row : row + 1], labels[row : row + 1]
        just_enough, too_little = (ThreatModel(norm, share * radius) for share in (NEARLY, 0.999))
        assert is_fooled(model(craft(model, image, label, just_enough)), label)
        assert torch.equal(craft(model, image, label, too_little), image)


@pytest.mark.parametrize("norm", NORMS)
def test_finds_the_smallest_perturbation_where_the_box_binds(norm: Norm) -> None:
    # Only the last pixel can grow by more than 0.1, and its weight is half of the others'.
    weight = torch.tensor([1.0, 1.0, 0.5], dtype=torch.float64).view(1, 1, 3)
    images = torch.tensor([0.9, 0.9, 0.0], dtype=torch.float64).view(1, 1, 1, 3)

    def model(candidates: Tensor) -> Tensor:
        rise = (weight * (candidates - images)).sum(dim=(1, 2, 3))
        return torch.stack([0.3 - rise, rise - 0.3], dim=1)

    # 0.3 = 0.1 + 0.1 + 0.5 x 0.2
    smallest = 0.2 if norm == "linf" else (0.1**2 + 0.1**2 + 0.2**2) ** 0.5
    label = torch.tensor([0])
    assert is_fooled(model(craft(model, images, label, ThreatModel(norm, NEARLY * smallest))), label)
    assert torch.equal(craft(model, images, label, ThreatModel(norm, 0.999 * smallest)), images)


def test_same_result_twice_and_inputs_untouched_and_others_do_not_matter() -> None:
    model, images, threat = curved_model(), grey_images(12), ThreatModel("linf", 0.05)
    labels, before = model(images).argmax(dim=1), images.clone()
    first = craft(model, images, labels, threat)
    assert torch.equal(first, craft(model, images, labels, threat))
    assert torch.equal(images, before)
    # With a wrong label the first six are fooled from the start and never attacked.
    others = torch.cat([(labels[:6] + 1) % 4, labels[6:]])
    second = craft(model, images, others, threat)
    assert torch.equal(second[:6], images[:6])
    torch.testing.assert_close(first[6:], second[6:], rtol=0, atol=1e-9)


def test_an_image_is_left_alone_from_its_first_success_on() -> None:
    model, images = curved_model(), grey_images(12)
    labels, threat = model(images).argmax(dim=1), ThreatModel("linf", 0.1)
    seen: list[Tensor] = []

    def watched(candidates: Tensor) -> Tensor:
        seen.append(candidates.detach().clone())
        return model(candidates)

    adversarial = craft(watched, images[:1], labels[:1], threat)
    within = [candidate for candidate in seen if threat.distance(images[:1], candidate) <= threat.epsilon]
    successes = [candidate for candidate in within if is_fooled(model(candidate), labels[:1])]
    assert len(successes) == 1
    assert torch.equal(adversarial, successes[0])
    assert torch.equal(seen[-1], successes[0])


def test_saturated_float32_logits_are_attacked_like_moderate_ones() -> None:
    moderate, saturated = linear_model(3), linear_model(3, scale=1e3).float()
    images = grey_images(60)
    labels, threat = moderate(images).argmax(dim=1), ThreatModel("linf", 0.02)
    expected = is_fooled(moderate(craft(moderate, images, labels, threat)), labels)
    found = is_fooled(saturated(craft(saturated, images.float(), labels, threat)), labels)
    assert 0.1 < expected.double().mean() < 0.9
    assert torch.equal(found, expected)


def test_turns_to_the_second_likeliest_class_where_the_likeliest_cannot_be_reached() -> None:
    def model(candidates: Tensor) -> Tensor:
        # Class 1 stays just below class 0 whatever happens; class 2 grows with every pixel.
        constant = torch.tensor([1.0, 0.9, -8.0, -9.0], dtype=torch.float64)
        return constant + candidates.flatten(1).sum(dim=1, keepdim=True) * torch.tensor([0.0, 0.0, 1.0, 0.0])

    images, labels, threat = grey_images(3), torch.zeros(3, dtype=torch.long), ThreatModel("linf", 0.3)
    once = craft(model, images, labels, threat, num_target_classes=1)
    twice = craft(model, images, labels, threat, num_target_classes=2)
    assert torch.equal(once, images)
    assert model(twice).argmax(dim=1).tolist() == [2, 2, 2]


def test_a_gradient_that_is_not_a_number_leads_nowhere() -> None:
    linear = linear_model(2)

    def model(candidates: Tensor) -> Tensor:
        # The square root has the derivative 0 * inf at zero, the value is sound.
        return linear(candidates) + (candidates.flatten(1).sum(dim=1, keepdim=True) * 0).sqrt()

    images = grey_images(4)
    labels = model(images).argmax(dim=1)
    assert (margin(model(images), labels) < 0).all()
    assert torch.equal(craft(model, images, labels, ThreatModel("linf", 0.3), num_steps=5), images)
