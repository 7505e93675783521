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
from smdguard.manifest import WORST_CASE, ManifestEntry
from smdguard.model_folder import WEIGHTS, ModelFolder
from smdguard.report import AuditReport, CurvePoint
from training.audits import PARTIAL, sources_of
from training.finish import recipe_of
from training.markdown import table
from training.paper import EPSILON, RADII
from training.results import FinishedRun, require_alike
from training.tables import paper_tables
from zoo.audits import audit_zoo_model, known_surrogates
from zoo.kept_runs import read_kept_runs, read_trials
from zoo.preview import is_preview
from zoo.radii import radii_table
from zoo.trials import trials_table

FILE = "RESULTS.md"
_PRESETS: tuple[PresetName, ...] = ("paper", "full")
_FINDINGS = Path(__file__).parent / "findings.md"
_ORIGIN = """\
<!-- Written by `python -m zoo results` from zoo/findings.md, the audits in zoo/results, which `python -m zoo measure`
makes, and those in zoo/runs and zoo/trials, most of which `python -m zoo keep` takes from sweeps. -->
"""
_RADII = """\
## The radius at which ours have the paper's figures

The radius at which an attack takes our ensembles to the accuracy that the paper gives for its own at 0.3, on straight
lines between the radii of the audits, from the mean over our seeds. Below 0.3 ours are easier to fool.
"""
_TRIALS = """\
## Trials of what the distance is due to

Accuracy in percent at epsilon 0.3: the paper's mean, that over a trial's seeds, and below it that over the zoo's runs
of the same seeds. What each trial is, and what it shows, is above. Black-box attacks on a trial are crafted on
ensembles of the same trial if it has any, else on the zoo's. Averaged probabilities hide the members, so that no
attacks on single ones are in their worst case. `uniform-start` is R-FGSM alone, over which a worst case would not
compare.
"""
_STRONGER = """\
## The same models under stronger attacks

Accuracy in percent on the 1,000 bundled test images, at the paper's radius and at that which the field uses for the
data set; `clean` is on these images as well, where the tables of the paper's results have it on all test images. PGD is
the paper's, white-box. The paper's audit crafts its five attacks on the model itself, on its surrogates and on single
members, and checks itself with longer ones, on 200 of the images; the preset `full` is AutoAttack's standard set and
more. Both count an image as standing only if it withstood every attack up to that radius. Where PGD stands far above
them, its ten short steps were too few or the gradients mislead it: it does not tell how robust the ensemble is. The
verdict is that of `full` on the largest radius.

Cards and README have the figures of the preset `standard`. Its attacks keep an image's first success, where those of
`paper` are judged by their last step as the paper's were, and they draw other random starts. So the same attack may
leave fewer images standing there (SMD under BIM at 0.3 {smd[0]} %, here {smd[1]}) or a little more \
(SMD+ under PGD {smd_plus[0]} %, here
{smd_plus[1]}).
"""
_FIGURES = ("epsilon", "clean", "PGD", "the paper's audit", "preset `full`")
_TRANSFER = """\
## How attacks transfer between the members

Accuracy in percent of the member of each column on images that the paper's PGD crafted on the member of each row alone,
at epsilon 0.3.
"""


@dataclass(frozen=True)
class Measured:
    """A model of the zoo with its audits for RESULTS.md: a run with one of the preset paper, and one of full."""

    entry: ManifestEntry
    run: FinishedRun
    full: AuditReport


def measure_model(name: str) -> None:
    """Audit a model of the zoo for RESULTS.md, from where that was cut off before.

    Raises:
        UnknownModelError: The zoo has no model of that name, or not its files.
    """
    folder = find_model(name)
    own_radius = find_dataset(folder.config.training.dataset).epsilon
    settings: dict[PresetName, dict[str, Any]] = {
        "paper": {"radii": sorted({*RADII, own_radius} - {EPSILON}), "surrogates": known_surrogates(folder.config)},
        "full": {"radii": [own_radius] if own_radius < EPSILON else []},
    }
    store = PartialResults(folder.path / PARTIAL)
    for preset in _PRESETS:
        report = audit_zoo_model(folder.path, folder.config, preset, epsilon=EPSILON, store=store, **settings[preset])
        write_atomically(_path(folder, preset), render.serialise(report))
    store.discard()


def not_measured() -> list[str]:
    """Names of the zoo's models that measure_model did not finish with, as they are now."""
    folders = [find_model(entry.name) for entry in read_manifest().models]
    return [folder.name for folder in folders if not _is_measured(folder)]


def _is_measured(folder: ModelFolder) -> bool:
    """Whether there are its audits, crafted on all that the zoo has for them."""
    if not all(_path(folder, preset).exists() for preset in _PRESETS):
        return False
    return sources_of(render.read_report(_path(folder, "paper"))) == set(known_surrogates(folder.config))


def results_page() -> str:
    """RESULTS.md, in Markdown; models that were not measured as they are now are named in it.

    Raises:
        IntegrityError: An audit is damaged.
        InvalidInputError: A folder of runs has none, or runs of one kind were not trained alike.
    """
    missing = not_measured()
    measured = [_read(entry) for entry in read_manifest().models if entry.name not in missing]
    # So short a training says little about the method.
    runs = [model.run for model in measured if not is_preview(model.run.config.name)] + read_kept_runs()
    require_alike(runs)
    return "\n".join(
        [
            _ORIGIN,
            *([f"Not measured yet: {', '.join(f'`{name}`' for name in missing)}.\n"] if missing else []),
            paper_tables(runs),
            _FINDINGS.read_text("utf-8"),
            f"{_RADII}\n{radii_table(runs)}",
            f"{_TRIALS}\n{trials_table(runs, read_trials())}",
            _stronger_attacks(measured),
            _TRANSFER,
            *(transfer for model in measured for transfer in _transfer_table(model)),
        ]
    )


def _read(entry: ManifestEntry) -> Measured:
    folder = find_model(entry.name)
    paper, full = (render.read_report(_path(folder, preset)) for preset in _PRESETS)
    return Measured(entry, FinishedRun(recipe_of(folder.config), folder.config, paper), full)


def _path(folder: ModelFolder, preset: PresetName) -> Path:
    """Where an audit is kept; other weights have another place, so that theirs is never taken for it."""
    weights = folder.config.files[WEIGHTS].sha256
    return zoo_folder() / "results" / f"{folder.name}-{weights[:8]}-{preset}.json"


def _stronger_attacks(measured: Sequence[Measured]) -> str:
    """The section on the audits of the preset full, in Markdown."""
    examples = {"smd": ("smd-lenet-mnist", "BIM"), "smd_plus": ("smd-plus-lenet-mnist", "PGD")}
    text = _STRONGER.format(**{label: _there_and_here(measured, *example) for label, example in examples.items()})
    rows = [row for model in measured for row in _rows(model)]
    return f"{text}\n{table(('model', *_FIGURES, 'verdict'), rows, right=_FIGURES)}"


def _there_and_here(measured: Sequence[Measured], name: str, attack: str) -> tuple[str, str]:
    """What an attack leaves standing at the paper's radius: by the model's entry, and by its audit of the preset paper.

    Of a model that was not measured there is nothing to tell.
    """
    for model in measured:
        if model.entry.name == name:
            at_radius = (row for row in model.entry.evaluations if row.threat.epsilon == EPSILON)
            there = {row.attack: row.robust_accuracy for row in at_radius}.get(attack)
            return _percent(there), _percent(model.run.accuracy(attack, "white-box", EPSILON))
    return _percent(None), _percent(None)


def _rows(model: Measured) -> Iterator[list[str]]:
    """A row of the table of stronger attacks for each radius, from the smallest on."""
    full = model.full
    only = CurvePoint(full.threat.epsilon, full.worst_case.robust_accuracy)
    for point in sorted(full.curve or [only], key=lambda point: point.epsilon):
        figures = [model.run.accuracy(attack, "white-box", point.epsilon) for attack in ("PGD", WORST_CASE)]
        cells = [model.run.report.clean_accuracy.value, *figures, point.robust_accuracy.value]
        verdict = full.verdict if point.epsilon == full.threat.epsilon else "-"
        yield [f"`{full.model}`", f"{point.epsilon:.3g}", *map(_percent, cells), verdict]


def _transfer_table(model: Measured) -> Iterator[str]:
    matrix = model.run.report.transfer
    if matrix is not None:
        targets = [f"on member {member}" for member in range(len(matrix.members))]
        rows = [[f"member {index}", *map(_percent, row)] for index, row in enumerate(matrix.members)]
        yield f"`{model.run.config.name}`\n\n" + table(["crafted on", *targets], rows, right=targets)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"
