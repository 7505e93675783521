"""Every setting of a recipe changes what is trained."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from smdguard.model_folder import WEIGHTS
from training.data import TrainingData
from training.loop import train
from training.recipes import recipe_for

CPU = torch.device("cpu")
SHORT: dict[str, Any] = {"num_epochs": 1, "batch_size": 64, "num_calibration_images": 32, "num_members": 2}


def trained(
    folder: Path,
    data: TrainingData,
    name: str = "naive-lenet-mnist",
    origins: Mapping[str, Path] = MappingProxyType({}),
    **changes: Any,
) -> torch.Tensor:
    train(recipe_for(name, **SHORT | changes), data, folder, device=CPU, origins=origins)
    return torch.cat([tensor.flatten() for tensor in load_file(folder / WEIGHTS).values()])


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("naive-lenet-mnist", {"learning_rate_schedule": "one-cycle"}),
        ("naive-lenet-mnist", {"learning_rate": 2e-3}),
        ("naive-lenet-mnist", {"weight_decay": 0.1}),
        ("naive-lenet-mnist", {"augmentation": True}),
        ("naive-lenet-mnist", {"negative_slope": 0.1}),
        ("naive-lenet-mnist", {"precision": "bfloat16"}),
        ("naive-lenet-mnist", {"adversary": "pgd", "adversary_parameters": {"num_steps": 1}}),
        # With a warm-up the first steps meet a part of the radius alone.
        ("naive-lenet-mnist-at", {"adversary_parameters": {"warm_up": 0.0}}),
        ("smd-lenet-mnist", {"parameters": {"weight": 0.5}}),
    ],
)
def test_a_setting_changes_the_weights(name: str, changes: dict[str, Any], data: TrainingData, tmp_path: Path) -> None:
    usual, changed = trained(tmp_path / "usual", data, name), trained(tmp_path / "changed", data, name, **changes)
    assert not torch.equal(usual, changed)


def test_the_seed_decides_the_first_weights_and_the_order(data: TrainingData, tmp_path: Path) -> None:
    still = {"learning_rate": 1e-30, "weight_decay": 0.0}
    first = [trained(tmp_path / f"first-{seed}", data, seed=seed, **still) for seed in (0, 1)]
    assert not torch.equal(*first)
    ended = []
    for seed in (0, 1):
        recipe = recipe_for("naive-lenet-mnist", **SHORT, seed=seed, init="naive")
        train(recipe, data, tmp_path / f"ended-{seed}", device=CPU, origins={f"naive-s{seed}": tmp_path / "first-0"})
        ended.append(load_file(tmp_path / f"ended-{seed}" / WEIGHTS)["members.0.fc1.weight"])
    assert not torch.equal(*ended)


def test_each_hold_out_ensemble_decides_the_weights(data: TrainingData, tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        trained(tmp_path / f"naive-{seed}", data, seed=seed)
    attacked: dict[str, Any] = {"holdouts": ("naive-s1", "naive-s2"), "adversary_parameters": {"num_steps": 1}}
    ended = []
    for number, seeds in enumerate([(1, 2), (1, 2), (3, 2), (1, 3)]):
        origins = {name: tmp_path / f"naive-{seed}" for name, seed in zip(attacked["holdouts"], seeds, strict=True)}
        ended.append(trained(tmp_path / f"ended-{number}", data, "naive-lenet-mnist-eat", origins, **attacked))
    assert [torch.equal(ended[0], other) for other in ended[1:]] == [True, False, False]
