"""Training data: held-out images, shuffling, and the shifts and mirror images of augmentation."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

import training.data
from smdguard.datasets import LabelledImages
from smdguard.errors import InvalidInputError
from training.data import TrainingData, batches, load_training_data


def numbered(count: int) -> LabelledImages:
    """Images that say which one they are, in the colour of every pixel and in the label."""
    numbers = torch.arange(count)
    return LabelledImages(numbers.to(torch.uint8).view(-1, 1, 1, 1).expand(count, 3, 4, 4).contiguous(), numbers)


def load(monkeypatch: pytest.MonkeyPatch, num_calibration_images: int) -> TrainingData:
    sizes = {"train": 100, "test": 10}
    monkeypatch.setattr(training.data, "load_split", lambda _dataset, _root, half, **_: numbered(sizes[half]))
    return load_training_data("cifar10", Path(), num_calibration_images=num_calibration_images, download=False)


def test_calibration_images_are_held_out_and_always_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(monkeypatch, 30)
    torch.manual_seed(5)
    again = load(monkeypatch, 30)
    kept, held_out = set(first.train.labels.tolist()), set(first.calibration.labels.tolist())
    assert (len(kept), len(held_out), len(first.test.labels)) == (70, 30, 10)
    assert kept | held_out == set(range(100))
    assert torch.equal(first.calibration.labels, again.calibration.labels)
    assert torch.equal(first.train.images[:, 0, 0, 0].long(), first.train.labels)
    fewer = load(monkeypatch, 10)
    assert set(fewer.calibration.labels.tolist()) < held_out


def test_without_calibration_all_images_are_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(load(monkeypatch, 0).train.labels) == 100


@pytest.mark.parametrize("num_calibration_images", [100, 101])
def test_something_has_to_be_left_to_train_on(monkeypatch: pytest.MonkeyPatch, num_calibration_images: int) -> None:
    with pytest.raises(
        InvalidInputError,
        match=f"of 100 training images {num_calibration_images} cannot be held out; .* --calibration$",
    ):
        load(monkeypatch, num_calibration_images)


def test_absent_data_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="--download"):
        load_training_data("mnist", tmp_path, num_calibration_images=0, download=False)


@given(count=st.integers(1, 50), batch_size=st.integers(1, 20), seed=st.integers(0, 2**63 - 1))
@settings(max_examples=30, deadline=None)
def test_batches_show_each_image_at_most_once(count: int, batch_size: int, seed: int) -> None:
    cut = list(batches(numbered(count), batch_size, torch.Generator().manual_seed(seed), augmentation=False))
    seen = torch.cat([labels for _, labels in cut]).tolist()
    assert len(seen) == len(set(seen)) == (count if count < batch_size else count // batch_size * batch_size)
    for images, labels in cut:
        assert torch.equal((images[:, 0, 0, 0] * 255).round().long(), labels)
        assert images.dtype == torch.float32
        assert len(images) == min(batch_size, count)


def test_another_seed_gives_another_order() -> None:
    orders = [
        torch.cat([labels for _, labels in batches(numbered(50), 10, generator, augmentation=False)]).tolist()
        for generator in (torch.Generator().manual_seed(seed) for seed in (0, 0, 1))
    ]
    assert orders[0] == orders[1] != orders[2]


def test_augmentation_shifts_and_mirrors_whole_images() -> None:
    """Every result is one of the 81 shifts of the image or of its mirror image, each as often as the others."""
    image = torch.randint(1, 256, (3, 6, 5), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    padded = functional.pad(image, (4,) * 4)
    shifts = [padded[:, top : top + 6, left : left + 5] for top in range(9) for left in range(9)]
    possible = torch.stack([version for shift in shifts for version in (shift, shift.flip(2))]).float() / 255
    data = LabelledImages(image.expand(4000, 3, 6, 5).contiguous(), torch.zeros(4000, dtype=torch.long))
    ((images, _),) = batches(data, 4000, torch.Generator().manual_seed(1), augmentation=True)
    matches = (images.flatten(1)[:, None] == possible.flatten(1)[None]).all(dim=2)
    assert matches.any(dim=1).all()
    counts = matches.float().sum(dim=0)
    # 4000 draws from 162: 24.7 each, with a standard deviation of 5.
    assert counts.min() > 4
    assert counts.max() < 52
