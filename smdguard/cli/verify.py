"""smdguard verify: are the files of models what they have to be?"""

import json
from typing import TYPE_CHECKING, Any

import click

from smdguard.cli.options import json_option, no_warnings_option
from smdguard.errors import SmdguardError
from smdguard.factories import is_factory

if TYPE_CHECKING:
    from smdguard.backends import BackendName
    from smdguard.model_folder import ModelFolder


@click.command()
@click.argument("models", nargs=-1, metavar="[NAME]...")
@json_option
@no_warnings_option
@click.pass_context
def verify(ctx: click.Context, models: tuple[str, ...], as_json: bool) -> None:
    """Check the files of models against their checksums, and that they still reproduce their golden outputs.

    Each NAME is a name of the zoo, a model folder or org/repo@revision on the Hub; without one, all models of the zoo
    that are on this machine are checked.
    """
    from smdguard.catalogue import is_at_hand, read_manifest

    names = models or [entry.name for entry in read_manifest().models if is_at_hand(entry)]
    rows = [_verify(name) for name in names]
    if as_json:
        click.echo(json.dumps({"models": rows}, indent=2))
    for row in rows:
        if "error" in row:
            click.echo(f"Error: {row['model']}: {row['error']}", err=True)
        elif not as_json:
            unasked = "" if row["golden_outputs_on"] else ", but golden outputs were not checked"
            click.echo(f"{row['model']}: {row['num_files']} files, {row['num_bytes'] / 1e6:.1f} MB, verified{unasked}")
    if any("error" in row for row in rows):
        ctx.exit(1)


def _verify(name: str) -> dict[str, Any]:
    from smdguard import golden
    from smdguard.guard import Guard
    from smdguard.hub import find_model
    from smdguard.model_folder import GOLDEN

    try:
        folder = find_model(name)
        num_bytes = folder.verify()
        tolerance = golden.ATOL if folder.entry is None else folder.entry.golden.atol
        backends = _back_ends(folder) if folder.has(GOLDEN) else []
        for backend in backends:
            golden.check_golden(Guard(folder, backend=backend, device="cpu"), folder.read(GOLDEN), atol=tolerance)
    except SmdguardError as error:
        return {"model": name, "error": str(error)}
    return {"model": name, "num_files": len(folder.config.files), "num_bytes": num_bytes, "golden_outputs_on": backends}


def _back_ends(folder: "ModelFolder") -> list["BackendName"]:
    """Those that the folder has a file for, without a builder of members of the user's own."""
    from smdguard.model_folder import ONNX, WEIGHTS

    can_run: dict[BackendName, bool] = {
        "onnx": folder.has(ONNX),
        "torch": folder.has(WEIGHTS) and not is_factory(folder.config.architecture.name),
    }
    return [backend for backend, can in can_run.items() if can]
