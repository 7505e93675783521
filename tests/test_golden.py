"""Golden outputs: within the tolerance they hold, and what cannot be those of a model is refused."""

from pathlib import Path

import numpy
import pytest
from safetensors.numpy import load, save

import smdguard as sg
from smdguard.catalogue import read_test_subset
from smdguard.datasets import parse_subset
from smdguard.errors import IntegrityError
from smdguard.golden import check_golden, make_golden


def golden_of(shape: tuple[int, ...], dtype: type = numpy.uint8) -> dict[str, numpy.ndarray]:
    return {"images": numpy.zeros(shape, dtype), "member_probabilities": numpy.zeros((len(shape), 1), numpy.float32)}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "are not images with outputs: 'images'"),
        (golden_of((2, 3, 8, 8)), r"are of images uint8 \(2, 3, 8, 8\)"),
        (golden_of((2, 1, 28, 28), numpy.float32), "are of images float32"),
        (golden_of((0, 1, 28, 28)), r"are of images uint8 \(0, 1, 28, 28\)"),
        (golden_of(()), r"are of images uint8 \(\)"),
        (golden_of((2, 1, 28, 28)), r"on torch: its outputs have the shape \(2, 3, 10\), its golden ones \(4, 1\)$"),
    ],
)
def test_golden_outputs_that_cannot_be_those_of_the_model_are_refused(
    tiny_folder: Path, tensors: dict[str, numpy.ndarray], message: str
) -> None:
    guard = sg.load(str(tiny_folder), backend="torch", device="cpu")
    with pytest.raises(IntegrityError, match=message):
        check_golden(guard, save(tensors), atol=1e-5)


def test_golden_outputs_in_another_format_are_refused(tiny_folder: Path) -> None:
    guard = sg.load(str(tiny_folder), backend="torch", device="cpu")
    with pytest.raises(IntegrityError, match="are not images with outputs"):
        check_golden(guard, b"PK\x03\x04 and so on", atol=1e-5)


def test_no_more_golden_images_are_shown_at_a_time_than_fit(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = sg.load(str(tiny_folder), backend="torch", device="cpu")
    run, sizes = guard.backend.member_log_probabilities, []
    monkeypatch.setattr(
        guard.backend, "member_log_probabilities", lambda images: (sizes.append(len(images)), run(images))[1]
    )
    golden = make_golden(sg.load(str(tiny_folder), backend="torch").backend, numpy.zeros((600, 1, 28, 28), numpy.uint8))
    check_golden(guard, golden, atol=1e-5)
    assert sum(sizes) == 600
    assert max(sizes) == guard.batch_size


@pytest.mark.parametrize(("shift", "passes"), [(0.0, True), (5e-6, True), (2e-5, False), (numpy.nan, False)])
def test_golden_outputs_hold_to_within_the_tolerance(tiny_folder: Path, shift: float, passes: bool) -> None:
    guard = sg.load(str(tiny_folder), backend="torch", device="cpu")
    images = parse_subset(read_test_subset("mnist")).images[::4].numpy()
    tensors = load(make_golden(guard.backend, images))
    tensors["member_probabilities"][3, 1, 4] += shift
    if passes:
        assert check_golden(guard, save(tensors), atol=1e-5) == pytest.approx(shift, abs=1e-6)
    else:
        with pytest.raises(IntegrityError, match=r" on torch: a probability differs by .* at most 1e-05 is allowed"):
            check_golden(guard, save(tensors), atol=1e-5)
