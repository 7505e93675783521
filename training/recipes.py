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
_HOLDOUTS = ("naive-s101", "naive-s102", "naive-s103")
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
    settings = _settings_named(name) | changes
    dataset = find_dataset(settings["dataset"])
    if settings["init"] == NAIVE:
        settings["init"] = f"naive-s{settings['seed']}"
    method, adversary = settings["method"], settings["adversary"]
    settings["parameters"] = _complete(OBJECTIVES[method], method, dataset, settings.get("parameters", {}))
    if adversary is not None:
        given = settings.get("adversary_parameters", {})
        settings["adversary_parameters"] = _complete(ADVERSARIES[adversary], adversary, dataset, given)
    elif settings.get("adversary_parameters"):
        raise InvalidInputError("an epsilon needs adversarial training: choose pgd or eat")
    if adversary == "eat":
        settings.setdefault("holdouts", _HOLDOUTS)
    elif settings.get("holdouts"):
        raise InvalidInputError("hold-out ensembles need ensemble adversarial training: choose eat")
    return Recipe.model_validate(settings)


def _settings_named(name: str) -> dict[str, Any]:
    """The fields of a recipe that its name decides."""
    match = _MODEL_NAME.fullmatch(name)
    if match is None:
        raise InvalidInputError(
            f"no recipe is called {name!r}; a name is {_FORM} with METHOD one of {', '.join(OBJECTIVES)}, "
            f"ARCHITECTURE one of {', '.join(ARCHITECTURES)}, DATASET one of {', '.join(DATASETS)}"
        )
    method, architecture, dataset = match["method"], match["architecture"], match["dataset"]
    photographs = _shows_photographs(find_dataset(dataset))
    return {
        "method": method,
        "adversary": match["adversary"] and _ADVERSARIES[match["adversary"]],
        "architecture": architecture,
        "negative_slope": 0.1 if method == "gal" else 0.0,
        "dataset": dataset,
        "num_members": int(match["num_members"] or 3),
        "seed": int(match["seed"] or 0),
        "num_epochs": 200 if photographs else 50,
        "augmentation": photographs,
        "init": NAIVE if method in ("dverge", "smd-plus") else SCRATCH,
    }


def _complete(kind: Any, name: str, dataset: Dataset, given: Settings) -> Settings:
    """All parameters of an objective or adversary, checked: those given, and the original authors' for the rest."""
    known = [field.name for field in fields(kind)]
    unknown = [parameter for parameter in given if parameter not in known]
    if unknown:
        raise InvalidInputError(f"{name} has no parameter {unknown[0]!r}; it has {', '.join(known) or 'none'}")
    try:
        return asdict(TypeAdapter(kind).validate_python(_parameters_on(dataset, name) | given))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InvalidInputError(f"{name}: {first['loc'][0]}: {first['msg']}, not {first['input']!r}") from error


def _parameters_on(dataset: Dataset, name: str) -> Settings:
    """The parameters of an objective or adversary that depend on the data set."""
    if name in ("dverge", "smd-plus"):
        return {"epsilon": 0.07 if _shows_photographs(dataset) else 0.35}
    return {"epsilon": dataset.epsilon} if name == "pgd" else {}


def known_names() -> list[str]:
    """The names of all recipes with three members and seed 0 that pair a data set with the paper's network for it."""
    return [f"{method}-{_network(dataset)}-{dataset.name}" for dataset in DATASETS.values() for method in OBJECTIVES]


def _network(dataset: Dataset) -> str:
    return "resnet20" if _shows_photographs(dataset) else "lenet"


def _shows_photographs(dataset: Dataset) -> bool:
    return dataset.image_shape[0] == 3
