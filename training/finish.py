"""What a training ends with: the model folder."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors.torch import save

from smdguard.ensemble import Ensemble
from smdguard.errors import IntegrityError
from smdguard.files import sha256, write_atomically
from smdguard.manifest import File, ModelConfig, Objective, Training, first_fault, serialise
from smdguard.model_folder import CONFIG, WEIGHTS
from training.calibration import calibrate
from training.data import TrainingData
from training.evaluation import member_log_probabilities, share_right
from training.recipes import SCRATCH, Recipe
from training.start import model_of


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
    of_test = member_log_probabilities(ensemble, data.test)
    config = ModelConfig(
        name=recipe.name,
        architecture=architecture,
        input=image_input,
        labels=recipe.dataset_description.labels,
        objective=_objective_of(recipe),
        training=_training_of(recipe, commit),
        suspicion=calibrate(ensemble, data.calibration, of_test),
        clean_accuracy=share_right(of_test, data.test.labels),
        files={WEIGHTS: File(sha256=sha256(weights), num_bytes=len(weights))},
    )
    write_atomically(folder / CONFIG, serialise(config))


def recipe_of(config: ModelConfig) -> Recipe:
    """How the model was trained on a known data set, as its config.json says: what write_model wrote it from.

    Raises:
        IntegrityError: No recipe is as it says; a configuration may hold more than a recipe does.
    """
    parameters, adversary = dict(config.objective.parameters), dict(config.objective.adversarial_training or {})
    settings = {
        "method": config.objective.name,
        "init": str(parameters.pop("init", SCRATCH)),
        "parameters": parameters,
        "adversary": adversary.pop("adversary", None),
        "holdouts": tuple(str(adversary.pop("holdouts", "")).split()),
        "adversary_parameters": adversary,
        "architecture": config.architecture.name,
        "negative_slope": config.architecture.negative_slope,
        "num_members": config.architecture.num_members,
        **config.training.model_dump(exclude={"commit"}),
    }
    try:
        return Recipe.model_validate(settings)
    except ValidationError as error:
        raise IntegrityError(
            f"{config.name} was trained as no recipe says: {first_fault(error)}; choose a model that "
            "`python -m training` wrote"
        ) from error


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
