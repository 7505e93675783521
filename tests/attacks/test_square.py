"""Square on models whose optimal perturbation is known, and what its random search promises."""

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from smdguard.attacks import Square
from smdguard.attacks.attack import is_fooled
from smdguard.attacks.losses import margin
from smdguard.attacks.square import _double_pyramids, _Draw, _move_energy, _tiles
from smdguard.threat import Norm, ThreatModel
from tests.attacks.crafting import craft


def linear_model(num_channels: int = 1, size: int = 8) -> nn.Sequential:
    """Two classes, and a smooth weight image, as a random search by windows can climb it."""
    ramp = torch.linspace(-1, 1, size, dtype=torch.float64)
    weight = (ramp.view(-1, 1) + 0.5 * ramp).expand(num_channels, size, size).reshape(1, -1)
    linear = nn.Linear(weight.shape[1], 2).double().requires_grad_(False)
    linear.weight.copy_(torch.cat([weight, -weight]))
    linear.bias.zero_()
    return nn.Sequential(nn.Flatten(), linear)


def grey_images(num_images: int, num_channels: int = 1, size: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return 0.4 + 0.2 * torch.rand(num_images, num_channels, size, size, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize(("norm", "share"), [("linf", 0.85), ("l2", 0.45)])
@pytest.mark.parametrize("num_channels", [1, 3])
def test_comes_close_to_the_optimum_of_a_linear_model(norm: Norm, share: float, num_channels: int) -> None:
    model, images = linear_model(num_channels), grey_images(4, num_channels)
    labels, threat = torch.zeros(4, dtype=torch.long), ThreatModel(norm=norm, epsilon=0.3)
    # With the other class out of reach nothing is fooled, and the search runs to its end.
    model[1].bias.data = torch.tensor([1e3, 0.0], dtype=torch.float64)
    weight = model[1].weight[1] - model[1].weight[0]
    optimum = threat.epsilon * torch.linalg.vector_norm(weight, ord=1 if norm == "linf" else 2)
    adversarial = craft(Square(num_queries=800), model, images, labels, threat)
    risen = margin(model(adversarial), labels) - margin(model(images), labels)
    assert (risen <= optimum + 1e-9).all()
    assert (risen >= share * optimum).all()


@pytest.mark.parametrize("num_channels", [1, 3])
def test_what_the_box_cuts_off_an_l2_change_is_spent_elsewhere(num_channels: int) -> None:
    model, threat = linear_model(num_channels), ThreatModel("l2", 0.3)
    black_and_white = (grey_images(4, num_channels) > 0.5).double()
    # Nothing is fooled, and the search runs to its end.
    model[1].bias.data = torch.tensor([1e3, 0.0], dtype=torch.float64)
    labels = torch.zeros(4, dtype=torch.long)
    adversarial = craft(Square(num_queries=300), model, black_and_white, labels, threat)
    assert (threat.distance(black_and_white, adversarial) >= 0.95 * threat.epsilon).all()


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 12), (1, 3, 3), (1, 1, 1), (2, 4, 4)])
@given(norm=st.sampled_from(["linf", "l2"]), epsilon=st.floats(0.001, 1), seed=st.integers(0, 1000))
@settings(max_examples=8, deadline=None)
def test_never_leaves_ball_or_box(shape: tuple[int, ...], norm: Norm, epsilon: float, seed: int) -> None:
    torch.manual_seed(0)
    images = torch.rand(4, *shape, generator=torch.Generator().manual_seed(seed))
    model = nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), 3))
    threat = ThreatModel(norm=norm, epsilon=epsilon)
    adversarial = craft(Square(num_queries=30), model, images, torch.tensor([0, 1, 2, 0]), threat, seed)
    assert (threat.distance(images, adversarial) <= epsilon + 1e-6).all()
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_image_does_not_depend_on_how_the_others_fare(norm: Norm) -> None:
    model, images = linear_model(), grey_images(8)
    labels, threat = model(images).argmax(dim=1), ThreatModel(norm=norm, epsilon=0.02)
    others = torch.cat([1 - labels[:4], labels[4:]])
    first = craft(Square(num_queries=100), model, images, labels, threat)
    second = craft(Square(num_queries=100), model, images, others, threat)
    assert torch.equal(second[:4], images[:4])
    torch.testing.assert_close(first[4:], second[4:], rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_needs_no_gradient_and_asks_no_more_than_it_may(norm: Norm) -> None:
    linear = linear_model()
    calls: list[bool] = []

    def model(images: Tensor) -> Tensor:
        calls.append(torch.is_grad_enabled())
        # A back end without autograd.
        return torch.from_numpy(linear(images).numpy() + numpy.array([1e3, 0.0]))

    images = grey_images(3)
    threat = ThreatModel(norm=norm, epsilon=0.1)
    craft(Square(num_queries=20), model, images, torch.zeros(3, dtype=torch.long), threat)  # type: ignore[arg-type]
    assert calls == [False] * (1 + 20)


@pytest.mark.parametrize("num_queries", [1, 7])
def test_a_success_of_the_last_query_is_kept(num_queries: int) -> None:
    images = grey_images(2)
    calls = 0

    def model(candidates: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return torch.tensor([[0.0, 1.0] if calls > num_queries else [1.0, 0.0]]).expand(len(candidates), 2)

    labels = torch.zeros(2, dtype=torch.long)
    attack = Square(num_queries=num_queries)
    adversarial = craft(attack, model, images, labels, ThreatModel("linf", 0.1))  # type: ignore[arg-type]
    assert (adversarial != images).flatten(1).any(dim=1).all()


def test_early_stop_keeps_the_first_success() -> None:
    linear, images = linear_model(), grey_images(1)
    labels, threat = linear(images).argmax(dim=1), ThreatModel("linf", 0.2)
    seen: list[Tensor] = []

    def model(candidates: Tensor) -> Tensor:
        seen.append(candidates.clone())
        return linear(candidates)

    adversarial = craft(Square(num_queries=100), model, images, labels, threat)  # type: ignore[arg-type]
    assert is_fooled(linear(seen[-1]), labels).all()
    assert not any(is_fooled(linear(candidate), labels).any() for candidate in seen[:-1])
    assert torch.equal(adversarial, seen[-1])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_targeted_search_reaches_the_wanted_class(norm: Norm) -> None:
    model, images = linear_model(), grey_images(4)
    wanted = 1 - model(images).argmax(dim=1)
    adversarial = craft(Square(num_queries=300, targeted=True), model, images, wanted, ThreatModel(norm, 0.3))
    assert torch.equal(model(adversarial).argmax(dim=1), wanted)


def test_windows_shrink_on_the_papers_schedule_whatever_the_number_of_queries() -> None:
    full, short = Square(num_queries=10_000), Square(num_queries=1000)
    assert [full._window_ratio(step) for step in (0, 10, 11, 50, 51, 8000, 8001, 9999)] == [
        0.8 / 2**halvings for halvings in (0, 0, 1, 1, 2, 8, 9, 9)
    ]
    assert [short._window_ratio(step) for step in (1, 2, 801)] == [0.8, 0.4, 0.8 / 2**9]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_double_pyramids_have_length_one_and_two_signs(size: int) -> None:
    draw = _Draw(3, torch.Generator().manual_seed(0), torch.arange(3), torch.float32)
    windows = _double_pyramids(torch.zeros(3, 2, 8, 8), size, draw, 2)
    assert windows.shape == (3, 2, size, size)
    torch.testing.assert_close(windows.square().sum(dim=(2, 3)), torch.ones(3, 2))
    if size > 1:
        assert (windows.amin(dim=(2, 3)) < 0).all()
        assert (windows.amax(dim=(2, 3)) > 0).all()


def test_a_move_under_l2_clears_a_window_and_changes_no_channels_length() -> None:
    images, threat = grey_images(4, num_channels=2), ThreatModel("l2", 0.3)
    draw = _Draw(4, torch.Generator().manual_seed(0), torch.arange(4), images.dtype)
    before = _tiles(images, threat, draw)
    after = _move_energy(images, before, threat, 0.1, draw)
    lengths = [(changed - images).square().sum(dim=(2, 3)) for changed in (before, after)]
    torch.testing.assert_close(lengths[1], lengths[0])
    cleared = (before != images) & (after == images)
    assert cleared.flatten(1).any(dim=1).all()
    # Two windows of three by three pixels.
    assert ((before != after).sum(dim=(2, 3)) <= 2 * 3 * 3).all()
