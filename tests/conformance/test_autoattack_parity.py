"""APGD and Square leave no more images standing than AutoAttack's do, at the same budget.

The draws differ, so the images that fall differ a little; the accuracies must agree.
"""

import logging

import pytest
import torch
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from pyautoattack.square import SquareAttack
from torch import Tensor, nn
from torch.nn import functional

from smdguard.attacks import APGD, Attack, MemberReweighing, Square, TargetedAPGD
from smdguard.ensemble import Ensemble
from smdguard.threat import Norm, ThreatModel

NUM_IMAGES, NUM_CLASSES, SIZE, NUM_STEPS, NUM_QUERIES = 200, 6, 10, 30, 600
THREATS = [ThreatModel(norm="linf", epsilon=0.04), ThreatModel(norm="l2", epsilon=0.2)]
PEER_NORM: dict[Norm, str] = {"linf": "Linf", "l2": "L2"}


def blurred(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return functional.avg_pool2d(torch.rand(shape, generator=generator), 5, stride=1, padding=2)


def draw(num_images: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Blurred patterns, one a class, under blurred and fine noise."""
    patterns = blurred((NUM_CLASSES, 1, SIZE, SIZE), torch.Generator().manual_seed(7))
    labels = torch.randint(NUM_CLASSES, (num_images,), generator=generator)
    noise = blurred((num_images, 1, SIZE, SIZE), generator)
    fine = 0.2 * torch.randn((num_images, 1, SIZE, SIZE), generator=generator)
    return (patterns[labels] * 1.5 + noise + fine - 0.75).clamp(0, 1), labels


def train(member: nn.Module, images: Tensor, labels: Tensor) -> None:
    optimiser = torch.optim.Adam(member.parameters(), lr=3e-3)
    for _ in range(8):
        for batch in torch.randperm(len(images)).split(128):
            loss = functional.cross_entropy(member(images[batch]), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()


@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    """Three small convolutional networks, trained in seconds."""
    torch.manual_seed(0)
    images, labels = draw(2000, torch.Generator().manual_seed(0))
    members = [
        nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 6)
        )
        for _ in range(3)
    ]
    for member in members:
        train(member, images, labels)
    return Ensemble(members, mean=[0.0], std=[1.0]).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def data() -> tuple[Tensor, Tensor]:
    return draw(NUM_IMAGES, torch.Generator().manual_seed(1))


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """In percent."""
    with torch.no_grad():
        return 100 * (model(images).argmax(dim=1) == labels).double().mean().item()


def robust_accuracy(attack: Attack, model: nn.Module, data: tuple[Tensor, Tensor], threat: ThreatModel) -> float:
    adversarial = attack(model, *data, threat, generator=torch.Generator().manual_seed(0))
    return accuracy(model, adversarial, data[1])


def peer_accuracy(kind: type, model: nn.Module, data: tuple[Tensor, Tensor], threat: ThreatModel, **settings) -> float:
    peer = kind(model, norm=PEER_NORM[threat.norm], eps=threat.epsilon, seed=0, device="cpu", **settings)
    peer.logger = logging.getLogger("auto-attack")
    return accuracy(model, peer.perturb(*data), data[1])


@pytest.mark.parametrize("threat", THREATS, ids=lambda threat: threat.norm)
class TestAutoAttack:
    @pytest.mark.parametrize("loss", ["ce", "dlr"])
    def test_apgd(self, loss, threat: ThreatModel, ensemble: Ensemble, data: tuple[Tensor, Tensor]) -> None:
        ours = robust_accuracy(APGD(loss=loss, num_steps=NUM_STEPS), ensemble, data, threat)
        theirs = peer_accuracy(APGDAttack, ensemble, data, threat, loss=loss, n_iter=NUM_STEPS)
        assert 20 < theirs < 80
        assert ours == pytest.approx(theirs, abs=1.01)

    def test_targeted_apgd(self, threat: ThreatModel, ensemble: Ensemble, data: tuple[Tensor, Tensor]) -> None:
        ours = robust_accuracy(TargetedAPGD(num_steps=20, num_target_classes=3), ensemble, data, threat)
        theirs = peer_accuracy(APGDAttack_targeted, ensemble, data, threat, n_iter=20, n_target_classes=3)
        assert ours == pytest.approx(theirs, abs=1.01)

    def test_square(self, threat: ThreatModel, ensemble: Ensemble, data: tuple[Tensor, Tensor]) -> None:
        ours = robust_accuracy(Square(num_queries=NUM_QUERIES), ensemble, data, threat)
        theirs = peer_accuracy(SquareAttack, ensemble, data, threat, n_queries=NUM_QUERIES)
        assert 20 < theirs < 95
        # One-sided: ours also tries the last row and column, which pays where there are queries enough.
        assert ours <= theirs + 1

    def test_member_reweighing_is_no_weaker_than_apgd(
        self, threat: ThreatModel, ensemble: Ensemble, data: tuple[Tensor, Tensor]
    ) -> None:
        ours = robust_accuracy(MemberReweighing(num_steps=20), ensemble, data, threat)
        theirs = peer_accuracy(APGDAttack, ensemble, data, threat, n_iter=20, n_restarts=2)
        assert ours <= theirs + 1
