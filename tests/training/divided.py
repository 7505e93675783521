"""What test_distributed.py has two processes do: train every case in 64-bit floats, fail, and be killed.

Run as `python -m tests.training.divided FOLDER`. Importing PyTorch takes most of the time, so the processes are forks
of one that has done it; what torchrun tells its processes stands in their environment.
"""

import json
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, distributed, nn
from torch.distributed import TCPStore

from smdguard.architectures.narrow_convolution import NarrowConvolution
from smdguard.backends.torch import build_ensemble
from smdguard.manifest import Architecture, Input
from tests.training.conftest import TinyNetwork, random_images
from training import draws, loop, processes
from training.__main__ import main as training
from training.batch import Batch
from training.commands import run
from training.data import TrainingData, batches
from training.distributed import Division, Parallel
from training.loop import train
from training.processes import Processes, launched
from training.recipes import SCRATCH, Recipe, recipe_for
from training.step import Stepper

CPU = torch.device("cpu")
NORMALISED = "naive-normalised"
SHORT: dict[str, Any] = {
    "architecture": "tests.training.divided:Small",
    "num_epochs": 2,
    "batch_size": 8,
    "num_calibration_images": 8,
    "init": SCRATCH,
}
FEW_STEPS: dict[str, Any] = {"num_steps": 2}
CASES: dict[str, dict[str, Any]] = {
    "naive": {},
    "adp": {},
    "gal": {},
    "smd": {"augmentation": True},
    "dverge": {"parameters": FEW_STEPS},
    "smd-plus": {"parameters": FEW_STEPS},
    "smd-at": {"adversary": "pgd", "adversary_parameters": FEW_STEPS | {"warm_up": 0.0}},
    "gal-eat": {"adversary": "eat", "adversary_parameters": FEW_STEPS, "holdouts": ("given",)},
    "dverge-eat": {
        "parameters": FEW_STEPS,
        "adversary": "eat",
        "adversary_parameters": FEW_STEPS,
        "holdouts": ("given",),
    },
    # One step, after which only what is linear in the images is still the same.
    NORMALISED: {"architecture": "tests.training.divided:SmallNormalised", "num_epochs": 1, "batch_size": 16},
}
DIVIDED = [
    (parallel, case) for parallel in get_args(Parallel) for case in CASES if (parallel, case) != ("members", "smd-at")
]


class Small(TinyNetwork):
    """The tiny network for images of MNIST."""

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int, **settings: Any) -> None:
        super().__init__(image_shape, num_classes, **settings)
        groups = self.num_members
        self.conv = NarrowConvolution(groups, 3 * groups, kernel_size=7, stride=7, groups=groups)


class SmallNormalised(Small):
    """The same with batch normalisation."""

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int, **settings: Any) -> None:
        super().__init__(image_shape, num_classes, **settings)
        self.norm = nn.BatchNorm2d(3 * self.num_members)


def recipe_of(case: str) -> Recipe:
    method = "smd-plus" if case == "smd-plus" else case.partition("-")[0]
    return recipe_for(f"{method}-lenet-mnist", **SHORT | CASES[case])


def small_data() -> TrainingData:
    """16 images, which is two steps an epoch."""
    return TrainingData(random_images(16, 0), random_images(8, 1), random_images(8, 2))


def double_batches(*arguments: Any, **keywords: Any) -> Iterator[tuple[Tensor, Tensor]]:
    for images, labels in batches(*arguments, **keywords):
        yield images.double(), labels


class Interruption(KeyboardInterrupt):
    """Stands for whatever stops a training."""


def interrupt_at(stop: tuple[int, int], epoch: int, step: int, *_: object) -> None:
    if (epoch, step) == stop:
        raise Interruption


def train_in_turns(folder: Path, everyone: Processes) -> None:
    """Begun by two who divide the images, gone on with by two who divide the members, ended by one."""
    loop._STEPS_BETWEEN_REPORTS, loop._SECONDS_BETWEEN_CHECKPOINTS = 1, 0.0
    go_on = partial(train, recipe_of("smd"), small_data(), folder, device=CPU)
    for parallel, stop in (("data", (0, 2)), ("members", (1, 2))):
        with suppress(Interruption):
            go_on(report=partial(interrupt_at, stop), division=Division(everyone, parallel))
            raise RuntimeError("the training ended before it could be interrupted")
    everyone.once(go_on)


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """The bytes that are handed to each of torch.distributed's functions."""
    found: Counter[str] = Counter()
    names = ("all_reduce", "all_gather", "broadcast")
    originals = [getattr(distributed, name) for name in names]

    def counting(name: str, original: Callable[..., Any], *arguments: Any) -> Any:
        found[name] += arguments[-1 if name == "all_gather" else 0].nbytes
        return original(*arguments)

    for name, original in zip(names, originals, strict=True):
        setattr(distributed, name, partial(counting, name, original))
    try:
        yield found
    finally:
        for name, original in zip(names, originals, strict=True):
            setattr(distributed, name, original)


def bytes_of_a_step(method: str, division: Division, batch_size: int = 128) -> Counter[str]:
    """What the step of three LeNets hands to torch.distributed, in 32-bit floats."""
    architecture = Architecture(name="lenet", num_members=3, num_classes=10)
    ensemble = build_ensemble(architecture, Input(channels=1, height=28, width=28, mean=(0.1,), std=(0.3,)))
    stepper = Stepper(recipe_for(f"{method}-lenet-mnist", init=SCRATCH), ensemble, [], division)
    images, labels = division.share(torch.rand(batch_size, 1, 28, 28)), division.share(torch.arange(batch_size) % 10)
    batch = Batch(
        ensemble=stepper.part,
        images=images,
        labels=labels,
        progress=0.0,
        epoch_seed=0,
        generator=torch.Generator(),
        second_pass=iter([(images.flip(0), labels)]),
        division=division,
    )
    with counted() as found:
        stepper.take(batch, learning_rate=1e-3)
    return found


def exact(folder: Path) -> None:
    """Every case divided in both ways, and in one process."""
    with launched("cpu") as everyone:
        divisions = {parallel: Division(everyone, parallel) for parallel in get_args(Parallel)}
        sent = {
            f"{parallel} {method}": bytes_of_a_step(method, division)
            for parallel, division in divisions.items()
            for method in ("naive", "smd", "dverge")
        }
        (folder / f"sent-{everyone.rank}.json").write_text(json.dumps(sent))

        torch.set_default_dtype(torch.float64)
        draws.batches = double_batches
        data, origins = small_data(), {"given": folder / "alone" / "naive"}
        everyone.once(lambda: train(recipe_of("naive"), data, origins["given"], device=CPU))
        for parallel, case in DIVIDED:
            output, division = folder / parallel / case, divisions[parallel]
            train(recipe_of(case), data, output, device=CPU, origins=origins, division=division)
        for case in list(CASES)[everyone.rank :: everyone.count]:
            train(recipe_of(case), data, folder / "alone" / case, device=CPU, origins=origins)
        train_in_turns(folder / "turns", everyone)


def run_command(folder: Path, *options: str) -> None:
    run.load_training_data = lambda *_, **__: small_data()
    own = ("--batch-size", "8", "--calibration", "0", "--device", "cpu", "--output", str(folder / "model"))
    training(["run", "smd-lenet-mnist", *own, *options])


def refused(folder: Path) -> None:
    """Three members for two processes are fine, seven images are not."""
    run_command(folder, "--epochs", "1", "--batch-size", "7")


def diverged(folder: Path) -> None:
    """Both processes come upon the same loss, and neither can leave the group: NCCL would wait for the other there."""
    distributed.destroy_process_group = lambda: sys.exit("the others did not answer")
    run_command(folder, "--epochs", "3", "--learning-rate", "1e30")


def killed(folder: Path) -> None:
    """The second process is gone after the first epoch."""

    def vanish(*_: object) -> dict[str, float]:
        if os.environ["RANK"] == "1" and (folder / "model" / "metrics.jsonl").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return {}

    run.Monitor = lambda *_, **__: vanish
    run_command(folder, "--epochs", "3", "--parallel", "members")


def in_two_processes(work: Callable[[Path], None], folder: Path) -> None:
    """Leaves each one's output, as stderr-RANK, and their exit statuses."""
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]

    def be(rank: int) -> None:
        own = {"RANK": rank, "LOCAL_RANK": rank, "MASTER_PORT": port}
        shared = {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_ADDR": "localhost", "TORCHELASTIC_RUN_ID": "test"}
        shared |= {"TORCHELASTIC_USE_AGENT_STORE": True, "TORCHELASTIC_RESTART_COUNT": 0}
        os.environ.update({name: str(value) for name, value in (own | shared).items()})
        with (folder / f"stderr-{rank}").open("w") as file:
            os.dup2(file.fileno(), sys.stderr.fileno())
            work(folder)

    forks = [get_context("fork").Process(target=be, args=(rank,)) for rank in range(2)]
    for fork in forks:
        fork.start()
    # torchrun itself keeps what its processes tell each other, so that it is there while one of them is.
    store = TCPStore("localhost", port, is_master=True, wait_for_workers=False)
    for fork in forks:
        fork.join()
    del store
    (folder / "statuses.json").write_text(json.dumps([fork.exitcode for fork in forks]))


if __name__ == "__main__":
    torch.set_num_threads(1)
    processes._SECONDS_TO_SPEAK = 0.0  # Nobody ends these processes but they themselves.
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # The first optimiser imports as much as PyTorch.
    for scene in (exact, refused, diverged, killed):
        in_two_processes(scene, Path(sys.argv[1]) / scene.__name__)
