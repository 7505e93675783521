"""The command line of the zoo: python -m zoo COMMAND."""

from collections.abc import Sequence
from pathlib import Path

import click

from smdguard.catalogue import read_manifest
from smdguard.command_group import OneLineErrors
from smdguard.datasets import DATASETS
from smdguard.files import write_atomically, zoo_folder
from smdguard.hub import find_model
from smdguard.manifest import ManifestEntry
from smdguard.remote import hub_settings
from zoo.bundled_images import bundle_subset, write_samples
from zoo.entries import add_model, audit_model, write_card
from zoo.kept_runs import keep_runs
from zoo.picture import FILE as PICTURE
from zoo.picture import accuracy_picture
from zoo.plain_average import try_plain_average
from zoo.results import FILE as RESULTS
from zoo.results import measure_model, not_measured, results_page
from zoo.table import zoo_table
from zoo.uniform_start import try_uniform_start
from zoo.verify import verify_entry


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Keep the zoo: models, their figures and their cards."""


@main.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--name", required=True, help="What the zoo calls the model.")
def add(folder: Path, name: str) -> None:
    """Bring the model that a training left in FOLDER into the zoo."""
    entry = add_model(folder, name)
    click.echo(f"{entry.name}: {entry.verdict}")


@main.command()
@click.argument("names", nargs=-1)
def audit(names: tuple[str, ...]) -> None:
    """Audit models of the zoo again (all, if none is named) and write their figures and cards anew."""
    for known in [_find_entry(name) for name in names] or read_manifest().models:
        folder = find_model(known.name)
        entry = audit_model(folder.path, folder.config)
        is_outdated = known.weights.revision is not None and entry != known
        click.echo(f"{entry.name}: {entry.verdict}{'; publish it again' if is_outdated else ''}")


@main.command()
def cards() -> None:
    """Write the cards of all models anew from their entries."""
    for entry in read_manifest().models:
        write_card(entry)


@main.command()
@click.argument("names", nargs=-1)
@click.option(
    "--num-images", type=click.IntRange(min=1), help="How many images to attack again; default: all of the audit's."
)
def verify(names: tuple[str, ...], num_images: int | None) -> None:
    """Check every file, golden output, card and audit of models of the zoo (all, if none is named).

    The models are attacked again with the preset quick, and have to stand as their audits say.
    """
    for entry in [_find_entry(name) for name in names] or read_manifest().models:
        click.echo(verify_entry(entry, num_images=num_images))


@main.command()
def picture() -> None:
    """Draw the README's picture from the audits of two models."""
    write_atomically(zoo_folder() / PICTURE, accuracy_picture())


@main.command()
@click.argument("names", nargs=-1)
def measure(names: tuple[str, ...]) -> None:
    """Audit models of the zoo as the paper did, and with the preset full, for RESULTS.md.

    Without NAMES those that were not measured as they are now.
    """
    for name in _known(names) or not_measured():
        measure_model(name)
        click.echo(name)


@main.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def plain_average(names: tuple[str, ...]) -> None:
    """Attack models of the zoo through an average of probabilities taken the plain way, for RESULTS.md."""
    for name in _known(names):
        try_plain_average(name)
        click.echo(name)


@main.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def uniform_start(names: tuple[str, ...]) -> None:
    """Attack models of the zoo by R-FGSM with a random step that is drawn evenly, for RESULTS.md."""
    for name in _known(names):
        try_uniform_start(name)
        click.echo(name)


@main.command()
@click.argument(
    "folders",
    nargs=-1,
    required=True,
    metavar="FOLDER...",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)
@click.option("--trial", help="Keep them as the trial of this name; without it they count as the paper's experiment.")
def keep(folders: tuple[Path, ...], trial: str | None) -> None:
    """Keep what sweeps left in FOLDERs for RESULTS.md, without the weights."""
    for name in keep_runs(folders, trial):
        click.echo(name)


@main.command()
def results() -> None:
    """Write RESULTS.md from what was measured."""
    write_atomically(zoo_folder() / RESULTS, results_page().encode())


@main.command()
def table() -> None:
    """Print the models as a table in Markdown."""
    click.echo(zoo_table(read_manifest()), nl=False)


@main.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--namespace", required=True, metavar="ORG", help="The user or organisation to publish under.")
@click.option("--private", is_flag=True, help="Create repositories that only the organisation can see.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
def publish(names: tuple[str, ...], namespace: str, private: bool, dry_run: bool) -> None:
    """Publish models of the zoo on the Hugging Face Hub, after each was verified, and pin them in the manifest."""
    # First, as it refuses what the Hub's client would fail on where it is imported.
    hub_settings()
    from zoo.publish import publish_model

    for entry in [_find_entry(name) for name in names]:
        verify_entry(entry)
        click.echo(publish_model(entry, namespace, private=private, dry_run=dry_run))


@main.command()
@click.argument("dataset", type=click.Choice(list(DATASETS)))
@click.option("--data-root", type=click.Path(path_type=Path), default=Path("data"), show_default=True)
@click.option("--num-images", type=click.IntRange(min=1), default=1000, show_default=True)
def subset(dataset: str, data_root: Path, num_images: int) -> None:
    """Bundle test images: the first of each class, the same number from each."""
    record = bundle_subset(dataset, data_root, num_images)
    click.echo(f"{record.file}: {record.num_images} images, {record.num_bytes:,} bytes")


@main.command()
def samples() -> None:
    """Write one PNG of each digit from the bundled MNIST test images."""
    write_samples()


def _known(names: Sequence[str]) -> list[str]:
    """The names, when each is the zoo's: folders and repositories, which models have elsewhere, are no names here."""
    return [_find_entry(name).name for name in names]


def _find_entry(name: str) -> ManifestEntry:
    manifest = read_manifest()
    entry = manifest.find(name)
    if entry is None:
        known = ", ".join(entry.name for entry in manifest.models)
        raise click.ClickException(f"there is no entry {name!r}; the zoo has {known}")
    return entry


if __name__ == "__main__":
    main()
