"""Small ensembles and data sets to train on in a moment."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from smdguard.architectures.layered import GroupedLinear, LayeredNetwork
from smdguard.architectures.narrow_convolution import NarrowConvolution
from smdguard.datasets import LabelledImages
from smdguard.ensemble import Ensemble
from training.batch import Batch
from training.data import TrainingData


@pytest.fixture(scope="module", autouse=True)
def _own_arithmetic() -> Iterator[None]:
    """Sums come out the same in every process only with the same number of threads; what commands set is undone."""
    num_threads, tf32 = torch.get_num_threads(), torch.backends.cudnn.allow_tf32
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)
    torch.set_flush_denormal(False)
    torch.backends.cudnn.allow_tf32 = tf32


class TinyNetwork(LayeredNetwork):
    """A convolution and two linear layers, for 1 x 6 x 6 images and 4 classes."""

    num_layers = 3

    def __init__(self, image_shape: tuple[int, int, int] = (1, 6, 6), num_classes: int = 4, **settings: Any) -> None:
        super().__init__(image_shape, num_classes, **settings)
        groups = self.num_members
        self.conv = NarrowConvolution(groups, 3 * groups, kernel_size=3, groups=groups)
        self.norm: nn.Module = nn.Identity()
        self.fc1 = GroupedLinear(48, 8, groups=groups)
        self.fc2 = GroupedLinear(8, num_classes, groups=groups)

    def layers(self, images: Tensor) -> Iterator[Tensor]:
        yield (features := self.norm(self.conv(images)))
        yield (features := self.fc1(self.activation(features).flatten(1)))
        yield self.fc2(self.activation(features))


class NormalisedTinyNetwork(TinyNetwork):
    """The same with batch normalisation."""

    def __init__(self, image_shape: tuple[int, int, int] = (1, 6, 6), num_classes: int = 4, **settings: Any) -> None:
        super().__init__(image_shape, num_classes, **settings)
        self.norm = nn.BatchNorm2d(3 * self.num_members)


@pytest.fixture(params=[TinyNetwork, NormalisedTinyNetwork], ids=["plain", "batch-norm"])
def ensemble(request: pytest.FixtureRequest) -> Ensemble:
    """Three members in 64-bit floats, in training mode."""
    torch.manual_seed(0)
    members = [request.param() for _ in range(3)]
    return Ensemble(members, mean=[0.25], std=[0.5]).double().train()


@pytest.fixture
def holdouts() -> list[Ensemble]:
    """Two that have nothing in common."""
    torch.manual_seed(1)
    members = [[NormalisedTinyNetwork() for _ in range(3)] for _ in range(2)]
    return [Ensemble(each, mean=[0.25], std=[0.5]).double().eval().requires_grad_(False) for each in members]


@pytest.fixture
def batch(ensemble: Ensemble, holdouts: list[Ensemble]) -> Batch:
    """Five images; the second pass holds five others."""
    generator = torch.Generator().manual_seed(2)
    images, targets = torch.rand((2, 5, 1, 6, 6), generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 3, 1, 1, 2])
    return Batch(
        ensemble=ensemble,
        images=images,
        labels=labels,
        progress=0.5,
        epoch_seed=1,
        generator=generator,
        second_pass=iter([(targets, labels)]),
        holdouts=holdouts,
    )


def random_images(count: int, seed: int) -> LabelledImages:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 1, 28, 28), generator=generator, dtype=torch.uint8)
    return LabelledImages(images, torch.randint(0, 10, (count,), generator=generator))


@pytest.fixture(scope="session")
def data() -> TrainingData:
    """256 random images in the shape of MNIST's, and just enough to calibrate the suspicion score on."""
    return TrainingData(random_images(256, 0), random_images(99, 1), random_images(32, 2))


@pytest.fixture
def image_folder(data: TrainingData, tmp_path: Path) -> Path:
    """The random images as PNG files, where a data set is looked for."""
    for half, part in (("train", data.train), ("test", data.test)):
        for index, (image, label) in enumerate(zip(*part, strict=True)):
            folder = tmp_path / "data" / half / str(label.item())
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[0].numpy()).save(folder / f"{index}.png")
    return tmp_path / "data"
