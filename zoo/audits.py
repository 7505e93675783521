"""Audits of the zoo's models, each on the bundled test images of its data set, and what they take as surrogates."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

from smdguard.auditing import PresetName
from smdguard.auditing.partial_results import PartialResults
from smdguard.catalogue import read_manifest, read_test_subset
from smdguard.datasets import balanced_subset, find_dataset, parse_subset
from smdguard.manifest import ModelConfig
from smdguard.report import AuditReport
from training.audits import audit_folder
from training.finish import recipe_of
from training.paper import surrogate_names


def audit_zoo_model(
    folder: Path,
    config: ModelConfig,
    preset: PresetName,
    *,
    epsilon: float | None = None,
    radii: Sequence[float] = (),
    surrogates: Iterable[str] = (),
    num_images: int | None = None,
    store: PartialResults | None = None,
) -> AuditReport:
    """Audit a model of the zoo; without the report's exhibits, whose images would make up most of a file.

    Args:
        folder: The model's files.
        config: What they are.
        preset: Which attacks.
        epsilon: Radius in the L-infinity norm; None for the data set's.
        radii: Smaller ones to attack at as well.
        surrogates: Names of models of the zoo to make black-box attacks on.
        num_images: How many, evenly over the classes; None for all.
        store: Where finished work is kept, for an audit that is cut off to go on from.
    """
    dataset = find_dataset(config.training.dataset)
    data = parse_subset(read_test_subset(dataset.name))
    if num_images is not None:
        data = balanced_subset(data, num_images)
    report = audit_folder(
        folder,
        data,
        preset,
        epsilon=dataset.epsilon if epsilon is None else epsilon,
        radii=radii,
        surrogates={name: name for name in surrogates},
        device="cpu",
        store=store,
    )
    return dataclasses.replace(report, exhibits=None)


def known_surrogates(config: ModelConfig) -> list[str]:
    """The models of the zoo that the paper's black-box attacks on a model of the zoo are made on."""
    known = {entry.name for entry in read_manifest().models}
    return sorted(known.intersection(surrogate_names(recipe_of(config))))
