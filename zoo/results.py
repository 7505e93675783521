"""RESULTS.md: the paper's results beside those of the zoo's models, from audits that are kept for it alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smdguard import render
from smdguard.auditing import PresetName
from smdguard.auditing.partial_results import PartialResults
from smdguard.catalogue import read_manifest
from smdguard.datasets import find_dataset
from smdguard.files import write_atomically, zoo_folder
from smdguard.hub import find_model
from smdguard.model_folder import WEIGHTS, ModelFolder
from smdguard.report import AuditReport, CurvePoint
from training.audits import PARTIAL
from training.paper import EPSILON, RADII, surrogate_names
from training.results import WORST_CASE, FinishedRun
from training.tables import markdown
from zoo.audits import audit_zoo_model
from zoo.preview import recipe_of

FILE = "RESULTS.md"
_PRESETS: tuple[PresetName, ...] = ("paper", "full")
_INTRODUCTION = """\
<!-- Written by `python -m zoo results` from the audits in zoo/results, which `python -m zoo measure` makes. -->

"""
_STRONGER = """\
## The same models under stronger attacks

Accuracy in percent, at the paper's radius and at that which the field uses for the data set. PGD is the paper's,
white-box. Its five attacks together are those made on the model itself, on its surrogates and on single members; the
preset `full` is AutoAttack's standard set and more. The last two count an image as standing only if it withstood every
attack up to that radius. Where PGD stands far above them, it tells how well an ensemble hides its gradients, and not
how robust it is.

| model | epsilon | clean | PGD | the five together | preset `full` | verdict |
| --- | ---: | ---: | ---: | ---: | ---: | --- |
"""
_TRANSFER = """\
## How attacks transfer between the members

Accuracy in percent of the member of each column on images that the paper's PGD made on the member of each row alone, at
epsilon 0.3.
"""


@dataclass(frozen=True)
class Measured:
    """A model of the zoo with its audits for RESULTS.md: one of the preset paper, one of the preset full."""

    run: FinishedRun
    full: AuditReport


def measure_model(name: str) -> None:
    """Audit a model of the zoo for RESULTS.md, from where that was cut off before.

    Raises:
        UnknownModelError: The zoo has no model of that name, or not its files.
    """
    folder = find_model(name)
    own_radius = find_dataset(folder.config.training.dataset).epsilon
    known = {entry.name for entry in read_manifest().models}
    recipe = recipe_of(name, folder.config.training.num_epochs)
    settings: dict[PresetName, dict[str, Any]] = {
        "paper": {"radii": RADII[:-1], "surrogates": known.intersection(surrogate_names(recipe))},
        "full": {"radii": [own_radius] if own_radius < EPSILON else []},
    }
    for preset in _PRESETS:
        store = PartialResults(folder.path / PARTIAL)
        report = audit_zoo_model(folder.path, folder.config, preset, epsilon=EPSILON, store=store, **settings[preset])
        write_atomically(_path(folder, preset), render.serialise(report))
        store.discard()


def results_page() -> str:
    """RESULTS.md, in Markdown; models that were not measured as they are now are named in it.

    Raises:
        IntegrityError: An audit is damaged.
    """
    folders = [find_model(entry.name) for entry in read_manifest().models]
    missing = [folder.name for folder in folders if not _is_measured(folder)]
    measured = [_read(folder) for folder in folders if _is_measured(folder)]
    stronger = "".join(row for model in measured for row in _rows(model))
    transfer = "\n".join(table for model in measured for table in _transfer_table(model))
    tables = markdown([model.run for model in measured])
    pending = f"Not measured yet: {', '.join(f'`{name}`' for name in missing)}.\n\n" if missing else ""
    return "\n".join([_INTRODUCTION + pending + tables, _STRONGER + stronger, _TRANSFER, transfer])


def _is_measured(folder: ModelFolder) -> bool:
    return all(_path(folder, preset).exists() for preset in _PRESETS)


def _read(folder: ModelFolder) -> Measured:
    recipe = recipe_of(folder.name, folder.config.training.num_epochs)
    paper, full = (render.read_report(_path(folder, preset)) for preset in _PRESETS)
    return Measured(FinishedRun(recipe, folder.config, paper), full)


def _path(folder: ModelFolder, preset: PresetName) -> Path:
    """Where an audit is kept; other weights have another place, so that theirs is never taken for it."""
    weights = folder.config.files[WEIGHTS].sha256
    return zoo_folder() / "results" / f"{folder.name}-{weights[:8]}-{preset}.json"


def _rows(model: Measured) -> Iterator[str]:
    """A row of the table of stronger attacks for each radius, from the smallest on."""
    full = model.full
    only = CurvePoint(full.threat.epsilon, full.worst_case.robust_accuracy)
    for point in sorted(full.curve or [only], key=lambda point: point.epsilon):
        figures = [model.run.accuracy(attack, "white-box", point.epsilon) for attack in ("PGD", WORST_CASE)]
        cells = [model.run.report.clean_accuracy.value, *figures, point.robust_accuracy.value]
        yield _row([f"`{full.model}`", f"{point.epsilon:.3g}", *map(_percent, cells), full.verdict])


def _transfer_table(model: Measured) -> Iterator[str]:
    matrix = model.run.report.transfer
    if matrix is not None:
        members = range(len(matrix.members))
        lines = [["made on", *(f"on member {member}" for member in members)], ["---", *("---:" for _ in members)]]
        lines += [[f"member {index}", *map(_percent, row)] for index, row in enumerate(matrix.members)]
        yield f"`{model.run.config.name}`\n\n" + "".join(map(_row, lines))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"
