"""The commands that write what the package brings along: test images and samples of them."""

import io
from pathlib import Path

import numpy
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from smdguard import catalogue
from smdguard.catalogue import read_manifest, read_test_subset
from smdguard.datasets import LabelledImages, parse_subset
from smdguard.files import sha256, zoo_folder
from zoo import bundled_images, entries
from zoo.__main__ import main


def test_samples_are_what_the_command_writes_one_of_each_digit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled_images, "zoo_folder", lambda: tmp_path)
    assert CliRunner().invoke(main, ["samples"]).exit_code == 0
    data = parse_subset(read_test_subset("mnist"))
    for digit in range(10):
        name = Path("samples") / f"digit-{digit}.png"
        pixels = numpy.asarray(Image.open(tmp_path / name))
        assert numpy.array_equal(pixels, numpy.asarray(Image.open(zoo_folder() / name)))
        (same,) = (data.images[:, 0] == torch.from_numpy(pixels.copy())).all(dim=(1, 2)).nonzero()
        assert data.labels[same] == digit


def test_a_subset_has_the_first_images_of_each_class_and_its_record_in_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = torch.tensor([3, 1, 1, 0, 2, 3, 0, 4, 5, 6, 7, 8, 9, 9])
    images = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 28, 28)
    monkeypatch.setattr(bundled_images, "load_split", lambda *_: LabelledImages(images, labels))
    for module in (bundled_images, catalogue, entries):
        monkeypatch.setattr(module, "zoo_folder", lambda: tmp_path)
    read_manifest.cache_clear()
    try:
        result = CliRunner().invoke(main, ["subset", "mnist", "--num-images", "10"])
        assert result.exit_code == 0, result.output
        content = (tmp_path / "data" / "mnist-test.npz").read_bytes()
        with numpy.load(io.BytesIO(content)) as arrays:
            assert arrays["labels"].tolist() == list(range(10))
            assert arrays["images"][:, 0, 0, 0].tolist() == [3, 1, 4, 0, 7, 8, 9, 10, 11, 12]
        read_manifest.cache_clear()
        record = read_manifest().test_subsets["mnist"]
        assert (record.num_images, record.sha256, record.num_bytes) == (10, sha256(content), len(content))
    finally:
        read_manifest.cache_clear()
