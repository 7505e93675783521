"""A small zoo with one model."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy
import pytest

from smdguard import catalogue
from smdguard.catalogue import read_manifest, read_test_subset
from smdguard.datasets import balanced_subset, parse_subset
from smdguard.files import sha256
from smdguard.manifest import Manifest, ManifestEntry, TestSubset, serialise
from zoo import entries
from zoo.entries import add_model

NAME = "naive-lenet-mnist"


@contextmanager
def zoo_in(folder: Path) -> Iterator[None]:
    """Takes the zoo to be in that folder."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (catalogue, entries):
            patch.setattr(module, "zoo_folder", lambda: folder)
        read_manifest.cache_clear()
        yield
    read_manifest.cache_clear()


@pytest.fixture(scope="session")
def untouched_zoo(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """A zoo with 40 test images, into which the tiny model was added."""
    folder = tmp_path_factory.mktemp("zoo")
    (folder / "data").mkdir()
    data = balanced_subset(parse_subset(read_test_subset("mnist")), 40)
    file = folder / "data" / "mnist-test.npz"
    numpy.savez_compressed(file, images=data.images.numpy(), labels=data.labels.numpy().astype(numpy.uint8))
    content = file.read_bytes()
    subset = TestSubset(file=file.name, num_images=40, sha256=sha256(content), num_bytes=len(content))
    (folder / "manifest.json").write_bytes(serialise(Manifest(test_subsets={"mnist": subset})))
    with zoo_in(folder):
        add_model(tiny_folder, NAME)
    return folder


@pytest.fixture(scope="module")
def zoo(untouched_zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of that zoo to change."""
    folder = Path(shutil.copytree(untouched_zoo, tmp_path_factory.mktemp("copy") / "zoo"))
    with zoo_in(folder):
        yield folder


@pytest.fixture
def entry(zoo: Path) -> Iterator[ManifestEntry]:
    """The tiny model's entry; whatever a test does to its files is undone."""
    backup = zoo / "backup"
    shutil.copytree(zoo / "models", backup)
    (found,) = read_manifest().models
    yield found
    shutil.rmtree(zoo / "models")
    backup.rename(zoo / "models")
