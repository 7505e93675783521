"""Which ensembles a sweep trains: their order, what they need first, and what attacks on them are made on."""

import pytest

from tests.training.trainings import plan
from training.paper import is_trained_alike, surrogate_names
from training.plan import with_prerequisites
from training.recipes import recipe_for


def test_the_most_wanted_come_first() -> None:
    names = [recipe.name for recipe in plan(datasets=[], seeds=[0, 1])]
    assert names[:6] == [
        "smd-resnet20-cifar10",
        "smd-plus-resnet20-cifar10",
        "naive-resnet20-cifar10",
        "naive-lenet-mnist",
        "adp-lenet-mnist",
        "gal-lenet-mnist",
    ]
    assert names[15] == "smd-resnet20-cifar10-s1"
    left = ("adp", "gal", "dverge")
    assert names[30:] == [f"{method}-resnet20-cifar10{seed}" for seed in ("", "-s1") for method in left]
    assert len(set(names)) == len(names) == 6 * 3 * 2


def test_named_methods_come_in_their_order() -> None:
    recipes = plan(methods=["smd", "naive"], seeds=[0, 1], members=[3, 5], adversaries=[None, "eat"], num_epochs=7)
    assert [recipe.name for recipe in recipes] == [
        f"{method}-lenet-mnist{suffix}{seed}"
        for suffix in ("", "-x5", "-eat", "-x5-eat")
        for seed in ("", "-s1")
        for method in ("smd", "naive")
    ]
    assert {recipe.num_epochs for recipe in recipes} == {7}


def test_prerequisites_come_before_what_needs_them_and_once() -> None:
    runs = with_prerequisites(plan(methods=["smd-plus", "gal", "naive"], adversaries=["eat"]))
    shared = [f"naive-lenet-mnist-s{seed}" for seed in (101, 102, 103)]
    assert list(runs) == [
        "naive-lenet-mnist",
        *shared,
        "smd-plus-lenet-mnist-eat",
        # Hold-outs for leaky members are leaky: other networks than the shared ones.
        *(f"{name}-leaky" for name in shared),
        "gal-lenet-mnist-eat",
        "naive-lenet-mnist-eat",
    ]
    assert runs["naive-lenet-mnist-s101-leaky"].negative_slope == 0.1
    assert runs["naive-lenet-mnist-s101"] == recipe_for("naive-lenet-mnist-s101")


@pytest.mark.parametrize(
    ("name", "surrogates"),
    [
        ("smd-lenet-mnist", ["naive-lenet-mnist-s1", "smd-lenet-mnist-s1"]),
        ("smd-lenet-mnist-s1", ["naive-lenet-mnist", "smd-lenet-mnist"]),
        ("smd-plus-lenet-mnist-x5-eat-s4", ["naive-lenet-mnist-x5-eat-s1", "smd-plus-lenet-mnist-x5-eat-s1"]),
        ("naive-lenet-mnist", ["naive-lenet-mnist-s1"]),
    ],
)
def test_surrogates_differ_in_the_seed(name: str, surrogates: list[str]) -> None:
    assert surrogate_names(recipe_for(name)) == surrogates


@pytest.mark.parametrize("name", ["gal-lenet-mnist", "dverge-lenet-mnist-x5-eat", "naive-lenet-mnist-s3"])
def test_surrogates_of_one_sweep_are_trained_alike(name: str) -> None:
    recipe = recipe_for(name, num_epochs=7)
    for surrogate in surrogate_names(recipe):
        assert is_trained_alike(recipe_for(surrogate, num_epochs=7), recipe)
        assert not is_trained_alike(recipe_for(surrogate), recipe)
