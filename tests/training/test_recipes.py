"""Recipes: what a name stands for, and what can be changed."""

from typing import Any

import pytest
from click.testing import CliRunner

from smdguard.architectures import ARCHITECTURES
from smdguard.datasets import DATASETS, Dataset
from smdguard.errors import InvalidInputError
from training.__main__ import main
from training.objectives import OBJECTIVES
from training.recipes import Recipe, recipe_for


@pytest.mark.parametrize("method", OBJECTIVES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("suffix", ["", "-x5", "-at", "-eat", "-s1", "-x8-eat-s12"])
def test_names_round_trip(method: str, architecture: str, dataset: str, suffix: str) -> None:
    recipe = recipe_for(f"{method}-{architecture}-{dataset}{suffix}")
    assert (recipe.method, recipe.architecture, recipe.dataset) == (method, architecture, dataset)
    assert recipe.name == f"{method}-{architecture}-{dataset}{suffix}"
    assert recipe_for(recipe.name) == recipe
    recipe.build_objective()


@pytest.mark.parametrize("name", ["", "smd-lenet", "smd-lenet-svhn", "smd-lenet-mnist-x9", "SMD-lenet-mnist"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match=rf"no recipe is called '{name}'; a name is METHOD\["):
        recipe_for(name)


@pytest.mark.parametrize("num_digits", [20, 5000])
def test_seeds_of_too_many_digits_are_refused(num_digits: int) -> None:
    with pytest.raises(InvalidInputError, match=r"no recipe is called .*, SEED of at most 19 digits$"):
        recipe_for(f"smd-lenet-mnist-s{'9' * num_digits}")
    # What is no seed of a naive ensemble names no training that has to come first.
    assert recipe_for("smd-lenet-mnist", init=f"naive-s{'9' * num_digits}").prerequisites() == {}


def test_the_largest_seed_is_a_name() -> None:
    assert recipe_for(f"smd-lenet-mnist-s{2**63 - 1}").seed == 2**63 - 1


FLOWERS = Dataset("flowers", ("daisy", "rose", "tulip"), (3, 24, 32), (0.4, 0.5, 0.6), (0.2, 0.2, 0.2), 8 / 255)


def test_a_folder_of_images_takes_the_place_of_a_data_set() -> None:
    recipe = recipe_for("smd-x5-at-s2", architecture="lenet", folder=FLOWERS)
    assert recipe.name == "smd-lenet-flowers-x5-at-s2"
    assert recipe.dataset_description == FLOWERS
    assert recipe.adversary_parameters["epsilon"] == 8 / 255
    assert not recipe.augmentation
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    assert recipe_for("smd-lenet-mnist").dataset_description == DATASETS["mnist"]


@pytest.mark.parametrize("changes", [{}, {"architecture": "lenet"}, {"folder": FLOWERS}])
def test_a_name_without_network_and_data_set_needs_both(changes: dict[str, Any]) -> None:
    with pytest.raises(
        InvalidInputError, match="smd names no network and no data set; name both, as in smd-lenet-mnist"
    ):
        recipe_for("smd", **changes)


def test_an_architecture_given_apart_goes_before_the_named_one() -> None:
    recipe = recipe_for("naive-lenet-mnist", architecture="lenet-wide")
    assert recipe.name == "naive-lenet-wide-mnist"


def test_unknown_architectures_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"no architecture 'vgg'; there are lenet, .* package\.module:factory"):
        recipe_for("naive-lenet-mnist", architecture="vgg")


def test_every_parameter_is_recorded() -> None:
    assert recipe_for("smd-lenet-mnist").parameters == {"weight": 1.0, "saliency": "probability"}
    changed = recipe_for("smd-lenet-mnist", parameters={"weight": "2", "saliency": "logit"})
    assert changed.parameters == {"weight": 2.0, "saliency": "logit"}
    assert recipe_for("adp-lenet-mnist").parameters == {"alpha": 2.0, "beta": 0.5}


@pytest.mark.parametrize(("dataset", "epsilon"), [("mnist", 0.35), ("fashion-mnist", 0.35), ("cifar10", 0.07)])
@pytest.mark.parametrize("method", ["dverge", "smd-plus"])
def test_the_radius_of_distillation_depends_on_the_data(method: str, dataset: str, epsilon: float) -> None:
    assert recipe_for(f"{method}-lenet-{dataset}").parameters["epsilon"] == epsilon


def test_what_has_to_be_trained_first() -> None:
    recipe = recipe_for("smd-plus-lenet-mnist-eat-s2", num_epochs=7)
    first = recipe.prerequisites()
    assert list(first) == ["naive-s2", "naive-s101", "naive-s102", "naive-s103"]
    assert [naive.name for naive in first.values()] == [f"naive-lenet-mnist-s{seed}" for seed in (2, 101, 102, 103)]
    assert first["naive-s2"] == recipe_for("naive-lenet-mnist-s2", num_epochs=7)
    assert recipe_for("dverge-lenet-mnist", init="scratch").prerequisites() == {}
    given = recipe_for("smd-lenet-mnist-eat", holdouts=("naive-lenet-mnist-s1@0123",))
    assert given.prerequisites() == {}


def test_adversaries_take_the_radius_of_the_data_set_or_the_papers() -> None:
    assert recipe_for("smd-lenet-mnist-at").adversary_parameters["epsilon"] == 0.3
    assert recipe_for("smd-lenet-fashion-mnist-at").adversary_parameters["epsilon"] == 0.1
    assert recipe_for("smd-lenet-mnist-eat").adversary_parameters == {
        "epsilon": 0.1,
        "num_steps": 10,
        "step_ratio": 0.1,
    }
    assert recipe_for("smd-lenet-mnist", adversary="pgd").name == "smd-lenet-mnist-at"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parameters": {"wieght": 2}}, "smd has no parameter 'wieght'; it has weight, saliency"),
        ({"parameters": {"weight": "much"}}, "smd: weight: .*not 'much'"),
        ({"parameters": {"saliency": "gradient"}}, "smd: saliency: .*not 'gradient'"),
        ({"parameters": {"weight": "nan"}}, "smd: weight: .*finite.*not 'nan'"),
        ({"adversary": "pgd", "adversary_parameters": {"step_ratio": "inf"}}, "pgd: step_ratio: .*finite.*not 'inf'"),
        ({"method": "dverge", "parameters": {"num_steps": 0}}, "dverge: num_steps: .*greater than 0, not 0"),
        ({"method": "smd-plus", "parameters": {"epsilon": 2}}, "smd-plus: epsilon: .*less than or equal to 1, not 2"),
        ({"method": "gal", "parameters": {"noise_probability": 7}}, "gal: noise_probability: .*not 7"),
        (
            {"adversary": "eat", "adversary_parameters": {"epsilon": 3}},
            "eat: epsilon: .*less than or equal to 1, not 3",
        ),
        ({"adversary": "pgd", "adversary_parameters": {"warm_up": 1.5}}, "pgd: warm_up: .*not 1.5"),
        ({"seed": 2**63}, "no such recipe: seed: "),
        ({"adversary_parameters": {"epsilon": 0.1}}, "choose pgd or eat"),
        ({"adversary": "pgd", "holdouts": ("x",)}, "choose eat"),
    ],
)
def test_wrong_settings_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        recipe_for("smd-lenet-mnist", **changes)


def test_one_cycle_rises_and_falls_to_zero() -> None:
    recipe = recipe_for("smd-lenet-mnist", learning_rate_schedule="one-cycle")
    rates = [recipe.learning_rate_at(progress) for progress in (0.0, 0.15, 0.3, 0.65, 1.0)]
    assert rates == pytest.approx([0.0, 5e-4, 1e-3, 5e-4, 0.0])


def test_command_line_lists_the_recipes() -> None:
    result = CliRunner().invoke(main, ["recipes"])
    assert result.exit_code == 0
    names = [line.split()[0] for line in result.output.splitlines()]
    assert len(set(names)) == len(names) == 18
    assert {"smd-plus-lenet-fashion-mnist", "naive-resnet20-cifar10"} <= set(names)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["smd-lenet-mnist"], 1, "--download"),
        (["smd-lenet"], 1, "no recipe is called 'smd-lenet'"),
        (["smd"], 2, "smd names no network; add --architecture"),
        (["smd", "--architecture", "lenet"], 1, "data does not exist; it must be a folder of CLASS/IMAGE"),
        (["smd-lenet-mnist", "--image-size", "32"], 2, "--image-size is for images of your own"),
        (["smd-lenet-mnist", "--init", "no-such-model"], 1, "no model 'no-such-model'"),
        (["smd-lenet-mnist", "--adversarial-parameter", "epsilon=0.1"], 1, "choose pgd or eat"),
        (["smd-lenet-mnist-at", "--adversarial-parameter", "steps=1"], 1, "pgd has no parameter 'steps'"),
        (["smd-lenet-mnist", "--parameter", "weight"], 2, "not of the form NAME=VALUE"),
    ],
)
def test_command_line_errors_are_one_line(arguments: list[str], status: int, message: str, tmp_path: Any) -> None:
    paths = ["--data-root", str(tmp_path / "data"), "--output", str(tmp_path / "model")]
    result = CliRunner().invoke(main, ["run", *arguments, *paths])
    assert result.exit_code == status
    assert message in result.output
    assert len(result.output.splitlines()) == 1 or status == 2
