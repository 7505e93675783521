"""Several processes end with the weights of one, send what is written of them, and stop together."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, distributed
from torch.distributed import DistBackendError, DistStoreError, HashStore

from smdguard.architectures import ARCHITECTURES
from smdguard.ensemble import Ensemble
from smdguard.errors import BackendError, InvalidInputError
from smdguard.guard import load
from smdguard.model_folder import WEIGHTS
from tests.training.divided import DIVIDED, NORMALISED
from training import processes
from training.batch import Batch
from training.data import TrainingData
from training.distributed import Division
from training.loop import train
from training.objectives import OBJECTIVES
from training.processes import Alone, LostProcessError, Several, launched
from training.recipes import recipe_for

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "training" / "DISTRIBUTED.md"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes have left; see divided.py."""
    folder = tmp_path_factory.mktemp("scenes")
    command = [sys.executable, "-m", "tests.training.divided", str(folder)]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, timeout=300)
    return folder


def statuses(scene: Path) -> list[int]:
    return json.loads((scene / "statuses.json").read_bytes())


def outputs(scene: Path) -> list[str]:
    return [(scene / f"stderr-{rank}").read_text() for rank in range(2)]


def metrics(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def assert_same_weights(first: Path, second: Path) -> None:
    torch.testing.assert_close(load_file(first / WEIGHTS), load_file(second / WEIGHTS), rtol=1e-10, atol=1e-12)


def test_two_processes_finish(scenes: Path) -> None:
    assert statuses(scenes / "exact") == [0, 0], outputs(scenes / "exact")


@pytest.mark.parametrize(("parallel", "case"), [pair for pair in DIVIDED if pair != ("data", NORMALISED)])
def test_two_processes_end_with_the_weights_of_one(scenes: Path, parallel: str, case: str) -> None:
    divided, alone = scenes / "exact" / parallel / case, scenes / "exact" / "alone" / case
    assert_same_weights(divided, alone)
    for first, second in zip(metrics(divided), metrics(alone), strict=True):
        assert first == pytest.approx(second, rel=1e-10)


def test_batch_normalisation_sees_each_share(scenes: Path) -> None:
    """After one step the averaged running mean is the whole batch's; the variance between the shares is lost."""
    divided, alone = (load_file(scenes / "exact" / way / NORMALISED / WEIGHTS) for way in ("data", "alone"))
    means = [name for name in alone if name.endswith("running_mean")]
    assert len(means) == 3
    for name in means:
        torch.testing.assert_close(divided[name], alone[name], rtol=1e-10, atol=1e-12)
        variance = name.replace("mean", "var")
        assert (divided[variance] - alone[variance]).abs().max() > 1e-6


def test_other_processes_may_go_on_with_a_training(scenes: Path) -> None:
    assert_same_weights(scenes / "exact" / "turns", scenes / "exact" / "alone" / "smd")


@pytest.mark.parametrize(
    ("scene", "line"),
    [
        ("refused", "Error: a batch of 7 images cannot be divided equally among 2 processes; choose a --batch-size"),
        ("diverged", "Error: the term cross_entropy became nan at step 2 of epoch 1; there is no checkpoint yet. Try"),
    ],
)
def test_a_mistake_is_one_line_of_one_process(scenes: Path, scene: str, line: str) -> None:
    assert statuses(scenes / scene) == [1, 1]
    assert len("".join(outputs(scenes / scene)).splitlines()) == 1
    assert line in "".join(outputs(scenes / scene))


def test_a_killed_process_stops_the_others(scenes: Path) -> None:
    assert statuses(scenes / "killed") == [1, -9]
    spoken, silent = outputs(scenes / "killed")
    assert spoken.splitlines()[-1].startswith("Error: another process of this training has stopped")
    assert "epoch 1 of 3" in spoken
    assert silent == ""


NCCL = "NCCL error in: ProcessGroupNCCL.cpp:3690, {}, NCCL version 2.27.5\n{}\nLast error:\n{}"


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (
            RuntimeError("[gloo/gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:38302."),
            LostProcessError,
            "another process of this training has stopped",
        ),
        (
            DistBackendError(NCCL.format("remote process exited", "ncclRemoteError: A call failed", "closed")),
            LostProcessError,
            "another process of this training has stopped",
        ),
        (DistStoreError("wait timeout after 600000ms, keys: /0"), LostProcessError, "or has not answered for 10 min"),
        (
            DistBackendError(NCCL.format("invalid usage", "ncclInvalidUsage: This usually", "Duplicate GPU detected")),
            BackendError,
            "the GPUs cannot talk to each other: NCCL error in: .* Last error: Duplicate GPU detected$",
        ),
        (
            DistBackendError(NCCL.format("unhandled cuda error", "ncclUnhandledCudaError: Call", "out of memory")),
            DistBackendError,
            "out of memory$",
        ),
        (torch.OutOfMemoryError("CUDA out of memory."), torch.OutOfMemoryError, "CUDA out of memory"),
        (RuntimeError("Tensors must be contiguous"), RuntimeError, "^Tensors must be contiguous$"),
    ],
)
def test_only_what_others_have_done_is_told_of_them(
    error: Exception, kind: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(distributed, "get_rank", lambda: 0)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    for function in ("all_reduce", "all_gather", "broadcast"):
        monkeypatch.setattr(distributed, function, fail)
    several = Several()
    for call in (several.average, several.all_gather, partial(several.broadcast, source=0)):
        with pytest.raises(kind, match=message) as caught:
            call(torch.ones(2))
        assert type(caught.value) is kind


class Colleagues(Alone):
    """Stands for the processes that divide the members, one each; what the others have is known beforehand."""

    def __init__(self, rank: int, tape: list[Tensor]) -> None:
        self.rank, self.count, self._tape = rank, len(tape[0]), iter(tape)

    def all_gather(self, own: Tensor) -> Tensor:
        parts = [*next(self._tape).split(1)]
        parts[self.rank] = own
        return torch.cat(parts)


class Taped(Alone):
    """One process, and what it would tell others."""

    def __init__(self) -> None:
        self.tape: list[Tensor] = []

    def all_gather(self, own: Tensor) -> Tensor:
        self.tape.append(own.detach())
        return own


@pytest.mark.parametrize("method", OBJECTIVES)
def test_the_gradient_of_one_member_is_that_of_the_joint_loss(method: str, batch: Batch) -> None:
    targets, state = list(batch.second_pass), batch.generator.get_state()

    def gradients(division: Division) -> tuple[dict[str, Tensor], list[Tensor]]:
        batch.generator.set_state(state)
        ensemble = division.part(deepcopy(batch.ensemble)).double()
        terms = OBJECTIVES[method]()(replace(batch, ensemble=ensemble, second_pass=iter(targets), division=division))
        loss = torch.stack(list(terms.values())).sum()
        return terms, list(torch.autograd.grad(loss, list(ensemble.parameters())))

    taped = Taped()
    joint_terms, joint = gradients(Division(taped, "members"))
    of_each = []
    for rank in range(3):
        terms, own = gradients(Division(Colleagues(rank, taped.tape), "members"))
        torch.testing.assert_close(terms, joint_terms, rtol=1e-12, atol=1e-14)
        of_each += own
    torch.testing.assert_close(of_each, joint, rtol=1e-10, atol=1e-12)
    assert all(gradient.any() for gradient in joint)


class Counted(Alone):
    """One of several processes that are not there."""

    def __init__(self, rank: int, count: int) -> None:
        self.rank, self.count = rank, count


@pytest.mark.parametrize("num_processes", [1, 2, 3])
def test_shares_of_what_is_drawn_make_up_the_whole_draw(num_processes: int) -> None:
    images = torch.rand(6, 1, 2, 2, generator=torch.Generator().manual_seed(0))

    def change(images: Tensor, generator: torch.Generator | None) -> Tensor:
        return images + torch.rand(images.shape, generator=generator)

    whole = change(images, torch.Generator().manual_seed(1))
    for rank in range(num_processes):
        division = Division(Counted(rank, num_processes))
        share = division.at_random(change, division.share(images), torch.Generator().manual_seed(1))
        assert torch.equal(share, whole[rank::num_processes])


def test_each_member_has_one_process(ensemble: Ensemble) -> None:
    divisions = [Division(Counted(rank, 2), "members") for rank in range(2)]
    parts = [division.part(ensemble) for division in divisions]
    assert [member for part in parts for member in part.members] == list(ensemble.members)
    assert divisions[0].owners(3) == [0, 0, 1]


@pytest.mark.parametrize(
    ("name", "parallel", "count", "message"),
    [
        ("smd-lenet-mnist", "data", 3, "a batch of 64 images cannot be divided equally among 3 .* such as 63"),
        ("smd-lenet-mnist", "members", 4, "3 members cannot be divided among 4 processes; start torchrun with"),
        ("smd-lenet-mnist-at", "members", 2, "no process has the ensemble whose gradient the adversary pgd follows"),
    ],
)
def test_what_cannot_be_divided_is_refused(
    name: str, parallel: Any, count: int, message: str, data: TrainingData, tmp_path: Path
) -> None:
    recipe = recipe_for(name, batch_size=64)
    with pytest.raises(InvalidInputError, match=message):
        train(recipe, data, tmp_path / "model", device=CPU, division=Division(Counted(0, count), parallel))
    assert not (tmp_path / "model").exists()


def test_without_torchrun_there_is_one_process() -> None:
    with launched("cpu") as found:
        assert isinstance(found, Alone)


@pytest.fixture
def touched_gpus(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The GPUs that the second of two processes computes on, of two that are not there."""
    current, touched = [0], []

    def touch(_: str) -> torch.device:
        touched.extend(current)
        return torch.device("cuda")

    monkeypatch.setattr(distributed, "is_torchelastic_launched", lambda: True)
    monkeypatch.setattr(processes, "rendezvous", lambda *_, **__: iter([(HashStore(), 1, 2)]))
    monkeypatch.setattr(processes, "_SECONDS_TO_SPEAK", 0.0)
    monkeypatch.setattr(processes, "torch_device", touch)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.set_device", lambda index: current.__setitem__(0, index))
    for name, value in {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    return touched


def test_a_process_touches_no_gpu_but_its_own(touched_gpus: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(backend: str, **_: object) -> None:
        raise InterruptedError(backend)

    monkeypatch.setattr(distributed, "init_process_group", stop)
    with pytest.raises(InterruptedError, match="nccl"), launched("auto"):
        pass
    assert touched_gpus == [1]


def test_gpus_without_nccl_are_refused_before_others_are_waited_for(
    touched_gpus: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "is_nccl_available", lambda: False)
    with pytest.raises(BackendError, match="NCCL, which this PyTorch lacks"), launched("cuda"):
        pass
    assert touched_gpus == [1]


def test_fewer_gpus_than_processes_are_refused(touched_gpus: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "is_nccl_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(BackendError, match="2 processes need as many GPUs, and there are 1"), launched("cuda"):
        pass


def test_what_is_sent_is_what_the_page_says(scenes: Path) -> None:
    """Of N = 2 processes: gradients and terms in one message, or logits, maps and how many members they are of."""
    weights, maps, logits, lengths = 4 * num_weights("lenet", (1, 28, 28)), 4 * 128 * 784, 4 * 128 * 10, 2 * 8
    for rank in range(2):
        assert json.loads((scenes / "exact" / f"sent-{rank}.json").read_bytes()) == {
            "data naive": {"all_reduce": 3 * weights + 4},
            "data smd": {"all_reduce": 3 * weights + 2 * 4},
            # The two processes have two members and one; messages are of one size.
            "members naive": {"all_gather": 2 * logits + lengths // 2},
            "members smd": {"all_gather": 2 * (logits + maps) + lengths},
            "data dverge": {"all_reduce": 3 * weights + 4},
            # Each member is shown the distilled images of the two others.
            "members dverge": {"all_gather": 2 * (2 * logits + maps) + lengths},
        }


def num_weights(architecture: str, image_shape: tuple[int, int, int]) -> int:
    member = ARCHITECTURES[architecture](image_shape, 10, negative_slope=0.0)
    return sum(weight.numel() for weight in member.parameters())


def rows_of_the_page() -> Iterator[list[str]]:
    for line in PAGE.read_text().splitlines():
        if re.match(r"\| (LeNet-5|ResNet-20)", line):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def test_the_figures_of_the_page() -> None:
    networks: dict[str, tuple[str, tuple[int, int, int]]] = {
        "LeNet-5, MNIST": ("lenet", (1, 28, 28)),
        "ResNet-20, CIFAR-10": ("resnet20", (3, 32, 32)),
    }
    rows = list(rows_of_the_page())
    assert len(rows) == 4
    for name, members, by_data, by_members, break_even in rows:
        weights, (channels, height, width) = num_weights(*networks[name]), networks[name][1]
        pixels, num_members = channels * height * width, int(members)
        assert by_data == f"{4 * 2 * num_members * weights / 1e6:.2f}"
        assert by_members == f"{4 * num_members * 128 * (pixels + 10) / 1e6:.2f}"
        assert int(break_even) == round(2 * weights / (pixels + 10))


@pytest.mark.slow
def test_torchrun_makes_a_model(image_folder: Path, data: TrainingData, tmp_path: Path) -> None:
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "training", "run"]
    options = ["--epochs", "1", "--calibration", "0", "--device", "cpu"]
    options += ["--data-root", str(image_folder), "--output", str(tmp_path / "model")]
    result = subprocess.run(
        [sys.executable, *launch, "smd-lenet-mnist", "--parallel", "members", *options],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 1
    assert result.stderr.count("epoch 1 of 1") == 1
    assert load(str(tmp_path / "model"), backend="torch", device="cpu").predict(data.test.images[0, 0].numpy())
