"""The losses that ensembles are trained with: OBJECTIVES maps a method's name to its class."""

from typing import Any

from training.objectives.adp import ADP
from training.objectives.adversarial import AdversarialTraining, HoldOutAttack, SelfAttack
from training.objectives.dverge import DVERGE
from training.objectives.gal import GAL
from training.objectives.naive import Naive
from training.objectives.objective import Objective
from training.objectives.smd import SMD
from training.objectives.smd_plus import SMDPlus

OBJECTIVES: dict[str, Any] = {
    "naive": Naive,
    "adp": ADP,
    "gal": GAL,
    "dverge": DVERGE,
    "smd": SMD,
    "smd-plus": SMDPlus,
}
ADVERSARIES: dict[str, Any] = {
    "pgd": SelfAttack,
    "eat": HoldOutAttack,
}

__all__ = ["ADVERSARIES", "OBJECTIVES", "AdversarialTraining", "Objective"]
