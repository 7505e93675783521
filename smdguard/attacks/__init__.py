"""Attacks: each a frozen dataclass that is its own configuration and turns images into adversarial ones."""

from smdguard.attacks.attack import Attack, Model, Requirement
from smdguard.attacks.gradient_steps import BIM, FGSM, MIM, PGD, RFGSM
from smdguard.attacks.transfer import Transfer

__all__ = ["BIM", "FGSM", "MIM", "PGD", "RFGSM", "Attack", "Model", "Requirement", "Transfer"]
