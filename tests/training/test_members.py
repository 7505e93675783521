"""Members of the user's own: trained from package.module:factory, and never imported by loading a folder."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from smdguard.datasets import DATASETS
from smdguard.errors import InvalidInputError, SmdguardError
from smdguard.guard import load
from smdguard.model_folder import WEIGHTS
from training import loop
from training.__main__ import main
from training.data import TrainingData
from training.loop import train
from training.recipes import recipe_for
from training.start import initial_ensembles

CPU = torch.device("cpu")
MODULE = """
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from smdguard.architectures import LeNet5

def dropping(image_shape, num_classes):
    channels, height, width = image_shape
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(channels * height * width, num_classes))

def layered(image_shape, num_classes):
    return LeNet5(image_shape, num_classes)

def a_layered_network_with_quite_a_long_name(image_shape, num_classes):
    return layered(image_shape, num_classes)

def frozen(image_shape, num_classes):
    network = LeNet5(image_shape, num_classes)
    network.conv1.requires_grad_(False)
    return network

def too_many(image_shape, num_classes):
    return dropping(image_shape, num_classes + 1)

def all_frozen(image_shape, num_classes):
    return LeNet5(image_shape, num_classes).requires_grad_(False)

def detached(image_shape, num_classes):
    network = LeNet5(image_shape, num_classes)
    forward = network.forward
    network.forward = lambda images: forward(images).detach()
    return network

made = []

def shared(image_shape, num_classes):
    made.append(LeNet5(image_shape, num_classes))
    return made[0]

def tied(image_shape, num_classes):
    network = LeNet5(image_shape, num_classes)
    network.again = network.fc3
    return network

def nothing(image_shape, num_classes):
    raise ValueError("no idea")

class Failing(nn.Linear):
    def forward(self, images):
        if len(images) == 64:
            raise self.error
        return super().forward(images.flatten(1))

def failing(image_shape, num_classes):
    network = Failing(784, num_classes)
    network.error = ValueError("no more of this\\nand so on")
    return network

def hungry(image_shape, num_classes):
    network = Failing(784, num_classes)
    network.error = MemoryError()
    return network

def lazy(image_shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))

class Noted(nn.Linear):
    def get_extra_state(self):
        return {"made": "today"}

    def set_extra_state(self, state):
        pass

    def forward(self, images):
        return super().forward(images.flatten(1))

def noted(image_shape, num_classes):
    return Noted(784, num_classes)

class Attention(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.project, self.last = nn.Linear(28, 3 * 16), nn.Linear(16, num_classes)

    def forward(self, images):
        query, key, value = self.project(images).chunk(3, dim=-1)
        return self.last(nn.functional.scaled_dot_product_attention(query, key, value).mean(dim=(1, 2)))

def attention(image_shape, num_classes):
    return Attention(num_classes)

class Composed(Attention):
    def forward(self, images):
        with sdpa_kernel(SDPBackend.MATH):
            return super().forward(images)

def composed_attention(image_shape, num_classes):
    return Composed(num_classes)

answer = 42
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Name of a module with factories, of which nothing is known afterwards."""
    (tmp_path / "own_networks.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_networks"
    sys.modules.pop("own_networks", None)


def short(architecture: str) -> dict[str, Any]:
    return {"architecture": architecture, "num_epochs": 2, "batch_size": 64, "num_calibration_images": 32}


@pytest.mark.parametrize("function", ["dropping", "layered"])
def test_own_members_are_trained(own: str, function: str, data: TrainingData, tmp_path: Path) -> None:
    recipe = recipe_for("smd-lenet-mnist-x2", **short(f"{own}:{function}"))
    assert recipe.name == f"smd-{function}-mnist-x2"
    config = train(recipe, data, tmp_path / "model", device=CPU)
    assert config.architecture.name == f"{own}:{function}"


def test_members_that_draw_are_cut_off_without_a_trace(
    own: str, data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout draws from PyTorch's default generator, whose state belongs to the checkpoint."""
    recipe = recipe_for("smd-lenet-mnist-x2", **short(f"{own}:dropping"))
    train(recipe, data, tmp_path / "whole", device=CPU)
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    monkeypatch.setattr(loop, "_STEPS_BETWEEN_REPORTS", 1)

    def stop(epoch: int, step: int, *_: object) -> None:
        if (epoch, step) == (1, 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, data, tmp_path / "cut", device=CPU, report=stop)
    torch.rand(5)  # Whatever happens in between.
    train(recipe, data, tmp_path / "cut", device=CPU)
    torch.testing.assert_close(
        load_file(tmp_path / "cut" / WEIGHTS), load_file(tmp_path / "whole" / WEIGHTS), rtol=0, atol=0
    )


def test_frozen_weights_stay(own: str, data: TrainingData, tmp_path: Path) -> None:
    recipe = recipe_for("smd-lenet-mnist-x2", **short(f"{own}:frozen"))
    train(recipe, data, tmp_path / "trained", device=CPU)
    untouched = recipe.model_copy(update={"learning_rate": 1e-30})
    train(untouched, data, tmp_path / "untouched", device=CPU)
    trained, before = (load_file(tmp_path / folder / WEIGHTS) for folder in ("trained", "untouched"))
    changed = {name.partition(".")[2] for name in trained if not torch.equal(trained[name], before[name])}
    assert any("fc1" in name for name in changed)
    assert not any("conv1" in name for name in changed)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("failing", "failing failed in the training: ValueError: no more of this; see python -m training --debug$"),
        ("hungry", "there is no memory for a step of 64 images; one of 32 fits"),
    ],
)
def test_what_own_members_raise_in_training_is_one_line(
    own: str, function: str, message: str, data: TrainingData, tmp_path: Path
) -> None:
    recipe = recipe_for("naive-lenet-mnist-x2", **short(f"{own}:{function}"))
    with pytest.raises(SmdguardError, match=message):
        train(recipe, data, tmp_path / "model", device=CPU)


def test_loading_a_folder_imports_nothing(own: str, data: TrainingData, tmp_path: Path) -> None:
    train(recipe_for("naive-lenet-mnist-x2", **short(f"{own}:dropping")), data, tmp_path / "model", device=CPU)
    del sys.modules[own]
    with pytest.raises(SmdguardError, match=f"{own}:dropping"):
        load(str(tmp_path / "model"), backend="torch", device="cpu")
    assert own not in sys.modules


@pytest.mark.parametrize("method", ["dverge", "smd-plus"])
def test_distillation_needs_layers_and_says_so_before_any_training(own: str, method: str, tmp_path: Path) -> None:
    arguments = ["--architecture", f"{own}:dropping", "--data-root", str(tmp_path), "--output", str(tmp_path / "model")]
    result = CliRunner().invoke(main, ["run", f"{method}-lenet-mnist", *arguments])
    assert result.exit_code == 1
    assert f"{own}:dropping gives a Sequential, which is not an smdguard.architectures.LayeredNetwork" in result.output
    assert not (tmp_path / "model").exists()
    assert recipe_for(f"{method}-lenet-mnist", architecture=f"{own}:layered").method == method


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("own_networks:absent", "own_networks:absent cannot be imported: AttributeError: "),
        ("no_such_module:network", "no_such_module:network cannot be imported: ModuleNotFoundError: "),
        ("own_networks:answer", "own_networks:answer is not a function but of type int"),
        (
            "own_networks:nothing",
            r"own_networks:nothing does not work for images \(1, 28, 28\) of 10 classes: ValueError: no idea",
        ),
        ("own_networks:all_frozen", "own_networks:all_frozen gives a LeNet5 without a weight that can be trained"),
        ("own_networks:detached", "own_networks:detached gives a LeNet5 without a weight that can be trained"),
        ("own_networks:shared", "own_networks:shared gives members that share weights"),
        ("own_networks:tied", "own_networks:tied gives members that share weights"),
        (
            "own_networks:lazy",
            "own_networks:lazy gives a network that cannot be saved: its state must be tensors alone",
        ),
        ("own_networks:noted", "own_networks:noted gives a network that cannot be saved: its state must be tensors"),
        ("own_networks:too_many", r"must turn 2 images into logits \(2, 10\), but gave shape \(2, 11\)"),
    ],
)
def test_functions_that_do_not_work_are_refused(own: str, architecture: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        recipe_for("naive-lenet-mnist", architecture=architecture)


@pytest.mark.parametrize("method", ["gal", "smd"])
def test_gradients_that_cannot_be_trained_are_refused_with_what_allows_it(own: str, method: str) -> None:
    message = r"gal, smd, smd-plus train .*, which own_networks:attention does not allow \(RuntimeError: .*MATH\)"
    with pytest.raises(InvalidInputError, match=message):
        recipe_for(f"{method}-lenet-mnist", architecture=f"{own}:attention")


def test_attention_is_trained_where_its_gradients_need_not_be_or_can(
    own: str, data: TrainingData, tmp_path: Path
) -> None:
    for method, function in (("naive", "attention"), ("smd", "composed_attention")):
        recipe = recipe_for(f"{method}-lenet-mnist-x2", **short(f"{own}:{function}") | {"num_epochs": 1})
        train(recipe, data, tmp_path / method, device=CPU)


@pytest.mark.parametrize(
    ("method", "seed", "too_long"),
    [("dverge", 2**62, "dverge-.*, not 112"), ("smd", 10**9, "naive-.*, not 102")],
)
def test_what_has_too_long_a_name_is_not_trained(own: str, method: str, seed: int, too_long: str) -> None:
    """Nor what first needs a naive ensemble with such a name."""
    architecture = f"{own}:a_layered_network_with_quite_a_long_name"
    folder = replace(DATASETS["mnist"], name="f" * 40)
    settings: dict[str, Any] = {"architecture": architecture, "folder": folder, "num_members": 8, "init": "naive"}
    assert len(recipe_for(method, **settings, seed=1).name) < 100
    with pytest.raises(InvalidInputError, match=f"the model would be called {too_long}; choose a smaller seed"):
        recipe_for(method, **settings, seed=seed)


def test_making_members_asks_no_gpu(own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here there is none, so what two of them are asked for fails."""
    expected = initial_ensembles(recipe_for("naive-lenet-mnist"), {})[0].state_dict()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    again = initial_ensembles(recipe_for("naive-lenet-mnist", architecture=f"{own}:layered"), {})[0].state_dict()
    torch.testing.assert_close(again, expected, rtol=0, atol=0)


def test_trying_a_member_out_leaves_the_generator_alone(own: str) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    recipe_for("naive-lenet-mnist", architecture=f"{own}:layered")
    assert torch.equal(torch.get_rng_state(), before)
