"""Runs as a sweep leaves them, with accuracies that a test chooses."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smdguard import render
from smdguard.datasets import find_dataset
from smdguard.files import write_atomically
from smdguard.manifest import Architecture, Input, ModelConfig, Objective, Training, serialise
from smdguard.model_folder import AUDIT, CONFIG
from smdguard.report import AttackResult, AuditReport, CurvePoint, Interval, RobustAccuracy, TransferMatrix
from smdguard.threat import ThreatModel
from training.paper import ATTACKS, RADII
from training.recipes import Recipe, recipe_for
from training.results import FinishedRun


def finished_run(
    name: str,
    *,
    clean: float = 0.99,
    white: Mapping[str, float] = {},
    black: Mapping[str, float] = {},
    worst: float = 0.0,
    transfer: tuple[tuple[float, ...], ...] | None = None,
    num_images: int = 1000,
    **changes: Any,
) -> FinishedRun:
    """A run whose attacks leave standing what is given, linearly less from the clean accuracy on to the largest radius.

    Args:
        name: Name of the recipe.
        clean: Clean accuracy.
        white: For an attack, or for all others under "*", the accuracy white-box at epsilon 0.3.
        black: For a surrogate the accuracy of every attack from it at epsilon 0.3.
        worst: Worst case at epsilon 0.3.
        transfer: Between the members, by PGD and by MIM.
        num_images: How many were attacked.
        changes: Of the recipe.
    """
    recipe = recipe_for(name, **changes)
    sources = {recipe.name: white, **{source: {"*": accuracy} for source, accuracy in black.items()}}
    report = AuditReport(
        model=recipe.name,
        dataset=recipe.dataset,
        num_images=num_images,
        threat=ThreatModel("linf", RADII[-1]),
        clean_accuracy=_interval(clean),
        attacks=tuple(
            AttackResult(
                name=attack,
                repr=f"{attack}()",
                access="white-box" if source == recipe.name else "black-box",
                source=source,
                epsilon=radius,
                num_attacked=num_images,
                robust_accuracy=_interval(_between(clean, left.get(attack, left.get("*", 0.0)), radius)),
            )
            for source, left in sources.items()
            for radius in RADII
            for attack in ATTACKS.values()
        ),
        worst_case=RobustAccuracy(_interval(worst)),
        curve=tuple(CurvePoint(radius, _interval(_between(clean, worst, radius))) for radius in RADII),
        transfer=None if transfer is None else TransferMatrix(transfer, RADII[-1], "PGD()", "PGD"),
        findings=(),
        verdict="fragile",
        verdict_reason="it is made up",
        preset="paper",
        versions={},
        seed=0,
        seconds=1.0,
        further_transfers=() if transfer is None else (TransferMatrix(transfer, RADII[-1], "MIM()", "MIM"),),
    )
    return FinishedRun(recipe, config_of(recipe, clean), report)


def config_of(recipe: Recipe, clean: float = 0.99) -> ModelConfig:
    dataset = find_dataset(recipe.dataset)
    channels, height, width = dataset.image_shape
    shared = Training.model_fields.keys() & Recipe.model_fields.keys()
    return ModelConfig(
        name=recipe.name,
        architecture=Architecture(
            name=recipe.architecture,
            num_members=recipe.num_members,
            num_classes=10,
            negative_slope=recipe.negative_slope,
        ),
        input=Input(channels=channels, height=height, width=width, mean=dataset.mean, std=dataset.std),  # type: ignore[arg-type]
        labels=dataset.labels,
        objective=Objective(name=recipe.method, parameters=recipe.parameters),
        training=Training(**recipe.model_dump(include=set(shared))),
        suspicion=None,
        clean_accuracy=clean,
        files={},
    )


def write_run(run: FinishedRun, folder: Path) -> None:
    """Leave the run in a sweep's folder."""
    here = folder / run.recipe.name
    write_atomically(here / "recipe.json", serialise(run.recipe))
    write_atomically(here / CONFIG, serialise(run.config))
    write_atomically(here / AUDIT, render.json(run.report).encode())


def _between(clean: float, last: float, radius: float) -> float:
    return clean + (last - clean) * radius / RADII[-1]


def _interval(value: float) -> Interval:
    return Interval(value, value, value)
