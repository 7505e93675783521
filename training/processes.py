"""The processes of one training: those that torchrun has started, or this one alone."""

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import timedelta
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import Tensor, distributed
from torch.distributed import DistBackendError, DistNetworkError, DistStoreError
from torch.distributed.distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

from smdguard.auditing.batching import is_out_of_memory
from smdguard.backends.torch import torch_device
from smdguard.errors import BackendError, SmdguardError

# Longer than any process is ahead of the others, which is by what the first one writes at the end.
_PATIENCE = timedelta(minutes=10)
# How gloo, NCCL, and PyTorch where it brings NCCL's processes together, word that another one is not there.
_GONE = "gloo/transport|ncclRemoteError|application crash on rank|(NCCL|operation|wait) timeout"
# torchrun ends all processes when the first one ends, so that has to be the one that says why.
_SECONDS_TO_SPEAK = 3.0

Result = TypeVar("Result")


class LostProcessError(SmdguardError):
    """Another process of the training has stopped, or does not answer."""


class Processes(Protocol):
    """What all processes of a training do together; each has to call the same methods in the same order."""

    rank: int
    count: int

    def once(self, work: Callable[[], object]) -> None:
        """The first process does the work, when all have come to this point; all go on when it is done."""

    def in_turn(self, work: Callable[[], Result]) -> Result:
        """What the work returns; the first process does it before the others, who find what it has left."""
        ...

    def agree(self, opinion: bool) -> bool:
        """The first process's opinion."""
        ...

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Put the mean over the processes in the place of each tensor, all in one message."""

    def all_gather(self, own: Tensor) -> Tensor:
        """The tensors of all processes one after another along their first axis, the others' as constants.

        That axis may have another length in each process.
        """
        ...

    def broadcast(self, tensor: Tensor, source: int) -> None:
        """Put the tensor that the process of rank `source` has in the place of this one."""


class Alone:
    """One process; all that would be said to others is left unsaid."""

    rank, count = 0, 1

    def once(self, work: Callable[[], object]) -> None:
        """See Processes."""
        work()

    def in_turn(self, work: Callable[[], Result]) -> Result:
        """See Processes."""
        return work()

    def agree(self, opinion: bool) -> bool:
        """See Processes."""
        return opinion

    def average(self, tensors: Sequence[Tensor]) -> None:
        """See Processes."""

    def all_gather(self, own: Tensor) -> Tensor:
        """See Processes."""
        return own

    def broadcast(self, tensor: Tensor, source: int) -> None:
        """See Processes."""


ALONE = Alone()


class Several:
    """The processes of torch.distributed's default group."""

    def __init__(self) -> None:
        self.rank, self.count = distributed.get_rank(), distributed.get_world_size()

    def once(self, work: Callable[[], object]) -> None:
        """See Processes."""
        self._meet()
        if self.rank == 0:
            work()
        self._meet()

    def in_turn(self, work: Callable[[], Result]) -> Result:
        """See Processes."""
        if self.rank > 0:
            self._meet()
        result = work()
        if self.rank == 0:
            self._meet()
        return result

    def agree(self, opinion: bool) -> bool:
        """See Processes."""
        word = torch.tensor(opinion, dtype=torch.uint8)
        self.broadcast(word, 0)
        return bool(word)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """See Processes."""
        message = torch.cat([tensor.flatten() for tensor in tensors])
        with _answered():
            distributed.all_reduce(message)
        means = (message / self.count).split([tensor.numel() for tensor in tensors])
        for tensor, mean in zip(tensors, means, strict=True):
            tensor.copy_(mean.view_as(tensor))

    def all_gather(self, own: Tensor) -> Tensor:
        """See Processes."""
        lengths = [int(length) for length in self._gathered(torch.tensor(len(own)))]
        # Messages have to be of one size.
        message = own.new_zeros(max(lengths), *own.shape[1:])
        message[: len(own)] = own.detach()
        parts = [part[:length] for part, length in zip(self._gathered(message), lengths, strict=True)]
        parts[self.rank] = own
        return torch.cat(parts)

    def broadcast(self, tensor: Tensor, source: int) -> None:
        """See Processes."""
        message = tensor.contiguous()
        with _answered():
            distributed.broadcast(message, source)
        tensor.copy_(message)

    def _gathered(self, tensor: Tensor) -> list[Tensor]:
        """The equally large tensors of all processes."""
        gathered = [torch.empty_like(tensor) for _ in range(self.count)]
        with _answered():
            distributed.all_gather(gathered, tensor)
        return gathered

    def _meet(self) -> None:
        """Wait until all have come to this point."""
        self._gathered(torch.tensor(self.rank))


@contextmanager
def launched(device: str) -> Iterator[Processes]:
    """The processes that torchrun has started, of which this is one; this one alone where it has started none.

    Only the first prints what happens, and only the first to fail says why. Tensors on a GPU travel by NCCL, others
    by gloo.

    Args:
        device: Where to train: "auto", "cpu" or "cuda", which from here on stands for a GPU of this process's own.

    Raises:
        BackendError: There is no GPU, there are fewer than processes, or PyTorch has no NCCL; later, NCCL fails.
        LostProcessError: Not all processes could be reached.
        SystemExit: This process fails after another one.
    """
    if not distributed.is_torchelastic_launched():
        yield ALONE
        return
    with _answered():
        store, rank, count = next(rendezvous("env://", timeout=_PATIENCE))
    try:
        backend = _backend_for(device)
        with _answered():
            distributed.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=_PATIENCE)
        with _silent(rank > 0):
            yield Several()
    except BaseException:
        if not _is_first_to_fail(store):
            time.sleep(_SECONDS_TO_SPEAK)
            raise SystemExit(1) from None
        raise
    # Not after a failure: NCCL would wait there for the others, and the reason with it.
    distributed.destroy_process_group()


def _backend_for(device: str) -> str:
    """What tensors travel by; where there are GPUs to train on, "cuda" becomes this process's own."""
    rank, num_processes = (int(os.environ[name]) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    num_gpus = torch.cuda.device_count()
    # Before "cuda" is tried out: by default it is the first GPU, of which every process would take memory.
    if device != "cpu" and rank < num_gpus:
        torch.cuda.set_device(rank)
    if torch_device(device).type == "cpu":
        return "gloo"
    if not distributed.is_nccl_available():
        raise BackendError("several GPUs talk through NCCL, which this PyTorch lacks; use --device cpu, or one process")
    if num_processes > num_gpus:
        raise BackendError(
            f"{num_processes} processes need as many GPUs, and there are {num_gpus}; start torchrun with "
            f"--nproc-per-node {num_gpus}, or use --device cpu"
        )
    return "cpu:gloo,cuda:nccl"


@contextmanager
def _answered() -> Iterator[None]:
    """Say in one line that others are gone, or what NCCL has met with: torch.distributed names addresses and files."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, (DistNetworkError, DistStoreError)) or re.search(_GONE, str(error)):
            raise LostProcessError(
                f"another process of this training has stopped, or has not answered for {_PATIENCE.seconds // 60} "
                "minutes; go on with --resume"
            ) from error
        if isinstance(error, DistBackendError) and not is_out_of_memory(error):
            raise BackendError(f"the GPUs cannot talk to each other: {' '.join(str(error).split())}") from error
        raise


@contextmanager
def _silent(is_silent: bool) -> Iterator[None]:
    """Print nothing, where that is asked for."""
    if not is_silent:
        yield
        return
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def _is_first_to_fail(store: Store) -> bool:
    """Whether no other process has failed before; where nobody answers, nobody else can speak either."""
    try:
        return store.add("failures", 1) == 1
    except RuntimeError:
        return True
