"""FGSM, PGD, BIM and MIM against the same attacks of other libraries, in float64 and last iterate.

The peers average the loss over the batch and ours sums it; the sign of the gradient does not change.
"""

import foolbox
import pytest
import torch
import torchattacks
from torch import Tensor

from smdguard.attacks import BIM, FGSM, MIM, PGD, Attack
from smdguard.catalogue import read_test_subset
from smdguard.datasets import balanced_subset, parse_subset
from smdguard.ensemble import Ensemble
from smdguard.guard import load
from smdguard.threat import ThreatModel

EPSILON, NUM_STEPS, STEP_RATIO, NUM_IMAGES = 0.2, 10, 0.1, 40
STEP_SIZE = EPSILON * STEP_RATIO
THREAT = ThreatModel(norm="linf", epsilon=EPSILON)
SETTINGS = {"early_stop": False, "num_steps": NUM_STEPS, "step_ratio": STEP_RATIO}
with_decays = pytest.mark.parametrize("decay", [1.0, 0.5])


@pytest.fixture(scope="module", params=["naive-lenet-mnist", "smd-lenet-mnist"])
def ensemble(request: pytest.FixtureRequest) -> Ensemble:
    return load(request.param, backend="torch", device="cpu").ensemble.double()


@pytest.fixture(scope="module")
def data() -> tuple[Tensor, Tensor]:
    subset = balanced_subset(parse_subset(read_test_subset("mnist")), NUM_IMAGES)
    return subset.images.double() / 255, subset.labels


@pytest.fixture(scope="module")
def start(data: tuple[Tensor, Tensor]) -> Tensor:
    """The random start that our PGD draws, for peers that cannot be given a generator."""
    return THREAT.random_start(data[0], torch.Generator().manual_seed(0))


def ours(attack: Attack, ensemble: Ensemble, data: tuple[Tensor, Tensor]) -> Tensor:
    return attack(ensemble, *data, THREAT, generator=torch.Generator().manual_seed(0))


def assert_same(first: Tensor, second: Tensor, ensemble: Ensemble) -> None:
    """At least 99.5 % of the pixels equal, and every decision."""
    equal = ((first - second).abs() < 1e-9).double().mean().item()
    assert equal >= 0.995
    with torch.no_grad():
        assert torch.equal(ensemble(first).argmax(dim=1), ensemble(second).argmax(dim=1))


class TestTorchattacks:
    def run(self, attack: torchattacks.attack.Attack, data: tuple[Tensor, Tensor]) -> Tensor:
        # torchattacks checks in float32 that the images lie in [0, 1] and otherwise works in their type.
        return attack(*data)

    def test_fgsm(self, ensemble: Ensemble, data: tuple[Tensor, Tensor]) -> None:
        theirs = self.run(torchattacks.FGSM(ensemble, eps=EPSILON), data)
        assert_same(ours(FGSM(early_stop=False), ensemble, data), theirs, ensemble)

    def test_bim(self, ensemble: Ensemble, data: tuple[Tensor, Tensor]) -> None:
        theirs = self.run(torchattacks.BIM(ensemble, eps=EPSILON, alpha=STEP_SIZE, steps=NUM_STEPS), data)
        assert_same(ours(BIM(**SETTINGS), ensemble, data), theirs, ensemble)

    @with_decays
    def test_mim(self, ensemble: Ensemble, data: tuple[Tensor, Tensor], decay: float) -> None:
        attack = torchattacks.MIFGSM(ensemble, eps=EPSILON, alpha=STEP_SIZE, steps=NUM_STEPS, decay=decay)
        # Theirs divides by the mean of the gradient's absolute values, ours by their sum: the same direction.
        assert_same(ours(MIM(**SETTINGS, decay=decay), ensemble, data), self.run(attack, data), ensemble)

    def test_pgd_from_the_same_start(self, ensemble: Ensemble, data: tuple[Tensor, Tensor], start: Tensor) -> None:
        attack = torchattacks.PGD(ensemble, eps=EPSILON, alpha=STEP_SIZE, steps=NUM_STEPS, random_start=True)
        with pytest.MonkeyPatch.context() as patch:
            # Its only draw is the start's offset.
            patch.setattr(torch.Tensor, "uniform_", lambda self, low, high: self.copy_(start - data[0]))
            theirs = self.run(attack, data)
        assert_same(ours(PGD(**SETTINGS), ensemble, data), theirs, ensemble)


class TestFoolbox:
    def run(self, attack: foolbox.attacks.base.Attack, ensemble: Ensemble, data: tuple[Tensor, Tensor]) -> Tensor:
        model = foolbox.PyTorchModel(ensemble, bounds=(0, 1), device="cpu")
        return attack.run(model, data[0], foolbox.criteria.Misclassification(data[1]), epsilon=EPSILON)

    def test_fgsm(self, ensemble: Ensemble, data: tuple[Tensor, Tensor]) -> None:
        theirs = self.run(foolbox.attacks.LinfFastGradientAttack(random_start=False), ensemble, data)
        assert_same(ours(FGSM(early_stop=False), ensemble, data), theirs, ensemble)

    def test_bim(self, ensemble: Ensemble, data: tuple[Tensor, Tensor]) -> None:
        attack = foolbox.attacks.LinfBasicIterativeAttack(abs_stepsize=STEP_SIZE, steps=NUM_STEPS, random_start=False)
        assert_same(ours(BIM(**SETTINGS), ensemble, data), self.run(attack, ensemble, data), ensemble)

    @with_decays
    def test_mim(self, ensemble: Ensemble, data: tuple[Tensor, Tensor], decay: float) -> None:
        class Dong(foolbox.attacks.LinfMomentumIterativeFastGradientMethod):
            """Theirs adds up the gradients' signs; the paper divides each gradient by its L1 norm."""

            def normalize(self, gradients, *, x, bounds):
                return gradients / gradients.abs().sum(axis=(1, 2, 3), keepdims=True)

        attack = Dong(momentum=decay, abs_stepsize=STEP_SIZE, steps=NUM_STEPS, random_start=False)
        assert_same(ours(MIM(**SETTINGS, decay=decay), ensemble, data), self.run(attack, ensemble, data), ensemble)

    def test_pgd_from_the_same_start(self, ensemble: Ensemble, data: tuple[Tensor, Tensor], start: Tensor) -> None:
        attack = foolbox.attacks.LinfPGD(abs_stepsize=STEP_SIZE, steps=NUM_STEPS, random_start=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(attack, "get_random_start", lambda images, _: images.__class__(start))
            theirs = self.run(attack, ensemble, data)
        assert_same(ours(PGD(**SETTINGS), ensemble, data), theirs, ensemble)
