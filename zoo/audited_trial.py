"""Trials that need no training: a model of the zoo, audited otherwise."""

from collections.abc import Callable, Sequence

from torch import nn

from smdguard import auditing
from smdguard.attacks import Attack
from smdguard.auditing import PresetName
from smdguard.catalogue import read_test_subset
from smdguard.datasets import parse_subset
from smdguard.ensemble import Ensemble
from smdguard.guard import load
from smdguard.hub import find_model
from smdguard.threat import ThreatModel
from training.finish import recipe_of
from training.paper import EPSILON, RADII
from training.results import FinishedRun
from zoo.audits import known_surrogates
from zoo.kept_runs import keep_run


def audit_trial(
    trial: str,
    name: str,
    attacks: PresetName | Sequence[Attack],
    view: Callable[[Ensemble], nn.Module] = lambda ensemble: ensemble,
) -> None:
    """Audit a model of the zoo at the paper's radii, on the bundled test images, and keep that as a run of a trial.

    Args:
        trial: What it is called.
        name: Of the model.
        attacks: Those to make, on the model and on its surrogates.
        view: What attacks see of the model, and of its surrogates.

    Raises:
        UnknownModelError: The zoo has no model of that name, or not its files.
    """
    config = find_model(name).config
    recipe = recipe_of(config)
    data = parse_subset(read_test_subset(recipe.dataset))

    def viewed(name: str) -> nn.Module:
        return view(load(name, backend="torch", device="cpu").ensemble)

    report = auditing.audit(
        viewed(name),
        data.scaled(),
        data.labels,
        ThreatModel(norm="linf", epsilon=EPSILON),
        attacks=attacks,
        surrogates={surrogate: viewed(surrogate) for surrogate in known_surrogates(config)},
        epsilons=RADII,
        name=name,
        dataset=recipe.dataset,
    )
    keep_run(FinishedRun(recipe, config, report), trial)
