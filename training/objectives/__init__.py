"""The losses that ensembles are trained with: OBJECTIVES maps a method's name to its class."""

from typing import Any

from training.objectives.adp import PredictionDiversity
from training.objectives.adversarial import AdversarialTraining, HoldOutAttack, SelfAttack
from training.objectives.dverge import VulnerabilityDiversity
from training.objectives.gal import GradientDiversity
from training.objectives.naive import Naive
from training.objectives.objective import Objective
from training.objectives.smd import SaliencyDiversity
from training.objectives.smd_plus import VulnerabilityAndSaliencyDiversity

OBJECTIVES: dict[str, Any] = {
    "naive": Naive,
    "adp": PredictionDiversity,
    "gal": GradientDiversity,
    "dverge": VulnerabilityDiversity,
    "smd": SaliencyDiversity,
    "smd-plus": VulnerabilityAndSaliencyDiversity,
}
ADVERSARIES: dict[str, Any] = {
    "pgd": SelfAttack,
    "eat": HoldOutAttack,
}

__all__ = ["ADVERSARIES", "OBJECTIVES", "AdversarialTraining", "Objective"]
