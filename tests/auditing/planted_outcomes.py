"""Outcomes of attacks that nobody made."""

import torch

from smdguard.attacks import Attack
from smdguard.auditing.gradients import GradientHealth
from smdguard.auditing.outcomes import Outcome

EPSILON = 0.1
NUM_IMAGES = 200
USABLE = GradientHealth(0.0, 0.0, 0.0, 0.0)


def outcome(attack: Attack, num_standing: int, *, access: str = "white-box", pursued: bool = False) -> Outcome:
    """That many of the images left standing; pursued, of those that other attacks left."""
    standing = torch.arange(NUM_IMAGES) < num_standing
    return Outcome(attack, access, "model", EPSILON, standing, NUM_IMAGES if pursued else None)  # type: ignore[arg-type]
