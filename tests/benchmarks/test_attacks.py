"""PGD and APGD against the same attacks of other libraries.

Ours once as they come, leaving an image alone as soon as it is fooled, and once with every step on every image, as the
others do it. The others attack the ensemble as a stranger would hold it: its members one after another, in PyTorch's
own memory format, with weights that want gradients. The members are this package's for all, so what makes their own
gradients fast serves the others as well.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import foolbox
import pytest
import torch
import torchattacks
from art.attacks.evasion import AutoProjectedGradientDescent, ProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from smdguard.attacks import APGD, PGD, Attack
from smdguard.catalogue import read_test_subset
from smdguard.datasets import balanced_subset, find_dataset, parse_subset
from smdguard.ensemble import Ensemble
from smdguard.guard import load
from smdguard.threat import ThreatModel
from tests.benchmarks.conftest import Compare

NUM_STEPS = 10
Run = Callable[[], object]


class PlainEnsemble(nn.Module):
    """The mean of the members' probabilities, one member after another."""

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__()
        self.members = ensemble.members
        self.mean, self.std = ensemble.mean, ensemble.std

    def forward(self, images: Tensor) -> Tensor:
        normalised = (images - self.mean) / self.std
        return torch.stack([member(normalised).log_softmax(dim=-1) for member in self.members]).logsumexp(dim=0)


@dataclass(frozen=True)
class Case:
    """What is attacked."""

    name: str
    ensemble: Ensemble
    images: Tensor
    labels: Tensor
    epsilon: float

    @property
    def step_size(self) -> float:
        return self.epsilon / NUM_STEPS

    @property
    def plain(self) -> PlainEnsemble:
        copied = deepcopy(self.ensemble).to(memory_format=torch.contiguous_format)
        return PlainEnsemble(copied.requires_grad_(True)).eval()

    @property
    def art_classifier(self) -> PyTorchClassifier:
        return PyTorchClassifier(
            self.plain,
            nn.CrossEntropyLoss(),
            input_shape=self.images.shape[1:],
            nb_classes=10,
            clip_values=(0.0, 1.0),
            device_type="cpu",
        )


@pytest.fixture(params=[("smd-lenet-mnist", 250), ("naive-resnet20-cifar10-preview", 50)], ids=lambda case: case[0])
def case(request: pytest.FixtureRequest) -> Case:
    """Three trained members each, small ones for digits and larger ones for photographs."""
    name, num_images = request.param
    guard = load(name, backend="torch", device="cpu")
    dataset = find_dataset(guard.config.training.dataset)
    subset = balanced_subset(parse_subset(read_test_subset(dataset.name)), num_images)
    return Case(name, guard.ensemble, subset.scaled(), subset.labels, dataset.epsilon)


def smdguard_pgd(case: Case, *, early_stop: bool = True) -> Run:
    return _smdguard(PGD(num_steps=NUM_STEPS, early_stop=early_stop), case)


def smdguard_pgd_every_step(case: Case) -> Run:
    return smdguard_pgd(case, early_stop=False)


def smdguard_apgd(case: Case, *, early_stop: bool = True) -> Run:
    return _smdguard(APGD(num_steps=NUM_STEPS, early_stop=early_stop), case)


def smdguard_apgd_every_step(case: Case) -> Run:
    return smdguard_apgd(case, early_stop=False)


def _smdguard(attack: Attack, case: Case) -> Run:
    threat, seeded = ThreatModel("linf", case.epsilon), torch.Generator().manual_seed
    return lambda: attack(case.ensemble, case.images, case.labels, threat, generator=seeded(0))


def torchattacks_pgd(case: Case) -> Run:
    attack = torchattacks.PGD(case.plain, eps=case.epsilon, alpha=case.step_size, steps=NUM_STEPS)
    return lambda: attack(case.images, case.labels)


def foolbox_pgd(case: Case) -> Run:
    model = foolbox.PyTorchModel(case.plain, bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.LinfPGD(abs_stepsize=case.step_size, steps=NUM_STEPS)
    criterion = foolbox.criteria.Misclassification(case.labels)
    return lambda: attack.run(model, case.images, criterion, epsilon=case.epsilon)


def art_pgd(case: Case) -> Run:
    attack = ProjectedGradientDescent(
        case.art_classifier,
        eps=case.epsilon,
        eps_step=case.step_size,
        max_iter=NUM_STEPS,
        num_random_init=1,
        batch_size=len(case.images),
        verbose=False,
    )
    images, labels = case.images.numpy(), case.labels.numpy()
    return lambda: attack.generate(images, labels)


def torchattacks_apgd(case: Case) -> Run:
    attack = torchattacks.APGD(case.plain, eps=case.epsilon, steps=NUM_STEPS)
    return lambda: attack(case.images, case.labels)


def art_apgd(case: Case) -> Run:
    attack = AutoProjectedGradientDescent(
        case.art_classifier,
        eps=case.epsilon,
        eps_step=2 * case.epsilon,
        max_iter=NUM_STEPS,
        nb_random_init=1,
        batch_size=len(case.images),
        loss_type="cross_entropy",
        verbose=False,
    )
    images, labels = case.images.numpy(), case.labels.numpy()
    return lambda: attack.generate(images, labels)


def test_pgd(compare: Compare, case: Case) -> None:
    _compare(compare, "PGD", case, [smdguard_pgd, smdguard_pgd_every_step, torchattacks_pgd, foolbox_pgd, art_pgd])


def test_apgd(compare: Compare, case: Case) -> None:
    _compare(compare, "APGD", case, [smdguard_apgd, smdguard_apgd_every_step, torchattacks_apgd, art_apgd])


def _compare(compare: Compare, attack: str, case: Case, libraries: list[Callable[[Case], Run]]) -> None:
    title = f"{attack}, {NUM_STEPS} steps, {len(case.images)} images, {case.name}"
    compare(title, {library.__name__: library(case) for library in libraries}, 3)
