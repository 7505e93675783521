"""What the paper measured, and the figures that it printed: its ten tables, cell by cell, in percent.

Reference: Bogun, Kostadinov, Borth, "Saliency Diversified Deep Ensemble for Robustness to Adversaries", 2022.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from training.recipes import Recipe, recipe_for, usual_name

METHODS = {"naive": "Naive", "adp": "ADP", "gal": "GAL", "dverge": "DVERGE", "smd": "SMD", "smd-plus": "SMD+"}
DATASET_TITLES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST", "cifar10": "CIFAR-10"}
ATTACKS = {"fgsm": "FGSM", "rfgsm": "R-FGSM", "pgd": "PGD", "bim": "BIM", "mim": "MIM"}
RADII = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
EPSILON = RADII[-1]

Reading = Literal["white-box", "black-box-naive", "black-box-own"]
"""Attacks made on the model, on the naive ensemble of another seed, or on one of its own method."""

READINGS: dict[str, dict[Reading, str]] = {
    "white_box": {"white-box": "white-box"},
    "black_box": {
        "black-box-naive": "black-box, crafted on the naive ensemble of another seed",
        "black-box-own": "black-box, crafted on the same method's ensemble of another seed",
    },
}


@dataclass(frozen=True)
class PaperRow:
    """A method's row of one table on one data set, with `accuracy_percent` a cell for "clean" and each attack.

    `adversarial_training` is ensemble adversarial training. A row of statistic "std" holds the deviations over the
    seeds of the row of statistic "mean" that is otherwise alike.
    """

    table: int
    access: Literal["white_box", "black_box"]
    num_members: int
    adversarial_training: bool
    statistic: Literal["mean", "std"]
    dataset: str
    method: str
    epsilon: float
    accuracy_percent: dict[str, float]

    @property
    def kind(self) -> str:
        """The name that such an ensemble of seed 0 has here."""
        return kind_name(self.method, self.dataset, self.num_members, "eat" if self.adversarial_training else None)


@cache
def paper_rows() -> tuple[PaperRow, ...]:
    """All rows, with the names that data sets and methods have here."""
    return TypeAdapter(tuple[PaperRow, ...]).validate_json((Path(__file__).parent / "paper_results.json").read_bytes())


def mean_rows() -> list[PaperRow]:
    """The paper's rows of figures, without those of deviations, each table's by data set."""
    means = [row for row in paper_rows() if row.statistic == "mean"]
    return sorted(means, key=lambda row: (row.table, list(DATASET_TITLES).index(row.dataset)))


def deviations_of(row: PaperRow) -> dict[str, float] | None:
    """The paper's deviations over its seeds, in points; it gives them for three members, not trained adversarially."""
    same = (one for one in paper_rows() if (one.statistic, one.access, one.kind) == ("std", row.access, row.kind))
    return next((one.accuracy_percent for one in same), None)


@cache
def kind_name(method: str, dataset: str, num_members: int, adversary: str | None) -> str:
    """The name that an ensemble with the paper's network for the data set and seed 0 has."""
    return recipe_for(usual_name(method, dataset), num_members=num_members, adversary=adversary).name


def surrogate_name(recipe: Recipe, method: str) -> str:
    """The ensemble that black-box attacks on a recipe's are made on: trained alike, of another method and seed.

    The paper's is of "the same architecture, trained on the same dataset, with the same training routine", which can
    mean the same method or the naive one. Its seed is 1, and 0 for what has seed 1 itself.
    """
    return recipe.model_copy(update={"method": method, "seed": 0 if recipe.seed == 1 else 1}).name


def is_trained_alike(surrogate: Recipe, recipe: Recipe) -> bool:
    """Whether a surrogate differs from a recipe in nothing but the seed, its method, and what comes with these."""
    differ = {"seed", "init"}
    if surrogate.method != recipe.method:
        differ |= {"method", "parameters", "negative_slope"}
    return surrogate.model_dump(exclude=differ) == recipe.model_dump(exclude=differ)


def surrogate_names(recipe: Recipe) -> list[str]:
    """The two readings of the paper's black box: made on the naive ensemble and on one of the recipe's own method."""
    return list(dict.fromkeys(surrogate_name(recipe, method) for method in ("naive", recipe.method)))
