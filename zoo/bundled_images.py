"""The images that the package brings along: test subsets, which audits attack, and samples to predict."""

import io
from pathlib import Path

import numpy
from PIL import Image

from smdguard.catalogue import read_manifest, read_test_subset
from smdguard.dataset_folders import load_split
from smdguard.datasets import DATASETS, balanced_subset, parse_subset
from smdguard.files import sha256, write_atomically, zoo_folder
from smdguard.manifest import Manifest, TestSubset
from zoo.entries import write_manifest


def bundle_subset(dataset: str, data_root: Path, num_images: int) -> TestSubset:
    """Write the first test images of each class, as many of each, and what the manifest says of them.

    Args:
        dataset: Name of a data set.
        data_root: Where the data sets are.
        num_images: How many in all.

    Returns:
        What the manifest says.

    Raises:
        InvalidInputError: The data set is not there, or its images cannot be taken so.
    """
    chosen = balanced_subset(load_split(DATASETS[dataset], data_root, "test"), num_images)
    buffer = io.BytesIO()
    arrays = {"images": chosen.images.numpy(), "labels": chosen.labels.numpy().astype(numpy.uint8)}
    numpy.savez_compressed(buffer, **arrays)
    content = buffer.getvalue()
    file = f"{dataset}-test.npz"
    write_atomically(zoo_folder() / "data" / file, content)
    record = TestSubset(file=file, num_images=num_images, sha256=sha256(content), num_bytes=len(content))
    manifest = read_manifest() if (zoo_folder() / "manifest.json").exists() else Manifest()
    write_manifest(manifest.model_copy(update={"test_subsets": manifest.test_subsets | {dataset: record}}))
    return record


def write_samples() -> None:
    """Write one PNG of each digit from the bundled MNIST test images."""
    data = balanced_subset(parse_subset(read_test_subset("mnist")), 10)
    for image, label in zip(data.images, data.labels.tolist(), strict=True):
        buffer = io.BytesIO()
        Image.fromarray(image[0].numpy()).save(buffer, "PNG", optimize=True)
        write_atomically(zoo_folder() / "samples" / f"digit-{label}.png", buffer.getvalue())
