"""Options that several commands share, and where their output goes."""

import warnings
from collections.abc import Callable
from functools import partial, reduce
from typing import TYPE_CHECKING, Any

import click

from smdguard.command_group import is_screen
from smdguard.errors import UnpinnedRevisionWarning
from smdguard.factories import import_factory

if TYPE_CHECKING:
    from rich.console import Console

    from smdguard.backends.torch import Builder

DEFAULT_MODEL = "smd-lenet-mnist"

model_option = click.option(
    "--model",
    default=DEFAULT_MODEL,
    show_default=True,
    help="A name of the zoo, a model folder, or org/repo@revision on the Hub (made with smdguard).",
)
device_option = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where to compute."
)
backend_option = click.option(
    "--backend",
    type=click.Choice(["auto", "onnx", "torch"]),
    default="auto",
    show_default=True,
    help="What computes; auto is ONNX if the model has it and there is no --builder, else PyTorch.",
)


def _import_builder(ctx: click.Context, param: click.Parameter, name: str | None) -> "Builder | None":
    return None if name is None else import_factory(name)


builder_option = click.option(
    "--builder",
    metavar="package.module:factory",
    callback=_import_builder,
    help="For members that are your own network: the function (image_shape, num_classes) that builds one.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")


def _silence_warnings(ctx: click.Context, param: click.Parameter, quiet: bool) -> bool:
    if quiet:  # Until the command ends, whose group restores the filters.
        warnings.simplefilter("ignore", UnpinnedRevisionWarning)
    return quiet


_quiet_option = partial(
    click.option, "--quiet", is_flag=True, callback=_silence_warnings, help="No progress, no notes and no warnings."
)
quiet_option = _quiet_option()
# For commands that print nothing else that it silences.
no_warnings_option = _quiet_option(expose_value=False)


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of predict: which model, how it runs, and what is printed."""
    options = (model_option, builder_option, device_option, backend_option, json_option, no_warnings_option)
    return reduce(lambda decorated, option: option(decorated), reversed(options), command)


def output_console() -> "Console":
    """Standard output; wide where it is no screen, so that nothing is cut. Names are shown as they are."""
    from rich.console import Console

    as_they_are = partial(Console, highlight=False, markup=False, emoji=False)
    console = as_they_are()
    return console if is_screen(console) else as_they_are(width=1000, soft_wrap=True)
