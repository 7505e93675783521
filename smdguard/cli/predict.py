"""smdguard predict: classify image files."""

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from smdguard.cli.options import model_options, output_console
from smdguard.cli.shell import typed
from smdguard.errors import ImageError, SmdguardError

if TYPE_CHECKING:
    from pathlib import Path

    from smdguard.backends.torch import Builder
    from smdguard.guard import Guard
    from smdguard.preprocess import Mode

_SUFFIXES = {".png", ".jpg", ".jpeg"}


@click.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option(
    "--preprocess",
    type=click.Choice(["fit", "resize", "none"]),
    help="How to fit an image of another size: fit, as the data set was made; resize, ignoring the aspect ratio; none, "
    "refuse it. Default: as in training, which is resize for a model of images of your own, else fit.",
)
@model_options
@click.pass_context
def predict(
    ctx: click.Context,
    images: tuple[str, ...],
    preprocess: "Mode | None",
    model: str,
    builder: "Builder | None",
    device: str,
    backend: Any,
    as_json: bool,
) -> None:
    """Classify images: PNG and JPEG files, folders of them, quoted globs, or - for standard input."""
    from smdguard.guard import load

    guard = load(model, backend=backend, device=device, builder=builder)
    names = [name for argument in images for name in _names(argument)]
    rows = _predict_all(guard, names, preprocess)
    if as_json:
        document = {"model": guard.name, "backend": guard.backend.name, "predictions": rows}
        click.echo(json.dumps(document, indent=2))
    else:
        _print_table(rows)
    num_errors = sum("error" in row for row in rows)
    if num_errors:
        for row in rows:
            if "error" in row:
                click.echo(f"Error: {row['error']}", err=True)
        ctx.exit(1)


def _names(argument: str) -> list[str]:
    """The files that an argument stands for, each once; itself where it stands for none, so that its error is shown."""
    from glob import glob

    is_there = argument == "-" or os.path.lexists(argument)
    matches = [argument] if is_there else sorted(glob(argument, recursive=True))
    found = [name for match in matches for name in _files(match)]
    return list(dict.fromkeys(found)) or [argument]


def _files(name: str) -> list[str]:
    """The images in a folder, which may be none; whatever else has the name is one file."""
    from pathlib import Path

    from smdguard.files import is_folder

    if not is_folder(name):
        return [name]
    inside = Path(name).glob("[!.]*")
    return sorted(str(file) for file in inside if file.suffix.lower() in _SUFFIXES and not is_folder(file))


def _read(name: str) -> "bytes | Path":
    from pathlib import Path

    from smdguard.files import MAX_IMAGE_BYTES, is_folder

    if name == "-":
        if sys.stdin is None:
            raise ImageError("standard input is closed; give it the image, as in smdguard predict - < image.png")
        return sys.stdin.buffer.read(MAX_IMAGE_BYTES + 1)
    if is_folder(name):
        raise ImageError(f"{name} is a folder without PNG or JPEG files{_where_images_are(Path(name))}")
    return Path(name)


def _where_images_are(folder: "Path") -> str:
    """What to name instead of a folder, such as one of the folders of classes."""
    from glob import escape

    from smdguard.files import is_folder

    if not any(_files(str(inside)) for inside in folder.glob("[!.]*") if is_folder(inside)):
        return ""
    return f", but there are some in its folders; name these, as with {typed([escape(str(folder)) + '/*'])}"


def _predict_all(guard: "Guard", names: list[str], preprocess: "Mode | None") -> list[dict[str, Any]]:
    """A dictionary for each image in its order; no more of them than a batch are in memory at a time."""
    batches = (names[start : start + guard.batch_size] for start in range(0, len(names), guard.batch_size))
    return [row for batch in batches for row in _predict_batch(guard, batch, preprocess)]


def _predict_batch(guard: "Guard", names: list[str], preprocess: "Mode | None") -> list[dict[str, Any]]:
    """A dictionary for each image in its order; a bad one does not keep the rest from being classified."""
    import numpy

    rows: list[dict[str, Any]] = []
    prepared: dict[int, numpy.ndarray] = {}
    for place, name in enumerate(names):
        try:
            prepared[place] = guard.prepare(_read(name), preprocess=preprocess, source=name)
            rows.append({"image": name})
        except SmdguardError as error:
            rows.append({"image": name, "error": str(error)})
    if prepared:
        predictions = guard.predict_prepared(numpy.stack(list(prepared.values())))
        for place, prediction in zip(prepared, predictions, strict=True):
            rows[place] |= {
                "label": prediction.label,
                "class_index": prediction.class_index,
                "probability": prediction.probability,
                "agreement": prediction.agreement,
                "suspicious": prediction.suspicious,
                "probabilities": list(prediction.probabilities),
            }
    return rows


def _print_table(rows: list[dict[str, Any]]) -> None:
    from smdguard.render import predictions_view

    shown = [{**row, "image": click.format_filename(row["image"])} for row in rows]
    output_console().print(predictions_view(shown))
