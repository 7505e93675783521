"""Which ensembles a sweep trains, the most wanted first."""

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

from training.objectives import OBJECTIVES
from training.recipes import Recipe, recipe_for, usual_name

_DATASETS = ("cifar10", "mnist", "fashion-mnist")
_MOST_WANTED = {"cifar10": ("smd", "smd-plus", "naive")}


def wanted_recipes(
    *,
    methods: Sequence[str],
    datasets: Sequence[str],
    seeds: Sequence[int],
    members: Sequence[int],
    adversaries: Sequence[str | None],
    **changes: Any,
) -> list[Recipe]:
    """The recipes of a sweep in their order.

    Args:
        methods: Which, in this order on each data set; none for all, with those last that matter least.
        datasets: Which; none for all. Each has the paper's network for it.
        seeds: All of one seed comes before the next.
        members: Numbers of members.
        adversaries: "pgd", "eat", or None for training on clean images.
        changes: Further fields of every recipe.

    Raises:
        InvalidInputError: A recipe does not take the changes.
    """
    ensembles = list(product(adversaries, members, seeds))
    return [
        recipe_for(
            usual_name(method, dataset),
            adversary=adversary,
            num_members=num_members,
            seed=seed,
            **changes,
        )
        for stage in _stages(methods, datasets or _DATASETS)
        for adversary, num_members, seed in ensembles
        for dataset, method in stage
    ]


def with_prerequisites(recipes: Iterable[Recipe]) -> dict[str, Recipe]:
    """The runs, by name, that train the recipes and what they need first; what several need is one run."""
    runs: dict[str, Recipe] = {}
    for recipe in recipes:
        for run in (*recipe.prerequisites().values(), recipe):
            runs.setdefault(run_name(run), run)
    return runs


def run_name(recipe: Recipe) -> str:
    """The name of a recipe's run.

    That is the recipe's own, but for the naive ensembles that ensembles with leaky rectifiers are attacked by: they
    are leaky as well, and not the naive ensembles of that name.
    """
    is_leaky_double = recipe.method == "naive" and recipe.negative_slope > 0
    return f"{recipe.name}-leaky" if is_leaky_double else recipe.name


def _stages(methods: Sequence[str], datasets: Sequence[str]) -> list[list[tuple[str, str]]]:
    """Pairs of data set and method; all seeds of a stage come before the next stage."""
    if methods:
        return [list(product(datasets, methods))]
    first = [(dataset, method) for dataset in datasets for method in _MOST_WANTED.get(dataset, OBJECTIVES)]
    return [first, [pair for pair in product(datasets, OBJECTIVES) if pair not in first]]
