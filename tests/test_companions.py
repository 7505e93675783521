"""Which models of the zoo go with another."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from smdguard.catalogue import read_manifest
from smdguard.companions import default_surrogates
from smdguard.hub import find_model
from smdguard.manifest import ModelConfig, serialise

Config = Callable[..., ModelConfig]


@pytest.fixture
def config(tiny_folder: Path) -> Config:
    """The tiny model's configuration, changed."""
    tiny = find_model(str(tiny_folder)).config

    def changed(
        *,
        name: str = "own",
        method: str = "smd",
        adversary: str | None = None,
        network: str = "lenet",
        num_members: int = 3,
        seed: int = 0,
    ) -> ModelConfig:
        settings = adversary and {"adversary": adversary}
        size = {"name": network, "num_members": num_members}
        return tiny.model_copy(
            update={
                "name": name,
                "objective": tiny.objective.model_copy(update={"name": method, "adversarial_training": settings}),
                "architecture": tiny.architecture.model_copy(update=size),
                "training": tiny.training.model_copy(update={"seed": seed}),
            }
        )

    return changed


def remove(zoo: Path, *names: str) -> None:
    for name in names:
        shutil.rmtree(zoo / "models" / name)


def test_surrogates_are_the_other_seed_of_naive_and_of_the_own_method(tiny_zoo: Path, config: Config) -> None:
    assert default_surrogates(config()) == ["naive-lenet-mnist-s1", "smd-lenet-mnist-s1"]
    assert default_surrogates(config(seed=1)) == ["naive-lenet-mnist"]
    assert default_surrogates(config(method="naive")) == ["naive-lenet-mnist-s1"]


def test_undefended_surrogate_of_the_same_seed_that_is_not_the_model_itself(tiny_zoo: Path, config: Config) -> None:
    remove(tiny_zoo, "naive-lenet-mnist-s1", "smd-lenet-mnist-s1")
    assert default_surrogates(config()) == ["naive-lenet-mnist"]
    assert default_surrogates(config(name="naive-lenet-mnist", method="naive")) == []


@pytest.mark.parametrize("changes", [{"adversary": "pgd"}, {"network": "lenet-wide"}, {"num_members": 5}])
def test_own_kind_has_the_same_adversary_network_and_size(tiny_zoo: Path, config: Config, changes: dict) -> None:
    # An undefended ensemble of another network is still better than none.
    assert default_surrogates(config(**changes)) == ["naive-lenet-mnist-s1"]


def test_adversarially_trained_model_is_not_undefended(tiny_zoo: Path, config: Config) -> None:
    manifest = read_manifest()
    first, second, third = manifest.models
    second = second.model_copy(update={"objective": config(method="naive", adversary="pgd").objective})
    manifest = manifest.model_copy(update={"models": (first, second, third)})
    (tiny_zoo / "manifest.json").write_bytes(serialise(manifest))
    read_manifest.cache_clear()
    assert default_surrogates(config()) == ["naive-lenet-mnist", "smd-lenet-mnist-s1"]
