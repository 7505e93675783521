"""smdguard export: an ensemble as one ONNX file."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from smdguard.cli.options import builder_option, quiet_option
from smdguard.factories import users_code

if TYPE_CHECKING:
    from smdguard.backends.torch import Builder


@click.command()
@click.argument("model", metavar="NAME")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Default: NAME.onnx.")
@builder_option
@quiet_option
def export(model: str, output: Path | None, builder: "Builder | None", quiet: bool) -> None:
    """Write the ensemble NAME, a name of the zoo or a model folder, as one self-contained ONNX file."""
    from smdguard.export import to_onnx
    from smdguard.files import write_where_named
    from smdguard.guard import load

    guard = load(model, backend="torch", device="cpu", builder=builder)
    output = output or Path(f"{guard.config.name}.onnx")
    with users_code(f"the members of {guard.name} failed", involved=builder is not None):
        content = to_onnx(guard.ensemble, guard.image_shape, guard.config.labels)
    write_where_named(output, content)
    if not quiet:
        click.echo(f"{output}: {len(content):,} bytes", err=True)
