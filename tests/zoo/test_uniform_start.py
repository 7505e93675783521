"""The trial of R-FGSM with an evenly drawn random step: where it leads, and what is kept."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from smdguard.attacks import RFGSM
from smdguard.datasets import balanced_subset, parse_subset
from smdguard.errors import InvalidInputError
from smdguard.threat import ThreatModel
from training.results import read_runs
from zoo import audited_trial, kept_runs
from zoo.uniform_start import UniformStart, try_uniform_start


def linear(images: Tensor) -> Tensor:
    """Brighter pixels speak for the second of two classes."""
    return torch.stack([torch.zeros(len(images)), images.flatten(1).sum(dim=1)], dim=1)


def test_pixels_end_evenly_between_the_image_and_the_edge_of_the_ball() -> None:
    images, labels = torch.full((50, 1, 20, 20), 0.5), torch.zeros(50, dtype=torch.int64)
    threat = ThreatModel("linf", 0.2)

    def moved(attack: UniformStart | RFGSM) -> Tensor:
        return (attack(linear, images, labels, threat, generator=torch.Generator().manual_seed(0)) - images) / 0.2

    # 20,000 draws; the mean and the share below a quarter are known to within a deviation of 0.0029 and 0.0031.
    steps = moved(UniformStart())
    assert steps.min() >= -1e-6
    assert steps.max() <= 1 + 1e-6
    assert steps.mean() == pytest.approx(0.5, abs=0.012)
    assert (steps < 0.25).float().mean() == pytest.approx(0.25, abs=0.013)
    # As published, the random half is undone or doubled, pixel by pixel.
    assert set(moved(RFGSM(early_stop=False)).round(decimals=4).unique().tolist()) == {0.0, 1.0}


def test_the_trial_is_kept_as_a_run_of_that_attack_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_runs, "zoo_folder", lambda: tmp_path)
    monkeypatch.setattr(audited_trial, "parse_subset", lambda data: balanced_subset(parse_subset(data), 10))
    try_uniform_start("naive-lenet-mnist-s1")
    folder = tmp_path / "trials" / "uniform-start"
    (run,) = read_runs([folder], preset=None)
    assert run.accuracy("R-FGSM", "black-box-naive", 0.3) is not None
    assert run.accuracy("FGSM", "white-box", 0.3) is None
    with pytest.raises(InvalidInputError, match="was not audited with the preset paper"):
        read_runs([folder])
