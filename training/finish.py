"""What a training ends with: the model folder."""

import math
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from smdguard.ensemble import Ensemble
from smdguard.files import sha256, write_atomically
from smdguard.manifest import File, ModelConfig, Objective, Suspicion, Training, serialise
from smdguard.model_folder import CONFIG, WEIGHTS
from smdguard.scores import disagreement
from training.data import TrainingData
from training.evaluation import clean_accuracy, member_log_probabilities
from training.recipes import SCRATCH, Recipe
from training.start import model_of

# Exact, so that no rank is rounded up for its last bit.
SUSPICION_QUANTILE = Fraction(99, 100)
# With n fewer, even the largest of their scores is exceeded with a probability of 1 / (n + 1), which is above 1 %.
MIN_CALIBRATION_IMAGES = 99


def write_model(
    folder: Path, recipe: Recipe, ensemble: Ensemble, data: TrainingData, commit: str | None = None
) -> None:
    """Write the trained ensemble's weights, and then config.json, which makes the folder a model.

    Args:
        folder: Gets them.
        recipe: How it was trained.
        ensemble: What was trained.
        data: On what, and what it is calibrated and tested on.
        commit: Of the code that trained it, if that is known and one; see checkout_commit.
    """
    weights = save({name: tensor.cpu().contiguous() for name, tensor in ensemble.state_dict().items()})
    write_atomically(folder / WEIGHTS, weights)
    architecture, image_input = model_of(recipe)
    config = ModelConfig(
        name=recipe.name,
        architecture=architecture,
        input=image_input,
        labels=recipe.dataset_description.labels,
        objective=_objective_of(recipe),
        training=_training_of(recipe, commit),
        suspicion=_calibrate(ensemble, data),
        clean_accuracy=clean_accuracy(ensemble, data.test),
        files={WEIGHTS: File(sha256=sha256(weights), num_bytes=len(weights))},
    )
    write_atomically(folder / CONFIG, serialise(config))


def recipe_of(config: ModelConfig) -> Recipe:
    """How the model was trained on a known data set, as its config.json says: what write_model wrote it from."""
    parameters, adversary = dict(config.objective.parameters), dict(config.objective.adversarial_training or {})
    return Recipe(
        method=config.objective.name,
        init=str(parameters.pop("init", SCRATCH)),
        parameters=parameters,
        adversary=adversary.pop("adversary", None),
        holdouts=tuple(str(adversary.pop("holdouts", "")).split()),
        adversary_parameters=adversary,
        architecture=config.architecture.name,
        negative_slope=config.architecture.negative_slope,
        num_members=config.architecture.num_members,
        **config.training.model_dump(exclude={"commit"}),
    )


def conformal_threshold(scores: Tensor) -> float:
    """What the score of one more image exceeds with a probability of at most 1 %.

    The ceil(0.99 (n + 1))-th smallest of the n scores, given that all n + 1 images are of one kind (exchangeable).

    Args:
        scores: Of held-out clean images (N,), at least MIN_CALIBRATION_IMAGES.

    Reference:
        Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005; Angelopoulos and Bates, "A Gentle
        Introduction to Conformal Prediction and Distribution-Free Uncertainty Quantification", 2021, section 1.
    """
    return scores.kthvalue(math.ceil(SUSPICION_QUANTILE * (len(scores) + 1))).values.item()


def _calibrate(ensemble: Ensemble, data: TrainingData) -> Suspicion | None:
    """The threshold, and the share of test images above it; None where too few images were held out for one."""
    if len(data.calibration.images) < MIN_CALIBRATION_IMAGES:
        return None
    held_out = disagreement(member_log_probabilities(ensemble, data.calibration)).double()
    # Rounding takes the disagreement of equal members a little below zero.
    threshold = max(0.0, conformal_threshold(held_out))
    of_test = disagreement(member_log_probabilities(ensemble, data.test)).double()
    return Suspicion(
        threshold=threshold,
        quantile=float(SUSPICION_QUANTILE),
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


def _training_of(recipe: Recipe, commit: str | None) -> Training:
    shared = Training.model_fields.keys() & Recipe.model_fields.keys()
    return Training(**recipe.model_dump(include=set(shared)), commit=commit)


def checkout_commit() -> str | None:
    """The commit that this code is of; None where it runs from no checkout, or from one with changes."""
    try:
        changes, commit = (_git(*words) for words in (("status", "--porcelain"), ("rev-parse", "HEAD")))
    except (OSError, subprocess.CalledProcessError):  # There is no git, or no checkout.
        return None
    return None if changes else commit


def _git(*words: str) -> str:
    here = Path(__file__).parent
    return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()
