"""Recipes: everything that decides which weights a training ends with, under the name the zoo gives the result."""

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from smdguard.architectures import ARCHITECTURES
from smdguard.datasets import DATASETS, Dataset, find_dataset
from smdguard.errors import InvalidInputError

from training.objectives import OBJECTIVES

Schedule = Literal["constant", "one-cycle"]
_MODEL_NAME = re.compile(
    rf"(?P<method>{'|'.join(OBJECTIVES)})-(?P<architecture>{'|'.join(ARCHITECTURES)})-(?P<dataset>{'|'.join(DATASETS)})"
    r"(-x(?P<num_members>[2-8]))?(-s(?P<seed>\d+))?"
)


class Recipe(BaseModel):
    """How an ensemble is trained. Equal recipes give equal weights on one CPU."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    parameters: dict[str, float | int | str | bool] = {}
    architecture: str
    dataset: str
    num_members: int = Field(default=3, ge=2, le=8)
    num_epochs: int = Field(ge=1)
    seed: int = Field(default=0, ge=0)
    batch_size: int = Field(default=128, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    learning_rate_schedule: Schedule = "constant"
    weight_decay: float = Field(default=1e-4, ge=0)
    augmentation: bool = False
    num_calibration_images: int = Field(default=5000, ge=0)

    @property
    def name(self) -> str:
        """The name of the result in the zoo."""
        members = f"-x{self.num_members}" if self.num_members != 3 else ""
        seed = f"-s{self.seed}" if self.seed else ""
        return f"{self.method}-{self.architecture}-{self.dataset}{members}{seed}"

    def learning_rate_at(self, progress: float) -> float:
        """The rate when a share `progress` of all steps is done.

        "one-cycle" rises in a straight line over the first 30 % of the steps and falls to zero over the rest
        (Smith, "Super-Convergence", 2018).
        """
        if self.learning_rate_schedule == "constant":
            return self.learning_rate
        peak = 0.3
        return self.learning_rate * min(progress / peak, (1 - progress) / (1 - peak))


def recipe_for(name: str, **changes: Any) -> Recipe:
    """The recipe that a zoo name stands for, with the paper's settings but for `changes`.

    Raises:
        InvalidInputError: The name is not of the form METHOD-ARCHITECTURE-DATASET[-xMEMBERS][-sSEED].
    """
    match = _MODEL_NAME.fullmatch(name)
    if match is None:
        raise InvalidInputError(
            f"no recipe is called {name!r}; a name is METHOD-ARCHITECTURE-DATASET[-xMEMBERS][-sSEED] with "
            f"METHOD one of {', '.join(OBJECTIVES)}, ARCHITECTURE one of {', '.join(ARCHITECTURES)}, "
            f"DATASET one of {', '.join(DATASETS)}"
        )
    named = match.groupdict()
    photographs = find_dataset(named["dataset"]).image_shape[0] == 3
    return Recipe.model_validate(
        {
            "method": named["method"],
            "architecture": named["architecture"],
            "dataset": named["dataset"],
            "num_members": int(named["num_members"] or 3),
            "seed": int(named["seed"] or 0),
            "num_epochs": 200 if photographs else 50,
            "augmentation": photographs,
            **changes,
        }
    )


def known_names() -> list[str]:
    """The names of all recipes with three members and seed 0 that pair a data set with the paper's network for it."""
    return [f"{method}-{_network(dataset)}-{dataset.name}" for dataset in DATASETS.values() for method in OBJECTIVES]


def _network(dataset: Dataset) -> str:
    return "resnet20" if dataset.image_shape[0] == 3 else "lenet"
