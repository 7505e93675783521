"""The trial of an average taken the plain way: what it decides, what it does to gradients, and what is kept."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from smdguard.attacks.gradient import input_gradient
from smdguard.attacks.losses import cross_entropy_direction
from smdguard.datasets import balanced_subset, parse_subset
from smdguard.ensemble import Ensemble
from training.results import read_runs
from zoo import audited_trial, kept_runs
from zoo.plain_average import PlainAverage, try_plain_average


class Sure(nn.Module):
    """Logits of two classes that lie `gap` times the first pixel apart."""

    def __init__(self, gap: float) -> None:
        super().__init__()
        self.gap = gap

    def forward(self, images: Tensor) -> Tensor:
        first = self.gap * images[:, 0, 0, 0]
        return torch.stack([first, torch.zeros_like(first)], dim=1)


def gradient_at_one(model: nn.Module, dtype: torch.dtype) -> float:
    image = torch.ones(1, 1, 1, 1, dtype=dtype)
    labels = torch.tensor([0])
    return input_gradient(lambda images: (cross_entropy_direction(model(images), labels), None), image)[0].item()


def ensemble(gap: float) -> Ensemble:
    return Ensemble([Sure(gap), Sure(gap)], mean=(0.0,), std=(1.0,))


def test_it_decides_as_the_ensemble() -> None:
    images = torch.tensor([0.1, 0.5, 1.0]).view(3, 1, 1, 1)
    probabilities = ensemble(3.0)(images).exp()
    assert torch.allclose(PlainAverage(ensemble(3.0))(images), probabilities - 1, atol=1e-6)


def test_its_gradient_is_lost_in_rounding_where_the_ensemble_is_sure() -> None:
    # Two logits p and 1 - p: the gradient of what is attacked is -2 gap p (1 - p), and 1 - p is e^-20 here.
    exact = -2 * 20 * torch.tensor(-20.0, dtype=torch.float64).exp().item()
    assert gradient_at_one(PlainAverage(ensemble(20.0)), torch.float64) == pytest.approx(exact, rel=1e-6)
    assert gradient_at_one(PlainAverage(ensemble(20.0)), torch.float32) != pytest.approx(exact, rel=0.1)
    # Log-probabilities keep it: their log-odds are the gap times the pixel.
    assert gradient_at_one(ensemble(20.0), torch.float32) == pytest.approx(-20, rel=1e-6)


def test_the_trial_is_kept_as_a_run_with_its_black_box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_runs, "zoo_folder", lambda: tmp_path)
    monkeypatch.setattr(audited_trial, "parse_subset", lambda data: balanced_subset(parse_subset(data), 10))
    try_plain_average("naive-lenet-mnist-s1")
    (run,) = read_runs([tmp_path / "trials" / "averaged-probabilities"])
    assert (run.recipe.name, run.recipe.num_epochs, run.report.num_images) == ("naive-lenet-mnist-s1", 20, 10)
    assert run.accuracy("FGSM", "white-box", 0.3) is not None
    assert run.accuracy("FGSM", "black-box-naive", 0.3) is not None
