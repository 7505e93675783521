"""Attacks: each a frozen dataclass that is its own configuration and turns images into adversarial ones."""

from smdguard.attacks.apgd import APGD, TargetedAPGD
from smdguard.attacks.attack import Attack, Model, Requirement
from smdguard.attacks.boundary_walk import BoundaryWalk
from smdguard.attacks.fab import FAB
from smdguard.attacks.gradient_steps import BIM, FGSM, MIM, PGD, RFGSM
from smdguard.attacks.member_reweighing import MemberReweighing
from smdguard.attacks.square import Square
from smdguard.attacks.transfer import Transfer
from smdguard.attacks.unsuspicious import Unsuspicious

__all__ = [
    "APGD",
    "BIM",
    "FAB",
    "FGSM",
    "MIM",
    "PGD",
    "RFGSM",
    "Attack",
    "BoundaryWalk",
    "MemberReweighing",
    "Model",
    "Requirement",
    "Square",
    "TargetedAPGD",
    "Transfer",
    "Unsuspicious",
]
