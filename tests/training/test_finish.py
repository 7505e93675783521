"""The model folder: it says how its model was trained, and how well that went."""

import json
from pathlib import Path
from typing import Any

import pytest

from smdguard.ensemble import Ensemble
from smdguard.errors import IntegrityError
from smdguard.manifest import ModelConfig, parse, serialise
from smdguard.model_folder import CONFIG
from tests.training.finished_runs import config_of
from training.data import TrainingData
from training.finish import recipe_of, write_model
from training.recipes import Recipe, recipe_for


@pytest.mark.parametrize(
    "recipe",
    [
        recipe_for("naive-lenet-mnist-s3"),
        recipe_for("gal-lenet-mnist-x2", parameters={"weight": 2.0}, precision="bfloat16"),
        recipe_for("dverge-lenet-mnist-at", adversary_parameters={"num_steps": 1}),
        recipe_for("smd-lenet-mnist-eat", num_epochs=3),
    ],
    ids=lambda recipe: recipe.name,
)
def test_the_folder_says_what_its_recipe_was(
    recipe: Recipe, tmp_path: Path, tiny_ensemble: Ensemble, data: TrainingData
) -> None:
    write_model(tmp_path, recipe, tiny_ensemble, data)
    assert recipe_of(parse(ModelConfig, (tmp_path / CONFIG).read_bytes(), CONFIG)) == recipe


@pytest.mark.parametrize(
    ("part", "change", "field"),
    [
        ("architecture", {"num_members": 9}, "num_members"),
        ("training", {"learning_rate_schedule": "cosine"}, "learning_rate_schedule"),
        ("training", {"seed": 2**63}, "seed"),
        ("objective", {"adversarial_training": {"adversary": "fgsm"}}, "adversary"),
    ],
)
def test_a_model_that_no_recipe_describes_is_refused(part: str, change: dict[str, Any], field: str) -> None:
    content = json.loads(serialise(config_of(recipe_for("smd-lenet-mnist"))))
    content[part] |= change
    config = parse(ModelConfig, json.dumps(content).encode(), CONFIG)
    with pytest.raises(IntegrityError, match=f"^smd-lenet-mnist was trained as no recipe says: {field}: Input should"):
        recipe_of(config)


def test_the_folder_has_the_accuracy_on_the_test_split(
    tmp_path: Path, tiny_ensemble: Ensemble, data: TrainingData
) -> None:
    write_model(tmp_path, recipe_for("naive-lenet-mnist", num_calibration_images=99), tiny_ensemble, data)
    right = [(tiny_ensemble(part.scaled()).argmax(dim=1) == part.labels).double().mean().item() for part in data]
    assert right[2] not in right[:2]
    assert parse(ModelConfig, (tmp_path / CONFIG).read_bytes(), CONFIG).clean_accuracy == right[2]
