"""What decides an audit's results, in one hash, and what software and device run it."""

import hashlib
import inspect
import platform
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import smdguard
from smdguard.attacks import Attack, Model
from smdguard.auditing.batching import Batching
from smdguard.auditing.gradients import has_gradients, loss_gradient
from smdguard.auditing.sampling import evenly_spaced
from smdguard.wording import counted

NUM_ASKED = 32


def software_versions() -> dict[str, str]:
    """What runs the audit."""
    return {"python": platform.python_version(), **{name: version(name) for name in ("smdguard", "torch")}}


def describe_device(device: torch.device) -> str:
    """What an audit runs on, as far as its last digits depend on it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return device.type
    threads = counted(torch.get_num_threads(), "thread")
    return f"cpu with {torch.backends.cpu.get_cpu_capability()}, {threads}"


def fingerprint(
    models: Iterable[tuple[str, Model]],
    attacks: Iterable[Attack],
    images: Tensor,
    labels: Tensor,
    seed: int,
    batching: Batching,
) -> str:
    """A hash that changes with the models, the attacks' programs, the images, the seed, the software and the device.

    A model is known by its weights, if it has any, by its outputs on a few images, and by its gradients there unless
    these are others each time: the weights alone would not tell two programs apart. Where the outputs are others each
    time, so is the hash, and nothing stored is found again.
    """
    device = f"{images.device.type} {torch.get_num_threads()} {torch.get_num_interop_threads()}"
    digest = hashlib.sha256(f"{seed} {software_versions()} {device}".encode())
    # Between two versions the programs change under one number.
    for program in sorted({*Path(smdguard.__file__).parent.rglob("*.py"), *_programs(attacks)}):
        digest.update(program.read_bytes())
    for part in _content((images, labels)):
        digest.update(part)
    rows = evenly_spaced(len(images), NUM_ASKED, images.device)
    few, truth = images[rows], labels[rows]
    for name, model in models:
        digest.update(name.encode())
        values = model.state_dict().values() if isinstance(model, nn.Module) else ()
        weights = [value for value in values if isinstance(value, Tensor)]
        for part in _content((*weights, *_behaviour(model, few, truth, batching))):
            digest.update(part)
    return digest.hexdigest()


def _programs(attacks: Iterable[Attack]) -> Iterator[Path]:
    """The files that attacks are written in, where there are such."""
    for kind in {kind for attack in attacks for kind in type(attack).__mro__}:
        # Builtins have none, nor have the cells of a notebook.
        with suppress(TypeError, OSError):
            file = Path(inspect.getfile(kind))
            if file.is_file():
                yield file


def _behaviour(model: Model, images: Tensor, labels: Tensor, batching: Batching) -> Iterator[Tensor]:
    # In pieces, a model that gives no gradient has one of zeros.
    batched, differentiable = batching.wrap(model), has_gradients(model, images[:2])
    # What leaves clean images as they are, such as rounding to 8 bits, shows on others.
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(0), dtype=images.dtype).to(images.device)
    for shown in (images, (images + 0.2 * noise - 0.1).clamp(0, 1)):
        with torch.no_grad():
            yield batched(shown)
        if differentiable:
            first, second = (loss_gradient(batched, shown, labels) for _ in range(2))
            # Some kernels add up in another order each time, and what is stored would never be found again.
            if torch.equal(first, second):
                yield first


def _content(tensors: Iterable[Tensor]) -> Iterator[Any]:
    """Each tensor's shape and type, then its bytes, from where they lie if possible: a copy would be large."""
    for tensor in tensors:
        yield f"{tuple(tensor.shape)} {tensor.dtype}".encode()
        yield tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
