"""Data sets: what is known of each, and the bundled images."""

import pytest
import torch
from pydantic import TypeAdapter

from smdguard.catalogue import read_manifest, read_test_subset
from smdguard.datasets import DATASETS, Dataset, LabelledImages, balanced_subset, dataset_of, find_dataset, parse_subset
from smdguard.errors import InvalidInputError, UnknownModelError
from smdguard.hub import find_model

MNIST, FASHION, CIFAR = DATASETS["mnist"], DATASETS["fashion-mnist"], DATASETS["cifar10"]


@pytest.mark.parametrize("name", DATASETS)
def test_bundled_subset_has_a_hundred_images_of_each_class(name: str) -> None:
    dataset, data = DATASETS[name], parse_subset(read_test_subset(name))
    assert read_manifest().test_subsets[name].num_images == len(data.images) == 1000
    assert data.images.shape[1:] == dataset.image_shape
    assert data.images.dtype == torch.uint8
    assert torch.bincount(data.labels).tolist() == [100] * len(dataset.labels)
    assert len(torch.unique(data.images.flatten(1), dim=0)) == 1000
    scaled = data.scaled()
    assert (scaled.min().item(), scaled.max().item()) == (0, 1)
    # The statistics of the test images are near those that the models normalise with.
    assert scaled.mean(dim=(0, 2, 3)).tolist() == pytest.approx(dataset.mean, abs=0.01)
    assert scaled.std(dim=(0, 2, 3)).tolist() == pytest.approx(dataset.std, abs=0.01)


def test_no_other_subset_is_bundled() -> None:
    with pytest.raises(UnknownModelError, match="no test images of 'svhn' are bundled, only of mnist"):
        read_test_subset("svhn")


def test_unknown_data_set() -> None:
    with pytest.raises(InvalidInputError, match="unknown data set 'svhn'; known are mnist, fashion-mnist, cifar10"):
        find_dataset("svhn")


@pytest.mark.parametrize(("dataset", "linf", "l2"), [(MNIST, 0.3, 2.0), (FASHION, 0.1, 2.0), (CIFAR, 8 / 255, 0.5)])
def test_each_norm_has_its_radius(dataset: Dataset, linf: float, l2: float) -> None:
    assert (dataset.epsilon_in("linf"), dataset.epsilon_in("l2")) == (dataset.epsilon, dataset.l2_epsilon) == (linf, l2)


def test_no_radius_in_l2_is_made_up_for_a_folder_of_images() -> None:
    own = Dataset("own", ("cat", "dog"), (1, 28, 28), (0.0,), (1.0,), 0.1)
    assert own.epsilon_in("linf") == 0.1
    with pytest.raises(InvalidInputError, match="no radius in the norm l2 is usual for own; choose one with --epsilon"):
        own.epsilon_in("l2")


def test_descriptions_from_before_the_radius_in_l2_can_be_read() -> None:
    own = Dataset("own", ("cat", "dog"), (1, 28, 28), (0.0,), (1.0,), 0.1)
    written = TypeAdapter(Dataset).dump_python(own, mode="json")
    del written["l2_epsilon"]
    assert TypeAdapter(Dataset).validate_python(written) == own


def numbered(labels: list[int]) -> LabelledImages:
    """Images that say where they were."""
    return LabelledImages(torch.arange(len(labels)).view(-1, 1, 1, 1), torch.tensor(labels))


def test_balanced_subset_takes_the_first_of_each_class_ordered_by_class() -> None:
    subset = balanced_subset(numbered([2, 0, 1, 0, 2, 1, 0, 2, 1]), 6)
    assert subset.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert subset.images.flatten().tolist() == [1, 3, 2, 5, 0, 4]


@pytest.mark.parametrize(
    ("num_images", "nearest"), [(-3, "3"), (0, "3"), (1, "3"), (4, "3 or 6"), (8, "6 or 9"), (10, "9"), (12, "9")]
)
def test_subset_that_cannot_be_balanced_is_refused_with_the_nearest_that_can(num_images: int, nearest: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        balanced_subset(numbered([2, 0, 1, 0, 2, 1, 0, 2, 1]), num_images)
    assert str(caught.value) == (
        f"{num_images} images cannot be taken evenly from 3 classes of 9 images; take {nearest} (a multiple of 3, at "
        "most 9)"
    )


def test_the_data_set_of_a_model_is_a_known_one_or_read_off_its_configuration() -> None:
    config = find_model("smd-lenet-mnist").config
    assert dataset_of(config) is MNIST
    trained_on_own = config.model_copy(update={"training": config.training.model_copy(update={"dataset": "flowers"})})
    of_own = dataset_of(trained_on_own)
    assert (of_own.name, of_own.labels, of_own.image_shape) == ("flowers", config.labels, (1, 28, 28))
    assert (of_own.mean, of_own.std, of_own.epsilon) == (MNIST.mean, MNIST.std, 8 / 255)
