"""Bring a trained model into the zoo: export, golden outputs, audit, entry, card."""

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from smdguard import render
from smdguard.auditing import PresetName
from smdguard.auditing.partial_results import PartialResults
from smdguard.backends.torch import TorchBackend
from smdguard.catalogue import read_manifest, read_test_subset
from smdguard.companions import default_surrogates
from smdguard.datasets import DATASETS, Dataset, balanced_subset, find_dataset, parse_subset
from smdguard.errors import InvalidInputError
from smdguard.export import to_onnx
from smdguard.files import read, sha256, write_atomically, zoo_folder
from smdguard.golden import ATOL, NUM_IMAGES, make_golden
from smdguard.guard import load
from smdguard.hub import find_model
from smdguard.manifest import (
    WORST_CASE,
    EntryTraining,
    Evaluation,
    EvaluationThreat,
    File,
    GoldenOutputs,
    Manifest,
    ManifestEntry,
    ModelConfig,
    RemoteFile,
    parse,
    read_record,
    serialise,
)
from smdguard.model_folder import AUDIT, CARD, CONFIG, GOLDEN, ONNX, WEIGHTS
from smdguard.report import AttackResult, AuditReport, CurvePoint
from training.audits import PARTIAL
from training.finish import recipe_of
from zoo.audits import audit_zoo_model
from zoo.card import model_card
from zoo.citations import citation_of
from zoo.preview import as_preview

AUDIT_PRESET: PresetName = "standard"
CURVE_POINTS = 3
LICENSE = "apache-2.0"


def add_model(folder: Path, name: str) -> ManifestEntry:
    """Copy a trained model into the zoo under a name, with everything that an entry needs.

    A model that the zoo has under that name stays as it is until the new one is audited.

    Raises:
        SmdguardError: The folder holds no model, its data set has no bundled test images, or the name is no name, or
            that of a model that is trained otherwise.
    """
    guard = load(folder, backend="torch", device="cpu")
    # Parsed, because a copy is not validated.
    renamed = parse(ModelConfig, serialise(guard.config.model_copy(update={"name": name})), f"a model named {name!r}")
    dataset = _known_dataset(folder, guard.config)
    _require_own_name(renamed)
    images = balanced_subset(parse_subset(read_test_subset(dataset.name)), NUM_IMAGES).images.numpy()
    weights = find_model(folder).read(WEIGHTS)
    contents = {
        WEIGHTS: weights,
        GOLDEN: make_golden(TorchBackend(guard.ensemble, "cpu"), images),
        ONNX: to_onnx(guard.ensemble, guard.image_shape, guard.config.labels),
    }
    files = {file: File(sha256=sha256(content), num_bytes=len(content)) for file, content in contents.items()}
    config = renamed.model_copy(update={"files": files})
    target = zoo_folder() / "models" / name
    store = PartialResults(target / PARTIAL)
    # An audit may take an hour, or be cut off.
    with TemporaryDirectory() as waiting:
        _write_model(Path(waiting), config, contents)
        report = _audited(Path(waiting), config, store)
    _write_model(target, config, contents)
    return _entered(target, config, report, store)


def _write_model(folder: Path, config: ModelConfig, contents: Mapping[str, bytes]) -> None:
    """The configuration comes last, which makes the folder a model."""
    for file, content in contents.items():
        write_atomically(folder / file, content)
    write_atomically(folder / CONFIG, serialise(config))


def _known_dataset(folder: Path, config: ModelConfig) -> Dataset:
    """The zoo's audits are of test images that come with it, which there are of data sets known by name alone."""
    name = config.training.dataset
    if name not in DATASETS:
        raise InvalidInputError(
            f"{folder} was trained on {name}, and the zoo is for models of {', '.join(DATASETS)}; a model of your own "
            f"images needs no zoo: `smdguard audit --model {folder} --data DIR` audits it where it is"
        )
    return DATASETS[name]


def _require_own_name(config: ModelConfig) -> None:
    """The name tells RESULTS.md and readers what a model is."""
    own = recipe_of(config).name
    if config.name not in (own, as_preview(own)):
        raise InvalidInputError(
            f"by its method, network, data set, members, adversary and seed the model is {own}, and cannot be called "
            f"{config.name}; call it {own}, or {as_preview(own)} if its training was cut short"
        )


def audit_model(folder: Path, config: ModelConfig) -> ManifestEntry:
    """Audit a model of the zoo, from where that was cut off before, and write its audit, entry and card anew.

    Where its other files are those that were published, the entry keeps their place on the Hub.
    """
    store = PartialResults(folder / PARTIAL)
    return _entered(folder, config, _audited(folder, config, store), store)


def _audited(folder: Path, config: ModelConfig, store: PartialResults) -> AuditReport:
    epsilon = find_dataset(config.training.dataset).epsilon
    radii = [round(epsilon * point / CURVE_POINTS, 6) for point in range(1, CURVE_POINTS)]
    surrogates = default_surrogates(config)
    return audit_zoo_model(folder, config, AUDIT_PRESET, radii=radii, surrogates=surrogates, store=store)


def _entered(folder: Path, config: ModelConfig, report: AuditReport, store: PartialResults) -> ManifestEntry:
    """The model's entry, written with its audit and card; what was kept for an audit to go on from is done with."""
    content = render.serialise(report)
    write_atomically(folder / AUDIT, content)
    entry = describe(config, report, config_sha256=sha256(read(folder / CONFIG)), report_sha256=sha256(content))
    known = read_manifest().find(config.name)
    if known is not None and known.training.config_sha256 == entry.training.config_sha256:
        entry = entry.published_at(known.weights.repo, known.weights.revision)
    write_card(entry)
    replace_in_manifest(entry)
    store.discard()
    return entry


def write_card(entry: ManifestEntry) -> None:
    """Write the card of a model of the zoo anew."""
    folder = zoo_folder() / "models" / entry.name
    config = read_record(ModelConfig, folder / CONFIG)
    report = render.read_report(folder / AUDIT)
    write_atomically(folder / CARD, model_card(entry, config, report.suspicion).encode())


def describe(config: ModelConfig, report: AuditReport, *, config_sha256: str, report_sha256: str) -> ManifestEntry:
    """The entry of a model with that configuration and that audit, not yet published."""

    def remote(file: str) -> RemoteFile:
        return RemoteFile(file=file, **config.files[file].model_dump())

    return ManifestEntry(
        name=config.name,
        architecture=config.architecture,
        input=config.input,
        labels=config.labels,
        objective=config.objective,
        training=EntryTraining(
            dataset=config.training.dataset,
            num_epochs=config.training.num_epochs,
            seed=config.training.seed,
            commit=config.training.commit,
            config_sha256=config_sha256,
        ),
        weights=remote(WEIGHTS),
        onnx=remote(ONNX),
        golden=GoldenOutputs(file=GOLDEN, sha256=config.files[GOLDEN].sha256, atol=ATOL),
        evaluations=tuple(_evaluations(report, report_sha256)),
        verdict=report.verdict,
        license=LICENSE,
        citation=citation_of(config.objective),
    )


def _evaluations(report: AuditReport, report_sha256: str) -> list[Evaluation]:
    """The worst case at the audit's radius first, then on the curve, then every attack made at the audit's radius."""
    radius = report.threat.epsilon
    worst = [CurvePoint(radius, report.worst_case.robust_accuracy)]
    worst += [point for point in report.curve if point.epsilon != radius]
    figures = [(WORST_CASE, point.epsilon, point.robust_accuracy.value, None) for point in worst]
    figures += [
        (
            _called(result),
            radius,
            result.robust_accuracy.value,
            result.num_attacked if result.num_attacked < report.num_images else None,
        )
        for result in report.attacks
        if result.epsilon == radius and result.num_attacked
    ]
    return [
        Evaluation(
            threat=EvaluationThreat(norm=report.threat.norm, epsilon=epsilon),
            attack=attack,
            num_images=report.num_images,
            num_attacked=num_attacked,
            seed=report.seed,
            clean_accuracy=report.clean_accuracy.value,
            robust_accuracy=robust_accuracy,
            report_sha256=report_sha256,
            versions=report.versions,
        )
        for attack, epsilon, robust_accuracy, num_attacked in figures
    ]


def _called(result: AttackResult) -> str:
    """The attack's name, and what it was crafted on where that is not the whole model."""
    if result.access == "white-box":
        return result.name
    return f"{result.name} {'from' if result.access == 'black-box' else 'crafted on'} {result.source}"


def replace_in_manifest(entry: ManifestEntry) -> None:
    """Write the manifest with that entry in place of the one of its name."""
    read_manifest.cache_clear()  # Another process may have written it since.
    manifest = read_manifest()
    others = [other for other in manifest.models if other.name != entry.name]
    models = tuple(sorted([*others, entry], key=lambda known: known.name))
    write_manifest(manifest.model_copy(update={"models": models}))


def write_manifest(manifest: Manifest) -> None:
    """Write the manifest, and the JSON Schema that describes it beside it."""
    write_atomically(zoo_folder() / "manifest.json", serialise(manifest))
    schema = json.dumps(Manifest.model_json_schema(), indent=2) + "\n"
    write_atomically(zoo_folder() / "manifest.schema.json", schema.encode())
    read_manifest.cache_clear()
