"""Recipes: everything that decides which weights a training ends with, under the name the zoo gives the result."""

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from smdguard.architectures import ARCHITECTURES
from smdguard.datasets import DATASETS, Dataset, find_dataset
from smdguard.errors import InvalidInputError
from smdguard.manifest import MAX_NAME_LENGTH, Precision, first_fault
from training.members import builder_of, require_trainable
from training.objectives import ADVERSARIES, OBJECTIVES, AdversarialTraining, Objective
from training.parameters import DISTILLING, OF_SECOND_ORDER, Settings, complete, shows_photographs

Schedule = Literal["constant", "one-cycle"]
SCRATCH, NAIVE = "scratch", "naive"
RECIPE = "recipe.json"
"""File of a run's folder that holds it."""
_HOLDOUTS = ("naive-s101", "naive-s102", "naive-s103")
_ADVERSARIES = {"-at": "pgd", "-eat": "eat"}
_FORM = "METHOD[-ARCHITECTURE-DATASET][-xMEMBERS][-at|-eat][-sSEED]"
# As long as the largest seed: Python reads no number of several thousand digits.
_MAX_SEED_DIGITS = 19
_SEED = rf"\d{{1,{_MAX_SEED_DIGITS}}}"
_MODEL_NAME = re.compile(
    rf"(?P<method>{'|'.join(OBJECTIVES)})"
    rf"(-(?P<architecture>{'|'.join(ARCHITECTURES)})-(?P<dataset>{'|'.join(DATASETS)}))?"
    rf"(-x(?P<num_members>[2-8]))?(?P<adversary>-at|-eat)?(-s(?P<seed>{_SEED}))?"
)


class Recipe(BaseModel):
    """How an ensemble is trained. Equal recipes give equal weights on one CPU.

    `init` and `holdouts` name trained ensembles: "naive-sSEED" is the naive ensemble of that seed, trained first with
    the settings of this recipe; "NAME@SHA256" a given model by its weights; "scratch" fresh weights. `architecture` is
    one of ARCHITECTURES or a function package.module:factory. `folder` is what was found out about a folder of images,
    None for a data set that is known by name.
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
    folder: Dataset | None = None
    num_members: int = Field(default=3, ge=2, le=8)
    num_epochs: int = Field(ge=1)
    seed: int = Field(default=0, ge=0, lt=2**63)
    batch_size: int = Field(default=128, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    learning_rate_schedule: Schedule = "constant"
    weight_decay: float = Field(default=1e-4, ge=0)
    augmentation: bool = False
    precision: Precision = "float32"
    num_calibration_images: int = Field(default=5000, ge=0)

    @property
    def name(self) -> str:
        """The name of the result in the zoo."""
        members = f"-x{self.num_members}" if self.num_members != 3 else ""
        adversary = "".join(suffix for suffix, adversary in _ADVERSARIES.items() if adversary == self.adversary)
        seed = f"-s{self.seed}" if self.seed else ""
        architecture = as_name(self.architecture.rpartition(":")[2])
        return f"{self.method}-{architecture}-{self.dataset}{members}{adversary}{seed}"

    @property
    def dataset_description(self) -> Dataset:
        """What is known of the data set."""
        return self.folder or find_dataset(self.dataset)

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
            if (match := re.fullmatch(rf"naive-s({_SEED})", name))
        }


def recipe_for(name: str, **changes: Any) -> Recipe:
    """The recipe that a zoo name stands for, with the original authors' settings but for `changes`.

    Args:
        name: METHOD[-ARCHITECTURE-DATASET][-xMEMBERS][-at|-eat][-sSEED].
        changes: Fields of the recipe. Of `parameters` and `adversary_parameters` only those that change; `init` may
            be "naive" for the naive ensemble with the recipe's own seed. Where the name is without them,
            `architecture` and `folder` have to be there.

    Raises:
        InvalidInputError: The name is not of that form, a parameter is not one of the method's, the result's name
            would be too long, or the user's own members do not work.
    """
    settings: dict[str, Any] = _settings_named(name) | changes
    if "architecture" not in settings or settings.keys().isdisjoint(("dataset", "folder")):
        raise InvalidInputError(
            f"{name} names no network and no data set; name both, as in {name}-lenet-mnist, or add --architecture for "
            "members that are trained on the folder of images in --data-root"
        )
    method, architecture, adversary = settings["method"], settings["architecture"], settings["adversary"]
    dataset = settings.get("folder") or find_dataset(settings["dataset"])
    settings = _usual_settings(method, architecture, dataset) | settings | {"dataset": dataset.name}
    builder = builder_of(architecture)
    if builder is not None:
        require_trainable(
            architecture, builder, dataset, layered=method in DISTILLING, second_order=method in OF_SECOND_ORDER
        )
    if settings["init"] == NAIVE:
        settings["init"] = f"naive-s{settings['seed']}"
    settings["parameters"] = complete(method, dataset, settings.get("parameters", {}))
    if adversary is not None:
        settings["adversary_parameters"] = complete(adversary, dataset, settings.get("adversary_parameters", {}))
    elif settings.get("adversary_parameters"):
        raise InvalidInputError("parameters of an adversary need adversarial training: choose pgd or eat")
    if adversary == "eat":
        settings.setdefault("holdouts", _HOLDOUTS)
    elif settings.get("holdouts"):
        raise InvalidInputError("hold-out ensembles need ensemble adversarial training: choose eat")
    try:
        recipe = Recipe.model_validate(settings)
    except ValidationError as error:
        raise InvalidInputError(f"no such recipe: {first_fault(error)}") from error
    for each in (recipe, *recipe.prerequisites().values()):
        _require_short_name(each.name)
    return recipe


def _require_short_name(name: str) -> None:
    """What a model cannot be called is better known before it is trained."""
    if len(name) > MAX_NAME_LENGTH:
        raise InvalidInputError(
            f"the model would be called {name}, and a name has at most {MAX_NAME_LENGTH} characters, not {len(name)}; "
            "choose a smaller seed, or a shorter name for the folder of images or for the function"
        )


def _settings_named(name: str) -> dict[str, Any]:
    """The fields of a recipe that its name says."""
    match = _MODEL_NAME.fullmatch(name)
    if match is None:
        raise InvalidInputError(
            f"no recipe is called {name!r}; a name is {_FORM} with METHOD one of {', '.join(OBJECTIVES)}, "
            f"ARCHITECTURE one of {', '.join(ARCHITECTURES)}, DATASET one of {', '.join(DATASETS)}, "
            f"SEED of at most {_MAX_SEED_DIGITS} digits"
        )
    named = {"architecture": match["architecture"], "dataset": match["dataset"]} if match["dataset"] else {}
    return named | {
        "method": match["method"],
        "adversary": match["adversary"] and _ADVERSARIES[match["adversary"]],
        "num_members": int(match["num_members"] or 3),
        "seed": int(match["seed"] or 0),
    }


def names_dataset(name: str) -> bool:
    """Whether a recipe's name says what to train on; otherwise that is a folder of images.

    Raises:
        InvalidInputError: The name is not of that form.
    """
    return "dataset" in _settings_named(name)


def _usual_settings(method: str, architecture: str, dataset: Dataset) -> dict[str, Any]:
    """What the original authors chose for such a training; whether a folder's images may be mirrored is not known."""
    photographs = shows_photographs(dataset)
    return {
        "negative_slope": 0.1 if method == "gal" and architecture in ARCHITECTURES else 0.0,
        "num_epochs": 200 if photographs else 50,
        "augmentation": photographs and dataset.name in DATASETS,
        "init": NAIVE if method in DISTILLING else SCRATCH,
    }


def as_name(text: str) -> str:
    """The text as a part of a zoo name: lower-case letters and digits with hyphens between."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()[:40]).strip("-") or "own"


def known_names() -> list[str]:
    """The names of all recipes with three members and seed 0 that pair a data set with the paper's network for it."""
    return [usual_name(method, dataset) for dataset in DATASETS for method in OBJECTIVES]


def usual_name(method: str, dataset: str) -> str:
    """The name of the recipe of three members and seed 0 with the paper's network for the data set."""
    return f"{method}-{'resnet20' if shows_photographs(find_dataset(dataset)) else 'lenet'}-{dataset}"


def differences(before: BaseModel, now: BaseModel) -> str:
    """Which settings of two records of one kind differ, and from what to what; nothing where none does."""
    old, new = _flat(before.model_dump()), _flat(now.model_dump())
    return ", ".join(f"{key} {old.get(key)} -> {new.get(key)}" for key in old | new if old.get(key) != new.get(key))


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings with those of a parameter, such as parameters.weight, beside the others."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= {f"{key}.{name}": inner for name, inner in value.items()} if isinstance(value, dict) else {key: value}
    return flat
