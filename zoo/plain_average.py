"""The trial averaged-probabilities: the paper's attacks through an average that is taken the plain way."""

from dataclasses import replace

from torch import Tensor, nn

from smdguard import auditing, render
from smdguard.catalogue import read_test_subset
from smdguard.datasets import parse_subset
from smdguard.ensemble import Ensemble
from smdguard.files import write_atomically, zoo_folder
from smdguard.guard import load
from smdguard.hub import find_model
from smdguard.manifest import serialise
from smdguard.model_folder import AUDIT, CONFIG
from smdguard.threat import ThreatModel
from training.audits import PRESET
from training.finish import recipe_of
from training.paper import EPSILON, RADII
from training.recipes import RECIPE
from zoo.audits import known_surrogates
from zoo.trials import TRIALS

_TRIAL = "averaged-probabilities"


class PlainAverage(nn.Module):
    """The mean of the members' probabilities, given as if they were logits.

    Where an ensemble is sure, the gradient of what it gives is a difference of numbers that agree in all digits of
    float32. Ensemble gives logarithms instead, which keep it.

    Args:
        ensemble: In evaluation mode.
    """

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__()
        self.ensemble = ensemble.eval()
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] -> outputs in [-1, 0] (B, K).

        One is subtracted since audits refuse probabilities, for what this shows; no softmax is changed by it.
        """
        return self.ensemble.member_logits(images).softmax(dim=-1).mean(dim=0) - 1


def try_plain_average(name: str) -> None:
    """Audit a model of the zoo as the paper did, it and its surrogates as plain averages, and keep that as a trial.

    Raises:
        UnknownModelError: The zoo has no model of that name, or not its files.
    """
    config = find_model(name).config
    recipe = recipe_of(config)
    data = parse_subset(read_test_subset(recipe.dataset))
    report = auditing.audit(
        _plain(name),
        data.scaled(),
        data.labels,
        ThreatModel(norm="linf", epsilon=EPSILON),
        attacks=PRESET,
        surrogates={surrogate: _plain(surrogate) for surrogate in known_surrogates(config)},
        epsilons=RADII,
        name=name,
        dataset=recipe.dataset,
    )
    folder = zoo_folder() / TRIALS / _TRIAL / name
    write_atomically(folder / RECIPE, serialise(recipe))
    write_atomically(folder / CONFIG, serialise(config))
    write_atomically(folder / AUDIT, render.serialise(replace(report, exhibits=None)))


def _plain(name: str) -> PlainAverage:
    return PlainAverage(load(name, backend="torch", device="cpu").ensemble)
