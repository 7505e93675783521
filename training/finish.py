"""What a training ends with: the model folder."""

import subprocess
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from smdguard.ensemble import Ensemble
from smdguard.files import sha256, write_atomically
from smdguard.hub import CONFIG, WEIGHTS
from smdguard.manifest import File, ModelConfig, Objective, Suspicion, Training, serialise
from smdguard.scores import disagreement
from training.data import TrainingData
from training.evaluation import clean_accuracy, member_log_probabilities
from training.recipes import SCRATCH, Recipe
from training.start import model_of

SUSPICION_QUANTILE = 0.99


def write_model(folder: Path, recipe: Recipe, ensemble: Ensemble, data: TrainingData) -> None:
    """Write the trained ensemble's weights, and then config.json, which makes the folder a model."""
    weights = save({name: tensor.cpu().contiguous() for name, tensor in ensemble.state_dict().items()})
    write_atomically(folder / WEIGHTS, weights)
    architecture, image_input = model_of(recipe)
    config = ModelConfig(
        name=recipe.name,
        architecture=architecture,
        input=image_input,
        labels=recipe.dataset_description.labels,
        objective=_objective_of(recipe),
        training=_training_of(recipe),
        suspicion=_calibrate(ensemble, data) if recipe.num_calibration_images else None,
        clean_accuracy=clean_accuracy(ensemble, data.test),
        files={WEIGHTS: File(sha256=sha256(weights), num_bytes=len(weights))},
    )
    write_atomically(folder / CONFIG, serialise(config))


def _calibrate(ensemble: Ensemble, data: TrainingData) -> Suspicion:
    """The threshold that all but 1 % of the held-out images stay under, and the share of test images above it."""
    held_out = disagreement(member_log_probabilities(ensemble, data.calibration)).double()
    threshold = max(0.0, torch.quantile(held_out, SUSPICION_QUANTILE).item())
    of_test = disagreement(member_log_probabilities(ensemble, data.test)).double()
    return Suspicion(
        threshold=threshold,
        quantile=SUSPICION_QUANTILE,
        num_images=len(held_out),
        test_rate=(of_test > threshold).double().mean().item(),
    )


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


def _commit() -> str | None:
    """The commit of the checkout that this code runs from, if it runs from one."""
    here = Path(__file__).parent
    answer = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None
