"""PGD with ten steps, last iterate of every image, against the same attack of other libraries."""

import foolbox
import pytest
import torch
import torchattacks
from art.attacks.evasion import ProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier
from torch import Tensor

from smdguard.attacks import PGD
from smdguard.datasets import balanced_subset, parse_subset
from smdguard.ensemble import Ensemble
from smdguard.guard import load
from smdguard.hub import read_test_subset
from smdguard.threat import ThreatModel

EPSILON, NUM_STEPS, NUM_IMAGES = 0.3, 10, 250
pytestmark = pytest.mark.benchmark(group=f"PGD, {NUM_STEPS} steps, {NUM_IMAGES} images, smd-lenet-mnist")


@pytest.fixture(scope="module")
def data() -> tuple[Tensor, Tensor]:
    subset = balanced_subset(parse_subset(read_test_subset("mnist")), NUM_IMAGES)
    return subset.scaled(), subset.labels


@pytest.fixture
def ensemble() -> Ensemble:
    return load("smd-lenet-mnist", backend="torch", device="cpu").ensemble


@pytest.fixture
def plain_ensemble(ensemble: Ensemble) -> Ensemble:
    """The ensemble as someone else would hold it: weights that want gradients, in the usual memory format."""
    return ensemble.to(memory_format=torch.contiguous_format).requires_grad_(True)


@pytest.mark.parametrize("early_stop", [False, True], ids=["last iterate", "first success"])
def test_smdguard(benchmark, early_stop: bool, ensemble: Ensemble, data: tuple[Tensor, Tensor]) -> None:
    attack, threat = PGD(num_steps=NUM_STEPS, early_stop=early_stop), ThreatModel(norm="linf", epsilon=EPSILON)
    generator = torch.Generator().manual_seed(0)
    benchmark.pedantic(lambda: attack(ensemble, *data, threat, generator=generator), rounds=5, warmup_rounds=1)


def test_torchattacks(benchmark, plain_ensemble: Ensemble, data: tuple[Tensor, Tensor]) -> None:
    attack = torchattacks.PGD(plain_ensemble, eps=EPSILON, alpha=EPSILON / NUM_STEPS, steps=NUM_STEPS)
    benchmark.pedantic(lambda: attack(*data), rounds=5, warmup_rounds=1)


def test_foolbox(benchmark, plain_ensemble: Ensemble, data: tuple[Tensor, Tensor]) -> None:
    model = foolbox.PyTorchModel(plain_ensemble, bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.LinfPGD(abs_stepsize=EPSILON / NUM_STEPS, steps=NUM_STEPS)
    criterion = foolbox.criteria.Misclassification(data[1])
    benchmark.pedantic(lambda: attack.run(model, data[0], criterion, epsilon=EPSILON), rounds=5, warmup_rounds=1)


def test_art(benchmark, plain_ensemble: Ensemble, data: tuple[Tensor, Tensor]) -> None:
    classifier = PyTorchClassifier(
        plain_ensemble, torch.nn.CrossEntropyLoss(), input_shape=(1, 28, 28), nb_classes=10, clip_values=(0.0, 1.0)
    )
    attack = ProjectedGradientDescent(
        classifier,
        eps=EPSILON,
        eps_step=EPSILON / NUM_STEPS,
        max_iter=NUM_STEPS,
        num_random_init=1,
        batch_size=NUM_IMAGES,
        verbose=False,
    )
    images, labels = data[0].numpy(), data[1].numpy()
    benchmark.pedantic(lambda: attack.generate(images, labels), rounds=5, warmup_rounds=1)
