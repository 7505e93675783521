"""Trainings that take a moment, what stops them, and plans of some."""

from pathlib import Path
from typing import Any

import torch

from smdguard.model_folder import WEIGHTS
from training.plan import wanted_recipes
from training.recipes import Recipe

CPU = torch.device("cpu")
SHORT: dict[str, Any] = {"num_epochs": 2, "batch_size": 64, "num_calibration_images": 32, "num_members": 2}


class Interruption(Exception):
    """Stands for whatever stops a training."""


def interrupt(epoch: int, step: int, *_: object) -> None:
    if epoch == 1:
        raise Interruption


def assert_equal_bits(first: Path, second: Path) -> None:
    assert (first / WEIGHTS).read_bytes() == (second / WEIGHTS).read_bytes()


def plan(**changes: Any) -> list[Recipe]:
    settings: dict[str, Any] = {"seeds": [0], "members": [3], "adversaries": [None], "datasets": ["mnist"]}
    return wanted_recipes(**settings | {"methods": []} | changes)
