"""Where a training stands, in one safetensors file: tensors for the state, JSON in its header for the rest."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save

from smdguard.auditing.batching import is_out_of_memory
from smdguard.ensemble import Ensemble
from smdguard.errors import IntegrityError, InvalidInputError
from smdguard.files import read, write_atomically

FILE_NAME = "checkpoint.safetensors"


@dataclass(frozen=True)
class Progress:
    """How far a training is.

    Args:
        data: SHA-256 of the images and labels that it is on, in their order.
        commit: Of the code that it has run on throughout; None where that is not known, or was more than one.
        epochs: Metrics of the finished epochs.
        num_steps: Steps of the epoch after those that are done as well.
        sums: Sum of each term over these steps.
        seconds: How long they took.
        generators: States of the random generators after them; empty where an epoch is to begin.
    """

    data: str
    commit: str | None = None
    epochs: list[dict[str, Any]] = field(default_factory=list)
    num_steps: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    generators: tuple[torch.Tensor, ...] = ()


def save_checkpoint(folder: Path, ensemble: Ensemble, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """Write weights, optimiser state and progress, atomically."""
    tensors = {f"model.{name}": tensor for name, tensor in ensemble.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in state.items()}
    tensors |= {f"generator.{index}": state for index, state in enumerate(progress.generators)}
    contiguous = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    rest = {
        "data": progress.data,
        "commit": progress.commit,
        "epochs": progress.epochs,
        "num_steps": progress.num_steps,
        "sums": progress.sums,
        "seconds": progress.seconds,
    }
    header = {"progress": json.dumps(rest), "device": ensemble.mean.device.type}
    write_atomically(folder / FILE_NAME, save(contiguous, header))


def restore_checkpoint(
    folder: Path,
    ensemble: Ensemble,
    optimizer: torch.optim.Optimizer,
    data: str,
    commit: str | None = None,
) -> Progress:
    """Bring ensemble and optimiser to where the checkpoint left them; returns how far that is.

    An absent checkpoint is a training that has not begun; one that goes on under another commit is of none.

    Raises:
        IntegrityError: The checkpoint is not one of this training.
        InvalidInputError: It is of a training on other data, or was left within an epoch on another kind of device.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return Progress(data, commit)
    try:
        # Not load_file: a file that is mapped cannot be replaced on Windows.
        tensors, header = load(read(path)), _header(path)
        progress = Progress(**json.loads(header["progress"]), generators=tuple(_part("generator", tensors).values()))
        ensemble.load_state_dict(_part("model", tensors))
        _restore_optimizer(optimizer, _part("optimizer", tensors))
        device, made_on = ensemble.mean.device.type, header["device"]
    except (SafetensorError, ValueError, LookupError, TypeError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise IntegrityError(
            f"{path} is not a checkpoint of this training: {error}; remove it to start anew"
        ) from error
    if progress.data != data:
        raise InvalidInputError(
            f"{path} was trained on other images or in another order, so it may have seen images held out here; "
            "continue with the same --data-root, or train anew in another folder"
        )
    if progress.generators and made_on != device:
        raise InvalidInputError(
            f"{path} was left within an epoch on {made_on}, whose random numbers {device} does not have; go on "
            f"with --device {made_on}"
        )
    return progress if progress.commit == commit else replace(progress, commit=None)


def _restore_optimizer(optimizer: torch.optim.Optimizer, kept: dict[str, torch.Tensor]) -> None:
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in kept.items():
        index, key = name.split(".")
        weight = weights[int(index)]
        tensor = tensor.to(weight.device)
        # The fused optimiser goes through memory as it lies, so the state has to lie as the weight does.
        laid_out = torch.empty_like(weight).copy_(tensor) if tensor.shape == weight.shape else tensor
        state.setdefault(int(index), {})[key] = laid_out.detach()
    if state and len(state) != len(weights):
        raise ValueError(f"it holds the optimiser's state for {len(state)} of {len(weights)} weights")
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def what_is_kept(folder: Path) -> str:
    """Which checkpoint there is, for the message of a training that stops."""
    path = folder / FILE_NAME
    if not path.exists():
        return "there is no checkpoint yet"
    progress = json.loads(_header(path)["progress"])
    num_epochs, num_steps = len(progress["epochs"]), progress["num_steps"]
    where = f"step {num_steps} of epoch {num_epochs + 1}" if num_steps else f"epoch {num_epochs}"
    return f"the checkpoint after {where} is kept"


def _header(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def _part(name: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors whose names begin with that name and a point, without it, in the order of the rest of their names."""
    prefix = f"{name}."
    return {key.removeprefix(prefix): tensors[key] for key in sorted(tensors) if key.startswith(prefix)}
