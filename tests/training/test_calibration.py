"""The suspicion score: what its threshold promises, and from how many images on."""

from pathlib import Path

import pytest
import torch

from smdguard.datasets import LabelledImages
from smdguard.ensemble import Ensemble
from smdguard.manifest import ModelConfig, Suspicion, parse
from smdguard.model_folder import CONFIG
from smdguard.scores import disagreement
from training.calibration import MIN_CALIBRATION_IMAGES, conformal_threshold
from training.data import TrainingData
from training.evaluation import member_log_probabilities
from training.finish import write_model
from training.recipes import recipe_for


@pytest.mark.parametrize(("count", "rank"), [(99, 99), (100, 100), (198, 198), (199, 198), (699, 693), (5000, 4951)])
def test_the_threshold_is_the_score_of_the_conservative_rank(count: int, rank: int) -> None:
    scores = 1.0 + torch.randperm(count, generator=torch.Generator().manual_seed(0)).double()
    assert conformal_threshold(scores) == rank


@pytest.mark.parametrize("count", [99, 150, 199, 250, 400])
def test_at_most_one_in_a_hundred_is_flagged_whichever_image_is_the_new_one(count: int) -> None:
    """Exact for distinct scores: each of n + 1 is equally likely to be the new one, and the largest 1 % are flagged."""
    scores = torch.rand(count + 1, generator=torch.Generator().manual_seed(count), dtype=torch.double)
    others = ~torch.eye(count + 1, dtype=torch.bool)
    flagged = sum(scores[index].item() > conformal_threshold(scores[others[index]]) for index in range(count + 1))
    assert flagged == (count + 1) // 100


def test_fewer_images_promise_nothing() -> None:
    """Of one image fewer, the score of the rank that it takes is not there."""
    scores = torch.rand(MIN_CALIBRATION_IMAGES, generator=torch.Generator().manual_seed(0))
    assert conformal_threshold(scores) == scores.max().item()
    with pytest.raises(RuntimeError, match="out of range"):
        conformal_threshold(scores[1:])


def written_suspicion(folder: Path, ensemble: Ensemble, data: TrainingData, count: int) -> Suspicion | None:
    images, labels = data.calibration
    data = data._replace(calibration=LabelledImages(images[:count], labels[:count]))
    write_model(folder, recipe_for("naive-lenet-mnist", num_calibration_images=count), ensemble, data)
    return parse(ModelConfig, (folder / CONFIG).read_bytes(), CONFIG).suspicion


def test_the_folder_has_the_threshold_and_the_rate_of_the_test_split(
    tmp_path: Path, tiny_ensemble: Ensemble, data: TrainingData
) -> None:
    suspicion = written_suspicion(tmp_path, tiny_ensemble, data, 99)
    assert suspicion is not None
    calibration, test = (disagreement(member_log_probabilities(tiny_ensemble, part)).double() for part in data[1:])
    assert (suspicion.threshold, suspicion.quantile, suspicion.num_images) == (calibration.max().item(), 0.99, 99)
    assert suspicion.test_rate == (test > calibration.max()).double().mean().item()


@pytest.mark.parametrize("count", [0, 3, 98])
def test_too_few_images_leave_the_folder_without_a_threshold(
    count: int, tmp_path: Path, tiny_ensemble: Ensemble, data: TrainingData
) -> None:
    assert written_suspicion(tmp_path, tiny_ensemble, data, count) is None
