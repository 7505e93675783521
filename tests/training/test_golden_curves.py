"""Thirty steps of every method against recorded losses: a change that alters a training is noticed.

After a deliberate change, record a method's curves anew and look at what has changed in tests/golden/loss_curves.json:

    RECORD_LOSS_CURVES=1 python -m pytest "tests/training/test_golden_curves.py::test_loss_curves[smd]"
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from smdguard.datasets import LabelledImages
from training.data import TrainingData
from training.loop import train
from training.objectives import OBJECTIVES
from training.recipes import SCRATCH, recipe_for

GOLDEN = Path(__file__).parents[1] / "golden" / "loss_curves.json"
RECORD = "RECORD_LOSS_CURVES"
Curves = dict[str, list[float]]
# Of two members and three of the ten steps of distillation, to save time.
CRAFTED: dict[str, Any] = {"num_members": 2, "parameters": {"num_steps": 3}}


@pytest.fixture(scope="module")
def one_batch(data: TrainingData) -> TrainingData:
    """So few images that an epoch is one step; a bright bar shows each one's class, so that there is much to learn."""
    images, labels = data.train.images[:16] // 4, data.train.labels[:16]
    for image, label in zip(images, labels.tolist(), strict=True):
        image[0, 2 * label : 2 * label + 4, :14] = 255
    return TrainingData(LabelledImages(images, labels), data.calibration, data.test)


def recorded(method: str, curves: Curves, file: Path) -> Curves:
    """The method's curves in that file; where recording is asked for, those given are written there first."""
    golden = json.loads(file.read_text()) if file.exists() else {}
    if os.environ.get(RECORD):
        golden[method] = curves
        file.write_text(json.dumps(golden) + "\n")
    if method not in golden:
        pytest.fail(f"{file.name} has no curves of {method}; record them with {RECORD}=1")
    return golden[method]


def test_curves_are_recorded_only_where_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "curves.json"
    monkeypatch.delenv(RECORD, raising=False)
    with pytest.raises(pytest.fail.Exception, match=f"has no curves of smd; record them with {RECORD}=1"):
        recorded("smd", {"loss": [1.0]}, file)
    assert not file.exists()
    monkeypatch.setenv(RECORD, "1")
    assert recorded("smd", {"loss": [1.0]}, file) == {"loss": [1.0]}
    monkeypatch.delenv(RECORD)
    assert recorded("smd", {"loss": [2.0]}, file) == {"loss": [1.0]}


@pytest.mark.parametrize("method", OBJECTIVES)
def test_loss_curves(method: str, one_batch: TrainingData, tmp_path: Path) -> None:
    crafts = method in ("dverge", "smd-plus")
    short = {"init": SCRATCH, "num_epochs": 30, "batch_size": 16, "num_calibration_images": 0}
    recipe = recipe_for(f"{method}-lenet-mnist", **short, **(CRAFTED if crafts else {}))
    train(recipe, one_batch, tmp_path, device=torch.device("cpu"))
    steps = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    terms = [term for term in steps[0] if term not in ("epoch", "seconds", "clean_accuracy")]
    curves = {term: [float(f"{step[term]:.7g}") for step in steps] for term in terms}
    golden = recorded(method, curves, GOLDEN)
    # Other processors and libraries round differently. Rectifiers, poolings and signs turn a rounding into a step of a
    # saliency's or a distilled image's; from there on those methods have a wider path.
    assert curves.keys() == golden.keys()
    smooth, exact = method in ("naive", "adp"), 1 if crafts else 2
    for term, curve in golden.items():
        assert curves[term][:exact] == pytest.approx(curve[:exact], rel=1e-3, abs=1e-4), term
        assert curves[term] == pytest.approx(curve, rel=1e-3 if smooth else 2e-2, abs=1e-4 if smooth else 5e-2), term
    assert sum(curve[-1] for curve in curves.values()) < sum(curve[0] for curve in curves.values())
