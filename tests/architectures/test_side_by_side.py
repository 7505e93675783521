"""Members side by side against the same members one by one, in 64-bit floats."""

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from smdguard.architectures import ARCHITECTURES, LeNet5, SideBySide
from smdguard.ensemble import Ensemble

NETWORKS = [(name, shape) for name in ARCHITECTURES for shape in ((1, 28, 28), (3, 32, 32))]


@pytest.fixture(params=NETWORKS, ids=lambda network: f"{network[0]}-{network[1][0]}")
def ensemble(request: pytest.FixtureRequest) -> Ensemble:
    name, shape = request.param
    torch.manual_seed(0)
    members = [ARCHITECTURES[name](shape, 5, negative_slope=0.1) for _ in range(3)]
    return Ensemble(members, mean=[0.3] * shape[0], std=[0.4] * shape[0]).double()


@pytest.fixture
def on_any_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Members run side by side where they would be faster one by one."""
    monkeypatch.setattr(SideBySide, "pays_on", lambda *_: True)


def images_for(ensemble: Ensemble, *leading: int) -> Tensor:
    shape = (1, 28, 28) if len(ensemble.mean) == 1 else (3, 32, 32)
    return torch.rand(*leading, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def one_by_one(ensemble: Ensemble, images: Tensor) -> Tensor:
    normalised = ensemble.normalise(images)
    batches = normalised if images.dim() == 5 else [normalised] * 3
    return torch.stack([member(batch) for member, batch in zip(ensemble.members, batches, strict=True)])


@pytest.mark.usefixtures("on_any_device")
@pytest.mark.parametrize("leading", [(4,), (3, 4)], ids=["shared", "own"])
@pytest.mark.parametrize("training", [True, False])
def test_same_logits_gradients_and_statistics(ensemble: Ensemble, leading: tuple[int, ...], training: bool) -> None:
    images, results = images_for(ensemble, *leading), []
    for run in (Ensemble.member_logits, one_by_one):
        copied, leaf = deepcopy(ensemble).train(training), images.clone().requires_grad_()
        logits = run(copied, leaf)
        gradients = torch.autograd.grad(logits.sigmoid().sum(), [leaf, *copied.parameters()])
        results.append([logits, *gradients, *copied.state_dict().values()])
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-11)


@pytest.mark.usefixtures("on_any_device")
def test_threads_do_not_disturb_each_other(ensemble: Ensemble) -> None:
    batches = [images_for(ensemble, size) for size in range(1, 9)]
    other = deepcopy(ensemble.eval())
    for weight in other.parameters():
        weight.data.mul_(0.5)
    asked = [(model, batch) for batch in batches for model in (ensemble, other)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda pair: pair[0].member_logits(pair[1]), asked))
    for (model, batch), answer in zip(asked, answers, strict=True):
        torch.testing.assert_close(answer, one_by_one(model, batch), rtol=1e-9, atol=1e-11)


@pytest.mark.usefixtures("on_any_device")
def test_features_of_every_layer(ensemble: Ensemble) -> None:
    ensemble.eval()
    images = images_for(ensemble, 2)
    each = [list(member.layers(ensemble.normalise(images))) for member in ensemble.members]  # type: ignore[operator]
    for layer in range(ensemble.num_layers):
        features = torch.stack([layers[layer] for layers in each])
        torch.testing.assert_close(ensemble.member_features(images, layer), features, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    "other", [LeNet5((1, 28, 28), 6), LeNet5((1, 28, 28), 5, negative_slope=0.1), torch.nn.Flatten()]
)
def test_members_built_differently_do_not_run_side_by_side(other: torch.nn.Module) -> None:
    assert SideBySide.of([LeNet5((1, 28, 28), 5), LeNet5((1, 28, 28), 5)]) is not None
    assert SideBySide.of([LeNet5((1, 28, 28), 5), other]) is None
    assert SideBySide.of([other, LeNet5((1, 28, 28), 5)]) is None


@pytest.mark.parametrize(("name", "is_narrow"), [("lenet", True), ("lenet-wide", False), ("resnet20", False)])
def test_wide_members_run_side_by_side_on_a_gpu_alone(name: str, is_narrow: bool) -> None:
    side_by_side = SideBySide.of([ARCHITECTURES[name]((3, 32, 32), 10)] * 2)
    assert side_by_side is not None
    assert side_by_side.pays_on(torch.device("cpu")) is is_narrow
    assert side_by_side.pays_on(torch.device("cuda"))


@pytest.mark.parametrize(("name", "groups"), [("lenet", {1, 3}), ("resnet20", {1})])
def test_an_ensemble_runs_its_members_the_faster_way(
    name: str, groups: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    convolve = functional.conv2d
    monkeypatch.setattr(functional, "conv2d", lambda *given: (seen.append(given[-1]), convolve(*given))[1])
    members = [ARCHITECTURES[name]((3, 32, 32), 10) for _ in range(3)]
    with torch.no_grad():
        Ensemble(members, mean=[0.0] * 3, std=[1.0] * 3)(torch.rand(2, 3, 32, 32))
    assert set(seen) == groups
