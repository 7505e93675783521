"""Before a release: on no model of the zoo does an attack of another library fool more images than the preset `full`.

What stands is compared at a large radius and at one where a part stands. Takes hours for all models, most of them at
the small radius (`-k "large and linf"` is the short form).
"""

import functools
from collections.abc import Callable

import foolbox
import numpy
import pytest
import torch
import torchattacks
from art.attacks.evasion import AutoProjectedGradientDescent, ProjectedGradientDescent, SquareAttack
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from smdguard.auditing import audit
from smdguard.catalogue import list_zoo, read_test_subset
from smdguard.companions import default_surrogates
from smdguard.datasets import balanced_subset, find_dataset, parse_subset
from smdguard.ensemble import Ensemble
from smdguard.guard import load
from smdguard.threat import Norm, ThreatModel

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

NUM_IMAGES, NUM_STEPS, NUM_QUERIES = 500, 50, 1000
# Of the data set's radius, for the second one.
SMALL_RATIO = 1 / 6
MODELS = [row["name"] for row in list_zoo() if row["where"] not in ("hub", "unpublished")]

Peer = Callable[[Ensemble, Tensor, Tensor, ThreatModel], Tensor]
"""Model, images, labels and threat model -> adversarial images."""


def of_torchattacks(kind: type, *, num_steps: bool = True, step_size: bool = True, **settings: object) -> Peer:
    def attack(model: Ensemble, images: Tensor, labels: Tensor, threat: ThreatModel) -> Tensor:
        steps = {"steps": NUM_STEPS} if num_steps else {}
        sizes = {"alpha": 2.5 * threat.epsilon / NUM_STEPS} if step_size else {}
        return kind(model, eps=threat.epsilon, **steps, **sizes, **settings)(images, labels)

    return attack


def of_foolbox(kind: type, **settings: object) -> Peer:
    def attack(model: Ensemble, images: Tensor, labels: Tensor, threat: ThreatModel) -> Tensor:
        wanted = foolbox.criteria.Misclassification(labels)
        seen = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
        return kind(**settings)(seen, images, wanted, epsilons=threat.epsilon)[1]

    return attack


def of_art(kind: type, **settings: object) -> Peer:
    def attack(model: Ensemble, images: Tensor, labels: Tensor, threat: ThreatModel) -> Tensor:
        num_classes = model(images[:1]).shape[1]
        # Its losses take logits, and log-probabilities are some.
        seen = PyTorchClassifier(
            model,
            loss=nn.CrossEntropyLoss(),
            input_shape=tuple(images.shape[1:]),
            nb_classes=num_classes,
            clip_values=(0, 1),
            device_type="cpu",
        )
        norm = {"linf": numpy.inf, "l2": 2}[threat.norm]
        crafted = kind(seen, norm=norm, eps=threat.epsilon, **settings).generate(images.numpy(), labels.numpy())
        return torch.from_numpy(crafted)

    return attack


LINF_PEERS: dict[str, Peer] = {
    "torchattacks FGSM": of_torchattacks(torchattacks.FGSM, num_steps=False, step_size=False),
    "torchattacks BIM": of_torchattacks(torchattacks.BIM),
    "torchattacks PGD": of_torchattacks(torchattacks.PGD),
    "torchattacks MIM": of_torchattacks(torchattacks.MIFGSM),
    "torchattacks DIFGSM": of_torchattacks(torchattacks.DIFGSM),
    "torchattacks TIFGSM": of_torchattacks(torchattacks.TIFGSM),
    "torchattacks NIFGSM": of_torchattacks(torchattacks.NIFGSM),
    "torchattacks SINIFGSM": of_torchattacks(torchattacks.SINIFGSM),
    "torchattacks VMIFGSM": of_torchattacks(torchattacks.VMIFGSM),
    "torchattacks Jitter": of_torchattacks(torchattacks.Jitter),
    "torchattacks APGD-CE": of_torchattacks(torchattacks.APGD, step_size=False),
    "torchattacks APGD-DLR": of_torchattacks(torchattacks.APGD, step_size=False, loss="dlr"),
    "torchattacks APGDT": of_torchattacks(torchattacks.APGDT, step_size=False),
    "torchattacks FAB": of_torchattacks(torchattacks.FAB, step_size=False, multi_targeted=True),
    "torchattacks Square": of_torchattacks(
        torchattacks.Square, num_steps=False, step_size=False, n_queries=NUM_QUERIES
    ),
    "foolbox LinfPGD": of_foolbox(foolbox.attacks.LinfPGD, steps=NUM_STEPS),
    "foolbox LinfBasicIterative": of_foolbox(foolbox.attacks.LinfBasicIterativeAttack, steps=NUM_STEPS),
    "foolbox LinfDeepFool": of_foolbox(foolbox.attacks.LinfDeepFoolAttack, steps=NUM_STEPS),
    "ART ProjectedGradientDescent": of_art(ProjectedGradientDescent, max_iter=NUM_STEPS, verbose=False),
    "ART AutoProjectedGradientDescent": of_art(
        AutoProjectedGradientDescent, max_iter=NUM_STEPS, nb_random_init=1, verbose=False
    ),
    "ART SquareAttack": of_art(SquareAttack, max_iter=NUM_QUERIES, verbose=False),
}

L2_PEERS: dict[str, Peer] = {
    "torchattacks PGDL2": of_torchattacks(torchattacks.PGDL2),
    "torchattacks APGD-CE": of_torchattacks(torchattacks.APGD, step_size=False, norm="L2"),
    "torchattacks APGD-DLR": of_torchattacks(torchattacks.APGD, step_size=False, norm="L2", loss="dlr"),
    "torchattacks APGDT": of_torchattacks(torchattacks.APGDT, step_size=False, norm="L2"),
    "torchattacks FAB": of_torchattacks(torchattacks.FAB, step_size=False, norm="L2", multi_targeted=True),
    "torchattacks Square": of_torchattacks(
        torchattacks.Square, num_steps=False, step_size=False, norm="L2", n_queries=NUM_QUERIES
    ),
    "foolbox L2PGD": of_foolbox(foolbox.attacks.L2PGD, steps=NUM_STEPS),
    "foolbox L2BasicIterative": of_foolbox(foolbox.attacks.L2BasicIterativeAttack, steps=NUM_STEPS),
    "foolbox L2DeepFool": of_foolbox(foolbox.attacks.L2DeepFoolAttack, steps=NUM_STEPS),
    "foolbox DDN": of_foolbox(foolbox.attacks.DDNAttack, steps=NUM_STEPS),
    "foolbox L2FMN": of_foolbox(foolbox.attacks.L2FMNAttack, steps=NUM_STEPS),
    "foolbox L2CarliniWagner": of_foolbox(
        foolbox.attacks.L2CarliniWagnerAttack, binary_search_steps=5, steps=NUM_STEPS
    ),
    "ART ProjectedGradientDescent": of_art(ProjectedGradientDescent, max_iter=NUM_STEPS, verbose=False),
    "ART AutoProjectedGradientDescent": of_art(
        AutoProjectedGradientDescent, max_iter=NUM_STEPS, nb_random_init=1, verbose=False
    ),
    "ART SquareAttack": of_art(SquareAttack, max_iter=NUM_QUERIES, verbose=False),
}

PEERS: dict[Norm, dict[str, Peer]] = {"linf": LINF_PEERS, "l2": L2_PEERS}

COLOUR_ONLY = {"torchattacks TIFGSM"}

Case = tuple[Ensemble, Tensor, Tensor, ThreatModel, float]


@functools.cache
def audited(name: str, norm: Norm, ratio: float) -> Case:
    """A model, its images, the threat model and the share that `full` leaves standing."""
    guard = load(name, backend="torch", device="cpu")
    dataset = find_dataset(guard.config.training.dataset)
    subset = balanced_subset(parse_subset(read_test_subset(dataset.name)), NUM_IMAGES)
    images, labels = subset.scaled(), subset.labels
    threat = ThreatModel(norm, ratio * dataset.epsilon_in(norm))
    surrogates = {name: load(name, backend="torch", device="cpu").ensemble for name in default_surrogates(guard.config)}
    report = audit(guard.ensemble, images, labels, threat, attacks="full", surrogates=surrogates)
    return guard.ensemble, images, labels, threat, report.worst_case.robust_accuracy.value


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("ratio", [1.0, SMALL_RATIO], ids=["large radius", "small radius"])
@pytest.mark.parametrize(("norm", "peer"), [(norm, peer) for norm, peers in PEERS.items() for peer in peers])
def test_full_leaves_no_more_standing(norm: Norm, peer: str, ratio: float, name: str) -> None:
    model, images, labels, threat, ours = audited(name, norm, ratio)
    if ours == 0:
        return  # Nobody can leave less.
    if peer in COLOUR_ONLY and images.shape[1] != 3:
        pytest.skip("it takes no images of one channel")
    torch.manual_seed(0)
    adversarial = PEERS[norm][peer](model, images, labels, threat)
    with torch.no_grad():
        standing = model(threat.project(images, adversarial)).argmax(dim=1) == labels
    assert ours <= standing.double().mean().item()
