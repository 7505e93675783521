"""smdguard audit: how hard is a model to fool?"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from smdguard.auditing.preset_names import PresetName
from smdguard.cli.options import DEFAULT_MODEL, builder_option, device_option, json_option, output_console, quiet_option
from smdguard.cli.parameter_types import Radius, Range, Size
from smdguard.cli.report_folder import PARTIAL, require_writable, write_report
from smdguard.cli.shell import typed
from smdguard.errors import InvalidInputError, SmdguardError, printable
from smdguard.factories import users_code

if TYPE_CHECKING:
    from collections.abc import Iterator

    from smdguard.auditing.partial_results import PartialResults
    from smdguard.backends.torch import Builder
    from smdguard.cli.audited_model import AuditedModel
    from smdguard.datasets import LabelledImages
    from smdguard.report import AuditReport
    from smdguard.threat import ThreatModel

_CALL = "smdguard.call"
# As click names an option that it refuses itself.
_ATTACKS = "'--attacks'"


class _Remembered(click.Command):
    """Remembers how it was called, for the report to say."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_CALL] = printable(typed(["smdguard", "audit", *args]))
        return super().parse_args(ctx, args)


@click.command(cls=_Remembered)
@click.option(
    "--model",
    default=DEFAULT_MODEL,
    show_default=True,
    help="A name of the zoo, a model folder, org/repo@revision on the Hub (made with smdguard), FILE.onnx, "
    "torchvision:NAME, or package.module:factory, a function without arguments that returns a model in evaluation "
    "mode, from images in [0, 1] to logits. Only those trained or exported with smdguard for mnist, fashion-mnist or "
    "cifar10 do without --data.",
)
@click.option(
    "--epsilon",
    type=Radius(),
    help="Radius, where pixels are in [0, 1]; default: the largest of --epsilons, else the data set's in that norm: "
    "mnist linf 0.3, l2 2; fashion-mnist linf 0.1, l2 2; cifar10 linf 8/255, l2 0.5; images of your own linf 8/255, "
    "l2 none.",
)
@click.option("--epsilons", type=Range(), help="Radii for the accuracy curve, such as 0:0.3:0.05 or 0:8/255:2/255.")
@click.option(
    "--norm",
    type=click.Choice(["linf", "l2"]),
    default="linf",
    show_default=True,
    help="What the radius limits: linf the change of each pixel, l2 the length of the whole change.",
)
@click.option(
    "--preset",
    type=click.Choice(get_args(PresetName)),
    default="standard",
    show_default=True,
    help="Attacks. quick: FGSM, MIM, short runs of APGD, MORA (for ensembles) and Square. standard: FGSM, R-FGSM, PGD, "
    "BIM, MIM, MORA, APGD with two losses, Square. full: all of these, PGD and Square longer, targeted APGD and FAB, "
    "which completes AutoAttack's standard set. paper: FGSM, R-FGSM, PGD, BIM and MIM with the paper's settings.",
)
@click.option("--attacks", help="Some of the preset's attacks by name, such as FGSM,PGD.")
@click.option(
    "--surrogate",
    "surrogates",
    multiple=True,
    metavar="MODEL",
    help="Model to craft black-box attacks on, for the same images and classes, repeatable: as --model, but for "
    "FILE.onnx. Default: the most similar undefended ensemble at hand and, except with the preset quick, another seed "
    "of the model itself; for a model that is not smdguard's none.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder of the full data set, or of CLASS/IMAGE, test/CLASS/IMAGE or val/CLASS/IMAGE, PNG or JPEG; default: "
    "1,000 bundled images.",
)
@click.option(
    "--image-size",
    type=Size(),
    metavar="HEIGHT[xWIDTH]",
    help="What images are resized to for package.module:factory, such as 224; default: the size of the first. Other "
    "models come with a size of their own.",
)
@click.option("--download", is_flag=True, help="Let torchvision fetch the data set into --data.")
@click.option(
    "--num-images",
    type=click.IntRange(min=1),
    help="Number of images to audit, balanced over the classes; a multiple of the number of classes. Default: all.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), help="Folder for the report and its figures."
)
@click.option(
    "--fail-under",
    type=click.FloatRange(0, 1),
    help="Exit with status 1 if the worst case is below this share, or the verdict is unreliable.",
)
@builder_option
@device_option
@json_option
@quiet_option
def audit(
    model: str,
    epsilon: float | None,
    epsilons: list[float] | None,
    norm: Any,
    preset: Any,
    attacks: str | None,
    surrogates: tuple[str, ...],
    data: Path | None,
    image_size: tuple[int, int] | None,
    download: bool,
    num_images: int | None,
    seed: int,
    output: Path | None,
    fail_under: float | None,
    builder: "Builder | None",
    device: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Attack a model in every way available and count the images that withstand all attacks."""
    from smdguard import auditing
    from smdguard.auditing.partial_results import PartialResults
    from smdguard.cli.audited_model import find_audited_model
    from smdguard.cli.baseline import find_baseline
    from smdguard.cli.foreign_models import is_foreign
    from smdguard.cli.surrogates import find_surrogates
    from smdguard.threat import ThreatModel

    if download and data is None:
        raise click.UsageError("--download needs --data, the folder to put the data set into")
    if builder is not None and is_foreign(model):
        raise click.UsageError(f"--builder builds the members of a model made with smdguard, which {model} is not")
    chosen = _attacks(preset, attacks)
    if output is not None:
        require_writable(output)
    threat = _threat(norm, epsilon, epsilons)
    audited = find_audited_model(model, data, device, image_size=image_size, builder=builder)
    dataset, config = audited.dataset, audited.config
    if download and dataset.folder is None:
        raise InvalidInputError(f"torchvision has no data set {dataset.name} to --download; leave it out")
    threat = threat or ThreatModel(norm=norm, epsilon=dataset.epsilon_in(norm))
    sources = find_surrogates(surrogates, audited, preset, builder)
    images = audited.images(data, download=download, num_images=num_images)
    if not quiet:
        for note in _notes(audited, data, image_size, len(images.images)):
            click.echo(note, err=True)
    # An attack or two of a preset would not be an even comparison.
    baseline = find_baseline(config, threat, quiet=quiet) if config and epsilons and attacks is None else None
    store = PartialResults(output / PARTIAL) if output is not None else None
    command = click.get_current_context().meta[_CALL]
    try:
        report = _run(
            audited,
            images,
            threat,
            # The model may be the user's code, and so may what attacks are crafted on.
            users_code_involved=config is None or builder is not None or any(map(is_foreign, sources)),
            quiet=quiet,
            attacks=chosen,
            # Names of files may hold bytes that are no text, and a report cannot.
            surrogates={printable(source): surrogate for source, surrogate in sources.items()},
            epsilons=epsilons or (),
            seed=seed,
            store=store,
        )
    except auditing.AuditInterrupted as interrupt:
        _deliver(replace(interrupt.report, baseline=baseline, command=command), output, as_json=as_json)
        goes_on = ", and the same command continues from there" if store is not None else ""
        raise SmdguardError(f"the audit was stopped; the report covers what was finished{goes_on}") from None
    _deliver(replace(report, baseline=baseline, command=command), output, as_json=as_json)
    if store is not None:
        _discard(store, quiet=quiet)
    if fail_under is not None:
        _require(report, fail_under)


def _attacks(preset: Any, names: str | None) -> Any:
    """The preset, or those of its attacks that were named.

    Raises:
        BadParameter: None was named, or one that the preset has not.
    """
    from smdguard.auditing import PRESETS

    if names is None:
        return preset
    known = (*PRESETS[preset]().attacks, *PRESETS[preset]().pursuits)
    available = ", ".join(dict.fromkeys(attack.name for attack in known))
    wanted = {name.strip().lower(): name.strip() for name in names.split(",") if name.strip()}
    if not wanted:
        raise click.BadParameter(f"{names!r} names no attack; the preset {preset} has {available}", param_hint=_ATTACKS)
    names_there = {attack.name.lower() for attack in known}
    if unknown := [name for key, name in wanted.items() if key not in names_there]:
        raise click.BadParameter(
            f"the preset {preset} has no attack {unknown[0]!r}; it has {available}", param_hint=_ATTACKS
        )
    return [attack for attack in known if attack.name.lower() in wanted]


def _threat(norm: Any, epsilon: float | None, epsilons: list[float] | None) -> "ThreatModel | None":
    """What the options let the adversary do; None where that is left to the data set."""
    from smdguard.auditing.validation import checked_epsilons
    from smdguard.threat import ThreatModel

    radii = epsilons or []
    if epsilon is None and not radii:
        return None
    threat = ThreatModel(norm=norm, epsilon=max(radii) if epsilon is None else epsilon)
    checked_epsilons(radii, threat)
    return threat


def _notes(
    audited: "AuditedModel", data: Path | None, image_size: tuple[int, int] | None, num_images: int
) -> "Iterator[str]":
    """What was chosen for the user: which images of a folder, and their size."""
    from smdguard.cli.foreign_models import is_function
    from smdguard.dataset_folders import has_test_split

    if data is not None and audited.dataset.folder is None and not has_test_split(data):
        which = "held out by name" if audited.config else "some of which the model may have been trained on"
        yield f"{data} has no test split; auditing {num_images} images, {which}"
    if image_size is None and is_function(audited.name):
        size = " x ".join(map(str, audited.dataset.image_shape[1:]))
        yield f"{audited.name} is shown images of {size} pixels, the size of the first; see --image-size"


def _run(
    audited: "AuditedModel",
    images: "LabelledImages",
    threat: "ThreatModel",
    *,
    users_code_involved: bool,
    quiet: bool,
    **choices: Any,
) -> "AuditReport":
    """Audit, with a progress bar; whatever else goes wrong is told as a fault of the user's code, if there is any."""
    from smdguard import auditing
    from smdguard.cli.progress import audit_progress

    failure = f"the audit of {audited.name} failed"
    with audit_progress(quiet=quiet) as progress, users_code(failure, involved=users_code_involved):
        return auditing.audit(
            audited.model,
            images.scaled().to(audited.device),
            images.labels.to(audited.device),
            threat,
            name=printable(audited.name),
            dataset=printable(audited.dataset.name),
            class_names=audited.dataset.labels,
            suspicion_threshold=audited.config and audited.config.suspicion_threshold,
            progress=progress.advance,
            announce=progress.announce,
            **choices,
        )


def _deliver(report: "AuditReport", output: Path | None, *, as_json: bool) -> None:
    from smdguard import render

    if output is not None:
        write_report(report, output)
    if as_json:
        click.echo(render.json(report))
    else:
        output_console().print(render.audit_view(report))


def _discard(store: "PartialResults", *, quiet: bool) -> None:
    """Remove what this audit had kept to go on from, and tell of what another one has."""
    store.discard()
    if not store.is_empty and not quiet:
        click.echo(
            f"{store.folder} keeps what another audit has finished, for its command to go on from; to start that one "
            "anew, remove the folder",
            err=True,
        )


def _require(report: "AuditReport", least: float) -> None:
    """Refuse a worst case that is below the share of --fail-under, or not to be trusted."""
    worst = report.worst_case.robust_accuracy.value
    if not worst >= least:
        raise SmdguardError(f"the worst case of {worst:.4g} is below --fail-under {least:g}")
    if report.verdict == "unreliable":
        raise SmdguardError(f"a worst case of {worst:.4g} that is unreliable does not satisfy --fail-under")
