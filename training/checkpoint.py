"""Where a training stands, in one safetensors file: tensors for the state, JSON in its header for the rest."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from smdguard.ensemble import Ensemble
from smdguard.errors import IntegrityError
from smdguard.files import write_atomically

FILE_NAME = "checkpoint.safetensors"


def save_checkpoint(
    folder: Path, ensemble: Ensemble, optimizer: torch.optim.Optimizer, epochs: list[dict[str, Any]]
) -> None:
    """Write weights, optimiser state and the finished epochs' metrics, atomically."""
    tensors = {f"model.{name}": tensor for name, tensor in ensemble.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in state.items()}
    contiguous = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(folder / FILE_NAME, save(contiguous, {"epochs": json.dumps(epochs)}))


def restore_checkpoint(
    folder: Path, ensemble: Ensemble, optimizer: torch.optim.Optimizer, device: torch.device
) -> list[dict[str, Any]]:
    """Bring ensemble and optimiser to where the checkpoint left them; returns the finished epochs' metrics.

    An absent checkpoint is a training that has finished no epoch.

    Raises:
        IntegrityError: The checkpoint is not one of this training.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return []
    content = path.read_bytes()
    try:
        tensors = {name: tensor.to(device) for name, tensor in load(content).items()}
        header_length = int.from_bytes(content[:8], "little")
        epochs = json.loads(json.loads(content[8 : 8 + header_length])["__metadata__"]["epochs"])
        ensemble.load_state_dict(
            {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}
        )
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise IntegrityError(
            f"{path} is not a checkpoint of this training: {error}; remove it to start anew"
        ) from error
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".")
            weight = weights[int(index)]
            # The fused optimiser goes through memory as it lies, so the state has to lie as the weight does.
            laid_out = torch.empty_like(weight).copy_(tensor) if tensor.shape == weight.shape else tensor
            state.setdefault(int(index), {})[key] = laid_out.detach()
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return epochs
