"""The one training loop: any objective, resumable after any interruption, ending in a model folder."""

import json
import math
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy
import torch
from safetensors.torch import save

from smdguard.backends.torch import build_ensemble
from smdguard.datasets import LabelledImages, find_dataset
from smdguard.ensemble import Ensemble
from smdguard.errors import InvalidInputError, SmdguardError
from smdguard.files import sha256, write_atomically
from smdguard.hub import CONFIG, WEIGHTS
from smdguard.manifest import Architecture, File, Input, ModelConfig, Objective, Suspicion, Training, parse, serialise
from smdguard.scores import average_log_probabilities, disagreement
from training import checkpoint
from training.batch import Batch
from training.data import TrainingData, batches
from training.origins import load_origin
from training.recipes import SCRATCH, Recipe

SUSPICION_QUANTILE = 0.99
_STEPS_BETWEEN_REPORTS = 20

Report = Callable[[int, int, int, dict[str, float]], None]
"""Called now and then with the epoch, the step in it, the steps of an epoch, and the terms' means so far."""


class TrainingDivergedError(SmdguardError):
    """A term of the loss became infinite or not a number."""


def train(
    recipe: Recipe,
    data: TrainingData,
    folder: Path,
    *,
    device: torch.device,
    report: Report = lambda *_: None,
    origins: Mapping[str, Path] = MappingProxyType({}),
) -> ModelConfig:
    """Train an ensemble, from the folder's checkpoint where there is one, and leave it there as a model.

    Every draw of an epoch comes from a generator seeded by (seed, epoch), so a resumed training needs no state but
    weights and optimiser and ends, on one CPU, with the same weights bit for bit.

    Args:
        recipe: What to train and how.
        data: What to train on.
        folder: Gets recipe.json, checkpoint.safetensors after each epoch, metrics.jsonl, and at the end
            model.safetensors and config.json.
        device: Where to train.
        report: Hears of the progress.
        origins: Folders of the trained ensembles that the recipe's `init` and `holdouts` name.

    Returns:
        What config.json says. A finished training is left as it is.

    Raises:
        InvalidInputError: The folder belongs to another recipe, or an origin does not fit.
        TrainingDivergedError: The loss is not finite; the last checkpoint is kept.
    """
    _claim(folder, recipe)
    config_file = folder / CONFIG
    if config_file.exists():
        return parse(ModelConfig, config_file.read_bytes(), str(config_file))
    architecture, image_input = _model_of(recipe)
    ensemble = _start(recipe, architecture, image_input, origins).to(device)
    holdouts = [load_origin(origins[name], architecture, image_input).to(device) for name in recipe.holdouts]
    optimizer = torch.optim.Adam(
        ensemble.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    data = TrainingData(*(LabelledImages(part.images.to(device), part.labels.to(device)) for part in data))
    epochs = checkpoint.restore_checkpoint(folder, ensemble, optimizer, device)
    for epoch in range(len(epochs), recipe.num_epochs):
        started = time.monotonic()
        terms = _train_one_epoch(recipe, ensemble, holdouts, optimizer, data.train, epoch, report)
        accuracy = clean_accuracy(ensemble, data.test)
        seconds = round(time.monotonic() - started, 2)
        epochs.append({"epoch": epoch + 1, "seconds": seconds, **terms, "clean_accuracy": accuracy})
        checkpoint.save_checkpoint(folder, ensemble, optimizer, epochs)
        _write_metrics(folder, epochs)
    _write_metrics(folder, epochs)
    weights = save({name: tensor.cpu().contiguous() for name, tensor in ensemble.state_dict().items()})
    write_atomically(folder / WEIGHTS, weights)
    config = ModelConfig(
        name=recipe.name,
        architecture=architecture,
        input=image_input,
        labels=find_dataset(recipe.dataset).labels,
        objective=_objective_of(recipe),
        training=_training_of(recipe),
        suspicion=_calibrate(ensemble, data) if recipe.num_calibration_images else None,
        clean_accuracy=clean_accuracy(ensemble, data.test),
        files={WEIGHTS: File(sha256=sha256(weights), num_bytes=len(weights))},
    )
    write_atomically(config_file, serialise(config))
    (folder / checkpoint.FILE_NAME).unlink(missing_ok=True)
    return config


def clean_accuracy(ensemble: Ensemble, data: LabelledImages) -> float:
    """Share of the images whose most probable class is the true one, in evaluation mode."""
    decisions = average_log_probabilities(_member_log_probabilities(ensemble, data)).argmax(dim=-1)
    return (decisions == data.labels).double().mean().item()


def _train_one_epoch(
    recipe: Recipe,
    ensemble: Ensemble,
    holdouts: Sequence[Ensemble],
    optimizer: torch.optim.Optimizer,
    data: LabelledImages,
    epoch: int,
    report: Report,
) -> dict[str, float]:
    """One pass over the data; returns each term's mean over the steps."""
    objective = recipe.build_objective()
    order, second_order, draws, epoch_seed = _seeds_of_epoch(recipe.seed, epoch)
    generator = torch.Generator(data.images.device).manual_seed(draws)
    one_pass = partial(batches, data, recipe.batch_size, augmentation=recipe.augmentation)
    second_pass = one_pass(torch.Generator().manual_seed(second_order))
    num_steps = max(1, len(data.images) // recipe.batch_size)
    sums: dict[str, torch.Tensor] = {}
    means: dict[str, float] = {}
    weights = list(ensemble.parameters())
    ensemble.train()
    for step, (images, labels) in enumerate(one_pass(torch.Generator().manual_seed(order))):
        num_done, num_all = epoch * num_steps + step, recipe.num_epochs * num_steps
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate_at((num_done + 1) / (num_all + 1))
        batch = Batch(
            ensemble=ensemble,
            images=images,
            labels=labels,
            progress=num_done / num_all,
            epoch_seed=epoch_seed,
            generator=generator,
            second_pass=second_pass,
            holdouts=holdouts,
        )
        terms = objective(batch)
        optimizer.zero_grad()
        # Naming the weights keeps the pass from also computing the images' gradients.
        torch.stack(list(terms.values())).sum().backward(inputs=weights)
        optimizer.step()
        for name, term in terms.items():
            sums[name] = sums.get(name, 0) + term.detach()
        if step % _STEPS_BETWEEN_REPORTS == 0 or step == num_steps - 1:
            means = {name: (total / (step + 1)).item() for name, total in sums.items()}
            _require_finite(means, epoch, step)
            report(epoch, step + 1, num_steps, means)
    return means


def _require_finite(means: dict[str, float], epoch: int, step: int) -> None:
    for name, value in means.items():
        if not math.isfinite(value):
            raise TrainingDivergedError(
                f"the term {name} became {value} in epoch {epoch + 1} at or shortly before step {step + 1}; "
                f"the checkpoint after epoch {epoch} is kept. Try a smaller learning rate"
            )


def _seeds_of_epoch(seed: int, epoch: int) -> list[int]:
    """Four independent random numbers of an epoch, each below 2^63."""
    return [int(word >> 1) for word in numpy.random.SeedSequence([seed, epoch]).generate_state(4, numpy.uint64)]


def _member_log_probabilities(ensemble: Ensemble, data: LabelledImages) -> torch.Tensor:
    ensemble.eval()
    with torch.inference_mode():
        return torch.cat([ensemble.member_log_probabilities(rows.float() / 255) for rows in data.images.split(1000)])


def _calibrate(ensemble: Ensemble, data: TrainingData) -> Suspicion:
    """The threshold that all but 1 % of the held-out images stay under, and the share of test images above it."""
    held_out = disagreement(_member_log_probabilities(ensemble, data.calibration)).double()
    threshold = max(0.0, torch.quantile(held_out, SUSPICION_QUANTILE).item())
    of_test = disagreement(_member_log_probabilities(ensemble, data.test)).double()
    return Suspicion(
        threshold=threshold,
        quantile=SUSPICION_QUANTILE,
        num_images=len(held_out),
        test_rate=(of_test > threshold).double().mean().item(),
    )


def _claim(folder: Path, recipe: Recipe) -> None:
    """Write the folder's recipe, or make sure that it is this one."""
    path = folder / "recipe.json"
    if path.exists():
        before = parse(Recipe, path.read_bytes(), str(path)).model_dump()
        now = recipe.model_dump()
        changed = [f"{key} {before[key]} -> {now[key]}" for key in now if before[key] != now[key]]
        if changed:
            raise InvalidInputError(f"{folder} holds a training of another recipe: {', '.join(changed)}")
    else:
        write_atomically(path, serialise(recipe))


def _model_of(recipe: Recipe) -> tuple[Architecture, Input]:
    """The members, and the images that they take."""
    dataset = find_dataset(recipe.dataset)
    architecture = Architecture(
        name=recipe.architecture,
        num_members=recipe.num_members,
        num_classes=len(dataset.labels),
        negative_slope=recipe.negative_slope,
    )
    shape = dict(zip(("channels", "height", "width"), dataset.image_shape, strict=True))
    return architecture, Input.model_validate({**shape, "mean": dataset.mean, "std": dataset.std})


def _start(recipe: Recipe, architecture: Architecture, image_input: Input, origins: Mapping[str, Path]) -> Ensemble:
    """The ensemble before the first step."""
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        ensemble = build_ensemble(architecture, image_input)
    if recipe.init != SCRATCH:
        ensemble.load_state_dict(load_origin(origins[recipe.init], architecture, image_input).state_dict())
    return ensemble


def _objective_of(recipe: Recipe) -> Objective:
    """Every parameter of the loss, and the ensembles that the training built on."""
    init: dict[str, Any] = {} if recipe.init == SCRATCH else {"init": recipe.init}
    holdouts: dict[str, Any] = {"holdouts": " ".join(recipe.holdouts)} if recipe.holdouts else {}
    return Objective(
        name=recipe.method,
        parameters=recipe.parameters | init,
        adversarial_training=recipe.adversary
        and {"adversary": recipe.adversary, **recipe.adversary_parameters, **holdouts},
    )


def _training_of(recipe: Recipe) -> Training:
    shared = Training.model_fields.keys() & Recipe.model_fields.keys()
    return Training(**recipe.model_dump(include=set(shared)), commit=_commit())


def _write_metrics(folder: Path, epochs: list[dict[str, Any]]) -> None:
    write_atomically(folder / "metrics.jsonl", "".join(json.dumps(epoch) + "\n" for epoch in epochs).encode())


def _commit() -> str | None:
    """The commit of the checkout that this code runs from, if it runs from one."""
    here = Path(__file__).parent
    answer = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None
