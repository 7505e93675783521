"""What every attack promises, whichever it is."""

from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from smdguard.attacks import (
    APGD,
    BIM,
    FAB,
    FGSM,
    MIM,
    PGD,
    RFGSM,
    Attack,
    BoundaryWalk,
    MemberReweighing,
    Square,
    TargetedAPGD,
    Unsuspicious,
)
from smdguard.ensemble import Ensemble
from smdguard.threat import Norm, ThreatModel
from tests.attacks.crafting import craft
from tests.attacks.known_models import curved_model, grey_images, linear_model

ATTACKS: list[Attack] = [
    FGSM(),
    RFGSM(),
    BIM(),
    MIM(),
    PGD(num_steps=3, num_restarts=3),
    APGD(num_steps=10, num_restarts=2),
    TargetedAPGD(num_steps=10, num_target_classes=2),
    MemberReweighing(num_steps=10),
    FAB(num_steps=5, num_target_classes=2),
    Square(num_queries=30),
    BoundaryWalk(num_steps=5),
    Unsuspicious(num_steps=10, threshold=0.01),
]


def model() -> Ensemble:
    """Members that differ."""
    return Ensemble([curved_model(), linear_model(4, scale=6)], mean=[0.0], std=[1.0]).double()


@pytest.mark.parametrize("norm", get_args(Norm))
@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
@given(epsilon=st.floats(0.0, 1.0), seed=st.integers(0, 9))
@settings(max_examples=10, deadline=None)
def test_no_attack_leaves_the_ball_or_the_box(attack: Attack, norm: Norm, epsilon: float, seed: int) -> None:
    images = torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    threat = ThreatModel(norm, epsilon)
    adversarial = craft(attack, model().float(), images, torch.tensor([0, 1, 2, 0]), threat, seed)
    assert (threat.distance(images, adversarial) <= epsilon + 1e-6).all()
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1


@pytest.mark.parametrize("norm", get_args(Norm))
@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
@pytest.mark.parametrize("gives", [torch.float16, torch.float32])
def test_images_in_half_precision_are_attacked_in_it(attack: Attack, norm: Norm, gives: torch.dtype) -> None:
    ensemble, threat = model().float(), ThreatModel(norm, 0.1 if norm == "linf" else 0.4)
    images = grey_images(6).half()

    class Widened:
        def __call__(self, images: Tensor) -> Tensor:
            return ensemble(images.float()).to(gives)

        def member_logits(self, images: Tensor) -> Tensor:
            return ensemble.member_logits(images.float()).to(gives)

        def member_log_probabilities(self, images: Tensor) -> Tensor:
            return ensemble.member_log_probabilities(images.float()).to(gives)

    adversarial = craft(attack, Widened(), images, Widened()(images).argmax(dim=1), threat)
    assert adversarial.dtype == torch.float16
    assert (threat.distance(images.float(), adversarial.float()) <= threat.epsilon + 2e-3).all()
    assert not torch.equal(adversarial, images)


@pytest.mark.parametrize("norm", get_args(Norm))
@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_an_attack_is_repeatable_and_an_image_does_not_depend_on_how_the_others_fare(
    attack: Attack, norm: Norm
) -> None:
    ensemble, images = model(), grey_images(24)
    threat = ThreatModel(norm, 0.04 if norm == "linf" else 0.15)
    labels = ensemble(images).argmax(dim=1)
    before, first = images.clone(), craft(attack, ensemble, images, labels, threat)
    assert torch.equal(first, craft(attack, ensemble, images, labels, threat))
    assert torch.equal(images, before)
    # With a wrong label the first half is fooled from the start.
    others = torch.cat([(labels[:12] + 1) % 4, labels[12:]])
    torch.testing.assert_close(craft(attack, ensemble, images, others, threat)[12:], first[12:], rtol=0, atol=1e-9)
