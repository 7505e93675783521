"""APGD and targeted APGD on models whose optimal perturbation is known."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from smdguard.attacks import APGD, Attack, TargetedAPGD
from smdguard.attacks.adaptive_ascent import _checkpoints
from smdguard.attacks.attack import is_fooled
from smdguard.attacks.losses import LossName, margin, rising
from smdguard.threat import Norm, ThreatModel
from tests.attacks.crafting import craft, craft_watched
from tests.attacks.known_models import curved_model, grey_images, linear_model


def largest_rise(model: nn.Sequential, norm: Norm) -> Tensor:
    """How far a step of length one raises the margin of a linear model of two classes: the weights' dual norm."""
    weight = model[1].weight
    return torch.linalg.vector_norm(weight[0] - weight[1], ord=1 if norm == "linf" else 2)


@pytest.mark.parametrize("loss", ["ce", "cw", "dlr", "sce"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_reaches_the_optimum_of_a_linear_model(norm: Norm, loss: LossName) -> None:
    model, images, labels = linear_model(2), grey_images(6), torch.arange(6) % 2
    threat = ThreatModel(norm=norm, epsilon=0.2)
    adversarial = craft(APGD(loss=loss, early_stop=False), model, images, labels, threat)
    optimum = margin(model(images), labels) + threat.epsilon * largest_rise(model, norm)
    torch.testing.assert_close(margin(model(adversarial), labels), optimum, rtol=0, atol=2e-3)


def test_reaches_the_optimum_where_the_box_binds() -> None:
    model, labels = linear_model(2), torch.arange(6) % 2
    images = torch.rand(6, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    threat = ThreatModel(norm="linf", epsilon=0.4)
    uphill = (model[1].weight[1 - labels] - model[1].weight[labels]).view_as(images).sign()
    adversarial = craft(APGD(early_stop=False), model, images, labels, threat)
    optimum = margin(model((images + 0.4 * uphill).clamp(0, 1)), labels)
    torch.testing.assert_close(margin(model(adversarial), labels), optimum, rtol=0, atol=1e-3)


@pytest.mark.parametrize("attack", [APGD(), APGD(loss="dlr"), TargetedAPGD()], ids=lambda a: a.name)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_fools_exactly_the_images_that_can_be_fooled(norm: Norm, attack: Attack) -> None:
    model, images = linear_model(2), grey_images(200)
    labels = model(images).argmax(dim=1)
    needed = -margin(model(images), labels) / largest_rise(model, norm)
    threat = ThreatModel(norm=norm, epsilon=needed.median().item())
    fooled = is_fooled(model(craft(attack, model, images, labels, threat)), labels)
    assert fooled[needed < 0.995 * threat.epsilon].all()
    assert not fooled[needed > threat.epsilon].any()
    assert fooled.double().mean() > 0.45


def test_early_stop_keeps_the_first_success() -> None:
    model, images = curved_model(), grey_images(12)
    labels, threat = model(images).argmax(dim=1), ThreatModel(norm="linf", epsilon=0.1)
    adversarial, seen = craft_watched(APGD(), model, images[:1], labels[:1], threat)
    successes = [candidate for candidate in seen if is_fooled(model(candidate), labels[:1])]
    assert len(successes) == 1
    assert torch.equal(adversarial, successes[0])
    pushed = craft(APGD(early_stop=False), model, images[:1], labels[:1], threat)
    assert margin(model(pushed), labels[:1]) > margin(model(adversarial), labels[:1])


def test_images_that_are_wrong_already_are_returned_as_they_are() -> None:
    model, images = curved_model(), grey_images(6)
    labels = (model(images).argmax(dim=1) + 1) % 4
    assert torch.equal(craft(APGD(), model, images, labels, ThreatModel("linf", 0.1)), images)


@pytest.mark.parametrize("attack", [APGD(), APGD(loss="dlr"), TargetedAPGD()], ids=lambda a: a.name)
def test_saturated_float32_logits_are_attacked_like_moderate_ones(attack: Attack) -> None:
    moderate, saturated = linear_model(3), linear_model(3, scale=1e3).float()
    images = grey_images(100)
    labels, threat = moderate(images).argmax(dim=1), ThreatModel(norm="linf", epsilon=0.02)
    expected = is_fooled(moderate(craft(attack, moderate, images, labels, threat)), labels).double().mean()
    found = is_fooled(saturated(craft(attack, saturated, images.float(), labels, threat)), labels).double().mean()
    assert 0.1 < expected < 0.9
    assert found >= expected - 0.02


def test_a_gradient_that_is_not_a_number_does_not_count_as_success() -> None:
    linear = linear_model(2)

    def model(images: Tensor) -> Tensor:
        # The square root has the derivative 0 * inf at zero, the value is sound.
        return linear(images) + (images.flatten(1).sum(dim=1, keepdim=True) * 0).sqrt()

    images = grey_images(4)
    labels = model(images).argmax(dim=1)
    adversarial = craft(APGD(num_steps=5), model, images, labels, ThreatModel("linf", 0.01))  # type: ignore[arg-type]
    assert adversarial.isfinite().all()


def test_an_output_that_is_not_a_number_is_kept_as_the_success_that_it_is() -> None:
    linear, images = linear_model(2), grey_images(4)
    labels, (left, right) = linear(images).argmax(dim=1), (images - 1e-6, images + 1e-6)

    def model(candidates: Tensor) -> Tensor:
        clean = ((candidates >= left) & (candidates <= right)).flatten(1).all(dim=1)
        return torch.where(clean[:, None], linear(candidates), torch.nan)

    adversarial = craft(APGD(num_steps=5, early_stop=False), model, images, labels, ThreatModel("linf", 0.01))
    assert model(adversarial).isnan().all()


@pytest.mark.parametrize("loss", ["ce", "cw", "dlr", "sce"])
def test_targeted_apgd_reaches_the_wanted_class(loss: LossName) -> None:
    model, images = linear_model(4), grey_images(6)
    wanted = (model(images).argmax(dim=1) + 1) % 4
    adversarial = craft(APGD(loss=loss, targeted=True), model, images, wanted, ThreatModel("linf", 0.5))
    assert torch.equal(model(adversarial).argmax(dim=1), wanted)


def test_apgd_t_turns_to_the_second_likeliest_class_where_the_likeliest_cannot_be_reached() -> None:
    weight = torch.zeros(4, 16, dtype=torch.float64)
    weight[2] = 1

    def model(images: Tensor) -> Tensor:
        # Class 1 stays just below class 0 whatever happens; class 2 grows with every pixel.
        constant = torch.tensor([1.0, 0.9, -8.0, -9.0], dtype=torch.float64)
        return constant + images.flatten(1) @ weight.T

    images, labels, threat = grey_images(3), torch.zeros(3, dtype=torch.long), ThreatModel("linf", 0.3)
    once = craft(TargetedAPGD(num_target_classes=1), model, images, labels, threat)  # type: ignore[arg-type]
    twice = craft(TargetedAPGD(num_target_classes=2), model, images, labels, threat)  # type: ignore[arg-type]
    assert model(once).argmax(dim=1).tolist() == [0, 0, 0]
    assert model(twice).argmax(dim=1).tolist() == [2, 2, 2]


def test_restarts_only_help() -> None:
    model, images = curved_model(), grey_images(100)
    labels, threat = model(images).argmax(dim=1), ThreatModel("linf", 0.04)
    once = is_fooled(model(craft(APGD(num_steps=3), model, images, labels, threat)), labels)
    often = is_fooled(model(craft(APGD(num_steps=3, num_restarts=5), model, images, labels, threat)), labels)
    assert (often | ~once).all()
    assert often.sum() > once.sum()


def test_without_early_stop_the_best_restart_counts_for_each_image() -> None:
    model, images = curved_model(), grey_images(40)
    labels, threat = model(images).argmax(dim=1), ThreatModel("linf", 0.04)
    reached = [
        margin(model(craft(attack, model, images, labels, threat)), labels)
        for attack in (APGD(loss="cw", num_steps=3, num_restarts=n, early_stop=False) for n in (1, 2, 5))
    ]
    assert (reached[0] <= reached[1]).all()
    assert (reached[1] <= reached[2]).all()
    assert (reached[0] < reached[2]).any()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("loss", ["ce", "cw"])
def test_visits_the_points_of_the_published_algorithm(norm: Norm, loss: LossName) -> None:
    model, images = curved_model(), grey_images(8)
    labels, threat = model(images).argmax(dim=1), ThreatModel(norm=norm, epsilon=0.08)
    for image, label in zip(images.split(1), labels.split(1), strict=True):
        attack = APGD(num_steps=40, loss=loss, early_stop=False)
        adversarial, seen = craft_watched(attack, model, image, label, threat)

        def climbed(point: Tensor, label: Tensor = label) -> Tensor:
            return rising(loss, model(point), label)

        expected = published_walk(climbed, seen[0], image, threat, num_steps=40)
        torch.testing.assert_close(torch.cat(seen), torch.cat(expected), rtol=0, atol=1e-10)
        assert torch.equal(adversarial, max(seen, key=lambda point: climbed(point).item()))


def published_walk(
    function: Callable[[Tensor], Tensor], start: Tensor, image: Tensor, threat: ThreatModel, *, num_steps: int
) -> list[Tensor]:
    """The points of Algorithm 1 of Croce and Hein, 2020, for one image.

    A step size is halved where at most 0.75 of the steps rose, as in the authors' code; the paper has fewer.
    """

    def step_from(point: Tensor, size: float) -> Tensor:
        leaf = point.clone().requires_grad_()
        gradient = torch.autograd.grad(function(leaf).sum(), leaf)[0]
        return threat.project(image, point + size * threat.ascent_direction(gradient))

    points, checkpoints, last_checkpoint = [start], _checkpoints(num_steps), 0
    size, current, before, best = 2 * threat.epsilon, start, start, start
    best_at_checkpoint, just_halved = -float("inf"), True
    for number in range(1, num_steps + 1):
        ahead, inertia = step_from(current, size), 0.25 if number > 1 else 0
        mixed = current + (1 - inertia) * (ahead - current) + inertia * (current - before)
        before, current = current, threat.project(image, mixed)
        points.append(current)
        best = max(best, current, key=lambda point: function(point).item())
        if number in checkpoints:
            values = [function(point).item() for point in points[last_checkpoint:]]
            rises = sum(later > earlier for earlier, later in pairwise(values))
            no_progress = not just_halved and function(best).item() <= best_at_checkpoint
            just_halved = rises <= 0.75 * (number - last_checkpoint) or no_progress
            if just_halved:
                size, current = size / 2, best
            last_checkpoint, best_at_checkpoint = number, function(best).item()
    return points


def test_checkpoints_of_a_hundred_steps_are_the_papers() -> None:
    # p_0 = 0, p_1 = 0.22, p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06).
    assert list(_checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert _checkpoints(100)[41] == 19
