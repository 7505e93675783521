"""The losses that ensembles are trained with: OBJECTIVES maps a method's name to its builder."""

from collections.abc import Callable
from typing import Any

from training.objectives.naive import Naive
from training.objectives.objective import Objective
from training.objectives.smd import SaliencyDiversity

OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "naive": Naive,
    "smd": SaliencyDiversity,
}


def build_objective(name: str, parameters: dict[str, Any]) -> Objective:
    """The objective of that name with these parameters."""
    return OBJECTIVES[name](**parameters)


__all__ = ["OBJECTIVES", "Naive", "Objective", "SaliencyDiversity", "build_objective"]
