"""Folders of the user's own images: classes, sizes, statistics, and the splits that are held out."""

import os
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from smdguard.cli.audited_model import find_audited_model
from smdguard.dataset_folders import load_folder, load_split
from smdguard.datasets import LabelledImages
from smdguard.errors import InvalidInputError
from smdguard.guard import load
from training.__main__ import main
from training.image_folder import load_image_folder

CLASSES = ("daisy", "rose", "tulip")


def pictures(count: int, seed: int, size: tuple[int, int] = (16, 12)) -> numpy.ndarray:
    """Colour images (N, H, W, 3), darker and narrower in range than noise."""
    return numpy.random.default_rng(seed).integers(10, 200, (count, *size, 3), dtype=numpy.uint8)


def write(folder: Path, images: numpy.ndarray) -> None:
    folder.mkdir(parents=True)
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index}.png")


@pytest.fixture
def flowers(tmp_path: Path) -> Path:
    """Twenty training and four test images of each class."""
    for index, name in enumerate(CLASSES):
        write(tmp_path / "My Flowers" / "train" / name, pictures(20, index))
        write(tmp_path / "My Flowers" / "test" / name, pictures(4, 10 + index))
    return tmp_path / "My Flowers"


def test_a_folder_describes_itself(flowers: Path) -> None:
    dataset, data = load_image_folder(flowers)
    assert (dataset.name, dataset.labels, dataset.image_shape) == ("my-flowers", CLASSES, (3, 16, 12))
    assert dataset.epsilon == 8 / 255
    assert [len(part.images) for part in data] == [54, 6, 12]
    assert all(part.images.dtype == torch.uint8 for part in data)
    # Mean and standard deviation are those of the training split, by numpy's account.
    trained = numpy.concatenate([pictures(20, index) for index in range(3)]) / 255
    assert dataset.mean == pytest.approx(trained.mean(axis=(0, 1, 2)), abs=1e-6)
    assert dataset.std == pytest.approx(trained.std(axis=(0, 1, 2)), abs=1e-6)
    tested = torch.from_numpy(pictures(4, 11)).permute(0, 3, 1, 2)
    assert torch.equal(data.test.images[data.test.labels == 1], tested)


def test_hidden_files_are_no_images_and_hidden_folders_no_classes(flowers: Path) -> None:
    expected, data = load_image_folder(flowers)
    (flowers / "train" / CLASSES[0] / ".DS_Store").write_bytes(b"Bud1")
    (flowers / "train" / CLASSES[0] / "._0.png").write_bytes(b"what a Mac knows of it")
    write(flowers / "train" / ".ipynb_checkpoints", pictures(20, 0))
    for hidden in (Path(".ipynb_checkpoints"), Path("deeper") / ".AppleDouble"):
        write(flowers / "train" / CLASSES[1] / hidden, pictures(20, 0))
    described, again = load_image_folder(flowers)
    assert described == expected
    assert torch.equal(again.train.images, data.train.images)


def test_images_in_hidden_folders_are_none_of_the_fifth_that_is_held_out(flowers: Path) -> None:
    dataset, _ = load_image_folder(flowers / "train")
    expected = load_split(dataset, flowers / "train", "test")
    write(flowers / "train" / CLASSES[0] / ".ipynb_checkpoints", pictures(20, 9))
    assert torch.equal(load_split(dataset, flowers / "train", "test").images, expected.images)


def test_a_class_whose_name_is_no_text_is_refused(flowers: Path) -> None:
    (flowers / "train" / CLASSES[0]).rename(os.fsdecode(os.fsencode(flowers / "train") + b"/ros\xe9"))
    with pytest.raises(InvalidInputError, match="cannot name a class; its name is not readable text"):
        load_image_folder(flowers)


def test_images_come_in_the_size_that_is_asked_for(flowers: Path) -> None:
    dataset, data = load_image_folder(flowers, image_size=20, num_calibration_images=0)
    assert dataset.image_shape == (3, 20, 20)
    assert [tuple(part.images.shape) for part in data] == [(60, 3, 20, 20), (0, 3, 20, 20), (12, 3, 20, 20)]


def shown(*parts: LabelledImages) -> set[bytes]:
    """What the images show, each of which is another."""
    return {image.numpy().tobytes() for part in parts for image in part.images}


@pytest.mark.parametrize(("splits", "num_tested"), [([""], 12), (["train"], 12), (["train", "test"], 60)])
def test_audits_take_exactly_what_training_does_not_learn_from(
    tmp_path: Path, splits: list[str], num_tested: int
) -> None:
    for split in splits:
        for index, name in enumerate(CLASSES):
            write(tmp_path / split / name, pictures(20, index + 10 * len(split)))
    dataset, data = load_image_folder(tmp_path)
    audited = load_split(dataset, tmp_path, "test")
    assert shown(audited) == shown(data.test)
    assert len(shown(audited)) == num_tested
    assert len(audited.labels.unique()) == 3
    learnt = shown(data.train, data.calibration)
    assert learnt.isdisjoint(shown(audited))
    assert len(learnt) + num_tested == 60 * len(splits)


def test_the_fifth_that_is_held_out_depends_on_the_names_alone(tmp_path: Path) -> None:
    """Neither on the settings nor on where the folder is, and not much on what is added to it."""
    for index, name in enumerate(CLASSES):
        write(tmp_path / "here" / name, pictures(20, index))
        write(tmp_path / "there" / "train" / name, pictures(20, index))
    dataset, data = load_image_folder(tmp_path / "here")
    assert shown(load_image_folder(tmp_path / "there", num_calibration_images=30)[1].test) == shown(data.test)
    write(tmp_path / "here" / "added", pictures(60, 9))
    for file in (tmp_path / "here" / "added").iterdir():
        file.rename(tmp_path / "here" / "rose" / f"more-{file.name}")
    (tmp_path / "here" / "added").rmdir()
    later = load_split(dataset, tmp_path / "here", "test")
    assert len(later.images) == 24
    # With uniform checksums, 24 of 120 takes as many of each as 12 of 60 did, give or take a few.
    assert len(shown(later) & shown(data.train, data.calibration)) <= 3


def test_of_each_class_a_fifth_is_held_out_however_few_images_it_has(tmp_path: Path) -> None:
    for name, count in zip(CLASSES, (40, 9, 2), strict=True):
        write(tmp_path / name, pictures(count, count))
    _, data = load_image_folder(tmp_path, num_calibration_images=0)
    assert data.test.labels.bincount().tolist() == [8, 2, 1]
    assert data.train.labels.bincount().tolist() == [32, 7, 1]


def test_of_a_single_image_none_is_held_out(tmp_path: Path) -> None:
    for name, count in zip(CLASSES, (40, 9, 1), strict=True):
        write(tmp_path / name, pictures(count, count))
    with pytest.raises(InvalidInputError, match=r"tulip holds a single image, and one of each class is held out"):
        load_image_folder(tmp_path)


def test_a_class_that_is_held_out_whole_is_refused(tmp_path: Path) -> None:
    for name, count in zip(CLASSES, (40, 9, 2), strict=True):
        write(tmp_path / name, pictures(count, count))
    with pytest.raises(InvalidInputError, match=r"no image of \w+ is left to train on; add some, or hold out fewer"):
        load_image_folder(tmp_path, num_calibration_images=38)


def test_a_model_from_elsewhere_is_asked_about_all_images(flowers: Path) -> None:
    dataset, _ = load_image_folder(flowers)
    assert len(load_folder(dataset, flowers).images) == 12
    assert len(load_folder(dataset, flowers / "train").images) == 60


def test_a_test_half_alone_is_nothing_to_train_on(flowers: Path) -> None:
    (flowers / "train").rename(flowers / "elsewhere")
    with pytest.raises(InvalidInputError, match=r"holds images to test on, but none to train on; add .*/train/CLASS"):
        load_image_folder(flowers)


def test_a_class_may_be_called_test(tmp_path: Path) -> None:
    for index, name in enumerate(("control", "test")):
        write(tmp_path / name, pictures(10, index))
    dataset, data = load_image_folder(tmp_path)
    assert dataset.labels == ("control", "test")
    assert len(data.test.images) == 4


def test_a_channel_that_never_changes_can_be_divided_by(tmp_path: Path) -> None:
    images = pictures(10, 0)
    images[..., 2] = 0
    for name in CLASSES:
        write(tmp_path / "train" / name, images)
    dataset, _ = load_image_folder(tmp_path)
    assert (dataset.mean[2], dataset.std[2]) == (0.0, pytest.approx(1 / 255, abs=1e-6))


def test_a_folder_named_as_a_known_data_set_is_told_from_it(tmp_path: Path) -> None:
    for name in CLASSES:
        write(tmp_path / "MNIST" / "train" / name, pictures(10, 0))
    assert load_image_folder(tmp_path / "MNIST")[0].name == "mnist-folder"


def test_one_class_is_none(tmp_path: Path) -> None:
    write(tmp_path / "train" / "rose", pictures(10, 0))
    with pytest.raises(InvalidInputError, match="holds images of 1 class; a classifier needs at least two folders"):
        load_image_folder(tmp_path)


def test_large_photographs_need_a_size(tmp_path: Path) -> None:
    for name in CLASSES:
        write(tmp_path / "train" / name, pictures(1, 0, size=(8, 1100)))
    with pytest.raises(InvalidInputError, match="1100 x 8 pixels; say with --image-size"):
        load_image_folder(tmp_path)


def test_images_that_are_too_small_for_the_network_leave_no_folder(flowers: Path, tmp_path: Path) -> None:
    arguments = ["--architecture", "lenet", "--data-root", str(flowers), "--output", str(tmp_path / "model")]
    result = CliRunner().invoke(main, ["run", "smd", *arguments, "--image-size", "8", "--device", "cpu"])
    assert result.exit_code == 1
    assert "Error: LeNet-5 takes images of at least 12 x 12 pixels, not 8 x 8\n" in result.output
    assert not (tmp_path / "model").exists()


def test_a_class_that_is_only_tested_is_refused(flowers: Path) -> None:
    write(flowers / "test" / "weed", pictures(1, 0))
    with pytest.raises(InvalidInputError, match="weed is named after no class of my-flowers"):
        load_image_folder(flowers)


def test_from_a_folder_to_a_model_on_the_command_line(tmp_path: Path) -> None:
    """Classes that one pixel tells apart are learnt, and come back by their names."""
    shades = {"bright": 220, "dark": 30}
    for name, shade in shades.items():
        noise = numpy.random.default_rng(shade).integers(-20, 20, (40, 12, 12, 3))
        write(tmp_path / "lamps" / name, (shade + noise).astype(numpy.uint8))
    arguments = ["--architecture", "lenet", "--data-root", str(tmp_path / "lamps"), "--output", str(tmp_path / "model")]
    settings = ["--epochs", "3", "--batch-size", "8", "--members", "2", "--device", "cpu"]
    result = CliRunner().invoke(main, ["run", "smd", *arguments, *settings])
    assert result.exit_code == 0, result.output
    assert "no test split: 16 of its images (20% of each class, chosen by name) are held out for test" in result.output
    assert "6 calibration images are too few for a suspicion score, which takes 99; see --calib" in result.output
    guard = load(str(tmp_path / "model"), device="cpu")
    assert guard.config.name == "smd-lenet-lamps-x2"
    assert guard.config.training.dataset == "lamps"
    assert guard.config.clean_accuracy == 1
    assert guard.config.suspicion is None
    for name, shade in shades.items():
        assert guard.predict(numpy.full((12, 12, 3), shade, dtype=numpy.uint8)).label == name
    # An audit takes the images that the training did not; one of a model that nothing is known of takes all.
    audited = find_audited_model(str(tmp_path / "model"), tmp_path / "lamps", "cpu")
    taken = audited.images(tmp_path / "lamps", download=False)
    assert shown(taken) == shown(load_image_folder(tmp_path / "lamps")[1].test)
    assert len(taken.images) == 16
    assert len(replace(audited, config=None).images(tmp_path / "lamps", download=False).images) == 80
