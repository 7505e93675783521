"""smdguard audit: how hard is a model to fool?"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from smdguard.cli.options import device_option, json_option, model_option, output_console, quiet_option
from smdguard.errors import InvalidInputError, SmdguardError

if TYPE_CHECKING:
    from smdguard.datasets import Dataset, LabelledImages
    from smdguard.guard import Guard
    from smdguard.report import AuditReport


class _Range(click.ParamType):
    """START:STOP:STEP, both ends included."""

    name = "START:STOP:STEP"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[float]:
        if isinstance(value, list):
            return value
        try:
            start, stop, step = (float(part) for part in value.split(":"))
        except ValueError:
            self.fail(f"{value!r} is not of the form START:STOP:STEP, such as 0:0.3:0.05", param, ctx)
        if not (step > 0 and 0 <= start <= stop <= 1 and (stop - start) / step <= 1000):
            self.fail(f"{value!r} must rise from 0 or more to at most 1 in at most 1000 steps", param, ctx)
        count = math.floor((stop - start) / step + 1e-9)
        return [round(start + index * step, 12) for index in range(count + 1)]


@click.command()
@model_option
@click.option("--epsilon", type=float, help="Radius in pixel units of [0, 1]; default: the data set's (MNIST 0.3).")
@click.option("--epsilons", type=_Range(), help="Radii for the accuracy curve, such as 0:0.3:0.05.")
@click.option("--norm", type=click.Choice(["linf", "l2"]), default="linf", show_default=True)
@click.option(
    "--preset", type=click.Choice(["quick", "standard", "paper"]), default="quick", show_default=True, help="Attacks."
)
@click.option("--attacks", help="Some of the preset's attacks by name, such as FGSM,PGD.")
@click.option(
    "--surrogate",
    "surrogates",
    multiple=True,
    metavar="NAME",
    help="Model to make black-box attacks on, repeatable; default: the zoo's second seeds of the naive ensemble and "
    "of the model itself.",
)
@click.option("--data", type=click.Path(path_type=Path), help="Folder of the full data set; default: 1,000 bundled.")
@click.option("--download", is_flag=True, help="Let torchvision fetch the data set into --data.")
@click.option("--num-images", type=click.IntRange(min=1), help="Audit only that many images, evenly over the classes.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="Folder for report.json.")
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
    download: bool,
    num_images: int | None,
    seed: int,
    output: Path | None,
    device: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Attack a model in every way at hand and count the images that stand."""
    from smdguard import auditing, render
    from smdguard.cli.progress import audit_progress
    from smdguard.datasets import find_dataset
    from smdguard.guard import load
    from smdguard.hub import default_surrogates
    from smdguard.threat import ThreatModel

    if download and data is None:
        raise click.UsageError("--download needs --data, the folder to put the data set into")
    guard = load(model, backend="torch", device=device)
    dataset = find_dataset(guard.config.training.dataset)
    if epsilon is None:
        epsilon = max(epsilons) if epsilons else dataset.epsilon
    threat = ThreatModel(norm=norm, epsilon=epsilon)
    chosen = _attacks(preset, attacks)
    images = _images(guard, data, download=download, num_images=num_images)
    sources = [load(name, backend="torch", device=device) for name in surrogates or default_surrogates(guard.config)]
    for one in (guard, *sources):
        _require_fit(one, dataset)
    place = guard.ensemble.mean.device
    with audit_progress(quiet=quiet) as progress:
        report = auditing.audit(
            guard.ensemble,
            images.scaled().to(place),
            images.labels.to(place),
            threat,
            attacks=chosen,
            surrogates={source.name: source.ensemble for source in sources},
            epsilons=epsilons or (),
            seed=seed,
            name=guard.name,
            dataset=dataset.name,
            progress=progress,
        )
    if output is not None:
        _write(report, output)
    if as_json:
        click.echo(render.json(report))
    else:
        output_console().print(render.audit_view(report))


def _attacks(preset: Any, names: str | None) -> Any:
    """The preset, or those of its attacks that were named."""
    from smdguard.auditing import PRESETS

    if names is None:
        return preset
    known = (*PRESETS[preset]().attacks, *PRESETS[preset]().pursuits)
    wanted = [name.strip().lower() for name in names.split(",")]
    unknown = [name for name in wanted if name not in {attack.name.lower() for attack in known}]
    if unknown:
        available = ", ".join(dict.fromkeys(attack.name for attack in known))
        raise InvalidInputError(f"the preset {preset} has no attack {unknown[0]!r}; it has {available}")
    return [attack for attack in known if attack.name.lower() in wanted]


def _images(guard: "Guard", data: Path | None, *, download: bool, num_images: int | None) -> "LabelledImages":
    from smdguard.datasets import balanced_subset, find_dataset, load_split, parse_subset
    from smdguard.hub import read_test_subset

    dataset = find_dataset(guard.config.training.dataset)
    if data is None:
        images = parse_subset(read_test_subset(dataset.name))
    else:
        images = load_split(dataset, data, train=False, download=download)
    return images if num_images is None else balanced_subset(images, num_images)


def _require_fit(guard: "Guard", dataset: "Dataset") -> None:
    """Refuse a model, audited or surrogate, that does not take the data set's images or has other classes."""
    if guard.image_shape != dataset.image_shape or guard.config.labels != dataset.labels:
        raise InvalidInputError(
            f"{guard.name} cannot be asked about {dataset.name}: it takes {_size(guard.image_shape)} images of "
            f"{len(guard.config.labels)} classes, those are {_size(dataset.image_shape)} of {len(dataset.labels)}"
        )


def _size(image_shape: tuple[int, ...]) -> str:
    return " x ".join(str(length) for length in image_shape)


def _write(report: "AuditReport", folder: Path) -> None:
    from smdguard import render
    from smdguard.files import write_atomically

    try:
        write_atomically(folder / "report.json", render.json(report).encode() + b"\n")
    except OSError as error:
        raise SmdguardError(f"{folder} cannot be written: {error.strerror}") from error
