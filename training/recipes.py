"""Recipes: everything that decides which weights a training ends with, under the name the zoo gives the result."""

import re
from dataclasses import asdict, fields
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from smdguard.architectures import ARCHITECTURES
from smdguard.datasets import DATASETS, Dataset, find_dataset
from smdguard.errors import InvalidInputError
from training.objectives import ADVERSARIES, OBJECTIVES, AdversarialTraining, Objective

Schedule = Literal["constant", "one-cycle"]
Settings = dict[str, float | int | str | bool]
SCRATCH, NAIVE = "scratch", "naive"
_HOLDOUT_SEEDS = (101, 102, 103)
_ADVERSARIES = {"-at": "pgd", "-eat": "eat"}
_FORM = "METHOD-ARCHITECTURE-DATASET[-xMEMBERS][-at|-eat][-sSEED]"
_MODEL_NAME = re.compile(
    rf"(?P<method>{'|'.join(OBJECTIVES)})-(?P<architecture>{'|'.join(ARCHITECTURES)})-(?P<dataset>{'|'.join(DATASETS)})"
    r"(-x(?P<num_members>[2-8]))?(?P<adversary>-at|-eat)?(-s(?P<seed>\d+))?"
)


class Recipe(BaseModel):
    """How an ensemble is trained. Equal recipes give equal weights on one CPU.

    `init` and `holdouts` name trained ensembles: "naive-sSEED" is the naive ensemble of that seed, trained first with
    the settings of this recipe; "NAME@SHA256" a given model by its weights; "scratch" fresh weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    parameters: Settings = {}
    adversary: Literal["pgd", "eat"] | None = None
    adversary_parameters: Settings = {}
    init: str = SCRATCH
    holdouts: tuple[str, ...] = ()
    architecture: str
    negative_slope: float = Field(default=0.0, ge=0, lt=1)
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
        adversary = "".join(suffix for suffix, adversary in _ADVERSARIES.items() if adversary == self.adversary)
        seed = f"-s{self.seed}" if self.seed else ""
        return f"{self.method}-{self.architecture}-{self.dataset}{members}{adversary}{seed}"

    def build_objective(self) -> Objective:
        """The loss that is minimised."""
        objective = OBJECTIVES[self.method](**self.parameters)
        if self.adversary is None:
            return objective
        return AdversarialTraining(objective, ADVERSARIES[self.adversary](**self.adversary_parameters))

    def learning_rate_at(self, progress: float) -> float:
        """The rate when a share `progress` of all steps is done.

        "one-cycle" rises in a straight line over the first 30 % of the steps and falls to zero over the rest
        (Smith, "Super-Convergence", 2018).
        """
        if self.learning_rate_schedule == "constant":
            return self.learning_rate
        peak = 0.3
        return self.learning_rate * min(progress / peak, (1 - progress) / (1 - peak))

    def prerequisites(self) -> dict[str, "Recipe"]:
        """The naive ensembles that have to be trained first, under the names that `init` and `holdouts` have."""
        plain = {"method": "naive", "parameters": {}, "adversary": None, "adversary_parameters": {}}
        naive = self.model_copy(update={**plain, "init": SCRATCH, "holdouts": ()})
        return {
            name: naive.model_copy(update={"seed": int(match[1])})
            for name in (self.init, *self.holdouts)
            if (match := re.fullmatch(r"naive-s(\d+)", name))
        }


def recipe_for(name: str, **changes: Any) -> Recipe:
    """The recipe that a zoo name stands for, with the original authors' settings but for `changes`.

    Args:
        name: METHOD-ARCHITECTURE-DATASET[-xMEMBERS][-at|-eat][-sSEED].
        changes: Fields of the recipe. Of `parameters` and `adversary_parameters` only those that change; `init` may
            be "naive" for the naive ensemble with the recipe's own seed.

    Raises:
        InvalidInputError: The name is not of that form, or a parameter is not one of the method's.
    """
    match = _MODEL_NAME.fullmatch(name)
    if match is None:
        raise InvalidInputError(
            f"no recipe is called {name!r}; a name is {_FORM} with METHOD one of {', '.join(OBJECTIVES)}, "
            f"ARCHITECTURE one of {', '.join(ARCHITECTURES)}, DATASET one of {', '.join(DATASETS)}"
        )
    named = match.groupdict()
    dataset = find_dataset(named["dataset"])
    photographs = dataset.image_shape[0] == 3
    settings: dict[str, Any] = {
        "method": named["method"],
        "adversary": named["adversary"] and _ADVERSARIES[named["adversary"]],
        "architecture": named["architecture"],
        "negative_slope": 0.1 if named["method"] == "gal" else 0.0,
        "dataset": named["dataset"],
        "num_members": int(named["num_members"] or 3),
        "seed": int(named["seed"] or 0),
        "num_epochs": 200 if photographs else 50,
        "augmentation": photographs,
        "init": NAIVE if named["method"] in ("dverge", "smd-plus") else SCRATCH,
        **changes,
    }
    if settings["init"] == NAIVE:
        settings["init"] = f"naive-s{settings['seed']}"
    parameters = _parameters_for(settings["method"], dataset) | settings.get("parameters", {})
    settings["parameters"] = _complete(OBJECTIVES[settings["method"]], parameters)
    if settings["adversary"] is None and (settings.get("adversary_parameters") or settings.get("holdouts")):
        raise InvalidInputError("an epsilon or a hold-out ensemble needs adversarial training: choose pgd or eat")
    if settings["adversary"] is not None:
        parameters = _parameters_for(settings["adversary"], dataset) | settings.get("adversary_parameters", {})
        settings["adversary_parameters"] = _complete(ADVERSARIES[settings["adversary"]], parameters)
    if settings["adversary"] == "eat":
        settings.setdefault("holdouts", tuple(f"naive-s{seed}" for seed in _HOLDOUT_SEEDS))
    return Recipe.model_validate(settings)


def _parameters_for(method: str, dataset: Dataset) -> Settings:
    """The parameters of a method or an adversary that depend on the data set."""
    if method in ("dverge", "smd-plus"):
        return {"epsilon": 0.07 if dataset.image_shape[0] == 3 else 0.35}
    return {"epsilon": dataset.epsilon} if method == "pgd" else {}


def _complete(kind: type, given: Settings) -> Settings:
    """All parameters of an objective or adversary, checked: the given ones and the defaults of the others."""
    known = [field.name for field in fields(kind)]
    unknown = [name for name in given if name not in known]
    if unknown:
        raise InvalidInputError(f"unknown parameter {unknown[0]!r}; known are {', '.join(known) or 'none'}")
    try:
        return asdict(TypeAdapter(kind).validate_python(given))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InvalidInputError(f"parameter {first['loc'][0]}: {first['msg']}, not {first['input']!r}") from error


def known_names() -> list[str]:
    """The names of all recipes with three members and seed 0 that pair a data set with the paper's network for it."""
    return [f"{method}-{_network(dataset)}-{dataset.name}" for dataset in DATASETS.values() for method in OBJECTIVES]


def _network(dataset: Dataset) -> str:
    return "resnet20" if dataset.image_shape[0] == 3 else "lenet"
