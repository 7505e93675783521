"""Data sets on disk: folders of images are read class by class, and what cannot be read is refused in one line."""

import shutil
import struct
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from smdguard.dataset_folders import class_names, has_test_split, load_folder, load_split, shape_at_hand
from smdguard.datasets import DATASETS, Dataset
from smdguard.errors import InvalidInputError

MNIST, FASHION, CIFAR = DATASETS["mnist"], DATASETS["fashion-mnist"], DATASETS["cifar10"]


def write(folder: Path, name: str, value: int, size: tuple[int, int] = (28, 28), mode: str = "L") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value,) * 3).save(folder / name)


def test_folder_of_images_is_read_class_by_class(tmp_path: Path) -> None:
    for digit in range(10):
        write(tmp_path / "test" / str(digit), "a.png", 10 * digit)
        write(tmp_path / "test" / str(digit), "b.jpg", 10 * digit + 1, size=(40, 56), mode="RGB")
    data = load_split(MNIST, tmp_path, "test")
    assert data.images.shape == (20, 1, 28, 28)
    assert data.images.dtype == torch.uint8
    assert data.labels.tolist() == [digit for digit in range(10) for _ in range(2)]
    assert data.images[::2].flatten(1).unique(dim=1).flatten().tolist() == [10 * digit for digit in range(10)]


def test_folders_are_told_by_label_or_index_not_by_the_alphabet(tmp_path: Path) -> None:
    for name in ("Trouser", "Bag", "9"):
        write(tmp_path / "FashionMNIST" / "train" / name, "a.png", 0)
    data = load_split(FASHION, tmp_path, "train")
    assert data.labels.tolist() == [9, 8, 1]


def test_colour_images_keep_their_channels(tmp_path: Path) -> None:
    (tmp_path / "test" / "frog").mkdir(parents=True)
    Image.new("RGB", (32, 32), (10, 20, 30)).save(tmp_path / "test" / "frog" / "a.png")
    data = load_split(CIFAR, tmp_path, "test")
    assert data.labels.tolist() == [6]
    assert data.images[0, :, 7, 7].tolist() == [10, 20, 30]


def test_labels_that_are_numbers_are_no_indices(tmp_path: Path) -> None:
    """Ordered by the alphabet, as folders are, the label 10 has the index 1."""
    for value, name in enumerate(("1", "2", "10")):
        write(tmp_path / "test" / name, "a.png", value)
    labels = class_names(tmp_path)
    assert labels == ("1", "10", "2")
    data = load_split(Dataset("own", labels, (1, 28, 28), (0.0,), (1.0,), 0.1), tmp_path, "test")
    assert {labels[label]: image[0, 0, 0].item() for image, label in zip(*data, strict=True)} == {
        "1": 0,
        "2": 1,
        "10": 2,
    }


def test_the_halves_of_a_folder_of_images_are_told_apart(tmp_path: Path) -> None:
    write(tmp_path / "train" / "cat", "b.png", 0, size=(30, 20), mode="RGB")
    write(tmp_path / "train" / "dog", "a.png", 0)
    write(tmp_path / "test" / "dog", "a.png", 0)
    assert class_names(tmp_path, "train") == ("cat", "dog")
    assert class_names(tmp_path) == ("dog",)
    assert shape_at_hand(tmp_path, "train") == (3, 20, 30)
    assert shape_at_hand(tmp_path) == (1, 28, 28)
    own = Dataset("own", ("cat", "dog"), (1, 28, 28), (0.0,), (1.0,), 0.1)
    assert [len(load_split(own, tmp_path, half).images) for half in ("train", "test")] == [2, 1]


@pytest.mark.parametrize("dataset", [MNIST, Dataset("own", tuple("0123"), (1, 28, 28), (0.0,), (1.0,), 0.1)])
def test_without_a_test_folder_the_test_half_is_called_val(tmp_path: Path, dataset: Dataset) -> None:
    for value, folder in enumerate(("train", "val", "test")):
        for digit in "0123":
            write(tmp_path / folder / digit, "a.png", value)
    assert has_test_split(tmp_path)
    assert load_split(dataset, tmp_path, "test").images.unique().tolist() == [2]
    shutil.rmtree(tmp_path / "test")
    assert has_test_split(tmp_path)
    assert load_split(dataset, tmp_path, "test").images.unique().tolist() == [1]
    assert load_folder(dataset, tmp_path).images.unique().tolist() == [1]
    train = load_split(dataset, tmp_path, "train")
    assert (train.labels.tolist(), train.images.unique().tolist()) == ([0, 1, 2, 3], [0])


def test_one_image_in_colour_gives_all_three_channels(tmp_path: Path) -> None:
    write(tmp_path / "cat", "a.png", 0, size=(6, 4))
    write(tmp_path / "cat", "b.jpg", 0)
    (tmp_path / "dog").mkdir()
    Image.new("LA", (9, 9)).save(tmp_path / "dog" / "a.png")
    (tmp_path / "dog" / "b.png").write_text("no image")
    assert shape_at_hand(tmp_path) == (1, 4, 6)
    write(tmp_path / "dog", "c.jpg", 0, mode="RGB")
    assert shape_at_hand(tmp_path) == (3, 4, 6)


def test_classes_without_halves_are_a_test_half_of_a_known_data_set(tmp_path: Path) -> None:
    for digit in range(10):
        write(tmp_path / str(digit), "a.png", 10 * digit)
    assert load_split(MNIST, tmp_path, "test").images[:, 0, 0, 0].tolist() == [10 * digit for digit in range(10)]
    with pytest.raises(InvalidInputError, match=r"name the folder that holds MNIST or train/CLASS/IMAGE, or add"):
        load_split(MNIST, tmp_path, "train")


def test_images_beside_the_files_of_torchvision_are_something_else(tmp_path: Path) -> None:
    write_idx(tmp_path / "MNIST" / "raw", num_images=12)
    write(tmp_path / "holidays", "a.png", 0)
    assert len(load_split(MNIST, tmp_path, "test").images) == 12


def test_folder_named_after_no_class_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "test" / "10", "a.png", 0)
    with pytest.raises(InvalidInputError, match=r"test/10 is named after no class of mnist; .*by its index \(0 to 9\)"):
        load_split(MNIST, tmp_path, "test")


def test_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "test" / "0").mkdir(parents=True)
    with pytest.raises(InvalidInputError, match=r"test holds no images; it must be a folder of CLASS/IMAGE"):
        load_split(MNIST, tmp_path, "test")
    write(tmp_path / "test" / "1", "a.png", 0)
    with pytest.raises(InvalidInputError, match="test/0 holds no images; add some, or remove the folder"):
        load_split(MNIST, tmp_path, "test")


def test_what_is_no_folder_is_refused_as_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="nowhere does not exist; it must be a folder of CLASS/IMAGE"):
        class_names(tmp_path / "nowhere")
    (tmp_path / "mynet.py").touch()
    with pytest.raises(InvalidInputError, match=r"mynet\.py is a file; it must be a folder of CLASS/IMAGE"):
        class_names(tmp_path / "mynet.py")


def test_images_in_folders_of_a_class_count_as_the_others(tmp_path: Path) -> None:
    write(tmp_path / "a", "x.png", 10, size=(6, 4))
    write(tmp_path / "b" / "far" / "below", "y.png", 200, size=(6, 4), mode="RGB")
    write(tmp_path / "b" / ".cache", "z.png", 90, size=(6, 4), mode="RGB")
    assert class_names(tmp_path) == ("a", "b")
    assert shape_at_hand(tmp_path) == (3, 4, 6)
    images = load_folder(Dataset("own", ("a", "b"), (3, 4, 6), (0.0,), (1.0,), 0.1), tmp_path)
    assert images.images[:, :, 0, 0].tolist() == [[10] * 3, [200] * 3]


def test_folders_of_folders_of_images_are_no_classes(tmp_path: Path) -> None:
    for half in ("training", "validation"):
        write(tmp_path / half / "cat", "a.png", 10)
    with pytest.raises(InvalidInputError, match="holds no images; it must be a folder of CLASS/IMAGE"):
        class_names(tmp_path)
    with pytest.raises(InvalidInputError, match="mnist cannot be read from"):
        load_split(MNIST, tmp_path, "test")


def test_files_that_are_no_images_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "a", "b.png", 10, size=(6, 4))
    (tmp_path / "a" / "Thumbs.db").write_text("thumbs")
    assert shape_at_hand(tmp_path) == (1, 4, 6)
    (tmp_path / "a" / "b.png").unlink()
    with pytest.raises(InvalidInputError, match="holds no images"):
        class_names(tmp_path)


def test_a_name_that_no_folder_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="x does not exist"):
        class_names(tmp_path / ("x" * 300))
    with pytest.raises(InvalidInputError, match="mnist cannot be read from"):
        load_split(MNIST, tmp_path / ("x" * 300), "test")


@pytest.mark.parametrize("half", ["test", ""])
def test_of_a_subset_no_other_image_is_read(tmp_path: Path, half: str) -> None:
    """As many of each class, ordered by class and not by the folder's name."""
    for value, name in enumerate(("Trouser", "Bag")):
        for number in range(4):
            write(tmp_path / half / name, f"{number}.png", 10 * value + number)
        for number in (2, 3):
            (tmp_path / half / name / f"{number}.png").write_text("no image")
    data = load_split(FASHION, tmp_path, "test", num_images=4)
    assert (data.labels.tolist(), data.images[:, 0, 0, 0].tolist()) == ([1, 1, 8, 8], [0, 1, 10, 11])
    with pytest.raises(InvalidInputError, match="5 images cannot be taken evenly from 2 classes of 8 images"):
        load_split(FASHION, tmp_path, "test", num_images=5)


def test_text_in_the_place_of_an_image_is_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path / "test" / "0", "a.png", 0)
    (tmp_path / "test" / "0" / "b.png").write_text("no image")
    with pytest.raises(InvalidInputError, match=r"test/0/b\.png is not a known kind of image"):
        load_split(MNIST, tmp_path, "test")


def test_a_link_to_nowhere_is_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path / "test" / "0", "a.png", 0)
    (tmp_path / "test" / "0" / "b.png").symlink_to("nowhere")
    with pytest.raises(InvalidInputError, match=r"test/0/b\.png cannot be read: No such file"):
        load_split(MNIST, tmp_path, "test")


def test_an_image_without_end_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smdguard.dataset_folders.MAX_IMAGE_BYTES", 1000)
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "a.png").symlink_to("/dev/zero")
    for read_images in (shape_at_hand, lambda folder: load_folder(MNIST, folder)):
        with pytest.raises(InvalidInputError, match=r"0/a\.png has more than 1,000 bytes, which is the limit$"):
            read_images(tmp_path)


def test_what_the_system_tells_nothing_of_is_no_class_and_no_readable_image(tmp_path: Path) -> None:
    write(tmp_path / "0", "a.png", 0)
    # As behind a folder that may be listed but not entered, which nothing keeps root from.
    (tmp_path / "1").symlink_to("x" * 300)
    assert class_names(tmp_path) == ("0",)
    (tmp_path / "0" / "b.png").symlink_to("x" * 300)
    with pytest.raises(InvalidInputError, match=r"0/b\.png cannot be read: File name too long"):
        load_folder(MNIST, tmp_path)


def test_a_class_may_be_a_link_and_no_link_leads_in_circles(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "cats", "a.png", 10)
    write(tmp_path / "own" / "dog", "b.png", 20)
    (tmp_path / "own" / "cat").symlink_to(tmp_path / "elsewhere" / "cats")
    (tmp_path / "own" / "dog" / "again").symlink_to(".")
    data = load_folder(Dataset("own", ("cat", "dog"), (1, 28, 28), (0.0,), (1.0,), 0.1), tmp_path / "own")
    assert data.images[:, 0, 0, 0].tolist() == [10, 20]


def test_more_images_than_memory_holds_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "0", "a.png", 0)

    def full(*_: object, **__: object) -> torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(torch, "empty", full)
    with pytest.raises(InvalidInputError, match=r"not enough memory for 1 images of 1 x 28 x 28 in .*; take fewer"):
        load_folder(MNIST, tmp_path)


def test_data_that_is_not_there_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError) as caught:
        load_split(MNIST, tmp_path, "test")
    message = str(caught.value)
    assert message.startswith(f"mnist cannot be read from {tmp_path} ")
    assert message.endswith(
        "name the folder that holds MNIST, test/CLASS/IMAGE or CLASS/IMAGE, or add --download to fetch it"
    )
    assert "\n" not in message


def write_idx(folder: Path, num_images: int) -> None:
    """The four files of MNIST as torchvision unpacks them."""
    folder.mkdir(parents=True)
    for half in ("train", "t10k"):
        pixels = numpy.arange(num_images * 784, dtype=numpy.uint32).astype(numpy.uint8)
        header = struct.pack(">BBBBIII", 0, 0, 8, 3, num_images, 28, 28)
        (folder / f"{half}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        labels = bytes(number % 10 for number in range(num_images))
        (folder / f"{half}-labels-idx1-ubyte").write_bytes(struct.pack(">BBBBI", 0, 0, 8, 1, num_images) + labels)


def test_files_of_torchvision_are_read(tmp_path: Path) -> None:
    write_idx(tmp_path / "MNIST" / "raw", num_images=12)
    data = load_split(MNIST, tmp_path, "test")
    assert data.images.shape == (12, 1, 28, 28)
    assert data.images.flatten()[:300].tolist() == [number % 256 for number in range(300)]
    assert data.labels.tolist() == [*range(10), 0, 1]
    subset = load_split(MNIST, tmp_path, "test", num_images=10)
    assert subset.labels.tolist() == list(range(10))
    assert torch.equal(subset.images, data.images[:10])


def test_damaged_files_of_torchvision_are_one_line(tmp_path: Path) -> None:
    write_idx(tmp_path / "MNIST" / "raw", num_images=12)
    file = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(InvalidInputError, match=r"^mnist cannot be read from .*; name the folder that holds MNIST"):
        load_split(MNIST, tmp_path, "test")
