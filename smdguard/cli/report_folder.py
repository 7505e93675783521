"""The folder of an audit: report.json, and what is rendered from it."""

import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from smdguard.errors import SmdguardError
from smdguard.files import is_folder, named_errors, write_atomically

if TYPE_CHECKING:
    from smdguard.report import AuditReport

DOCUMENT = "report.json"
PAGE = "report.html"
FIGURES = "figures"
PARTIAL = "partial"


def require_writable(folder: Path) -> None:
    """Make the folder and try it, before hours are spent on what goes into it.

    Raises:
        SmdguardError: Nothing can be written there, or something else is in the place of a file or folder of a report.
    """
    with named_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    _refuse_obstacles(folder)


def _refuse_obstacles(folder: Path) -> None:
    """What cannot be replaced by what goes into the folder is left to the user to remove."""
    for inside in (folder / FIGURES, folder / PARTIAL):
        # In a folder from someone else it may lead anywhere, and files there would be overwritten and removed.
        if inside.is_symlink():
            raise _obstacle(inside, "a link", "a folder")
        if inside.exists() and not is_folder(inside):
            raise _obstacle(inside, "a file", "a folder")
    for inside in (folder / DOCUMENT, folder / PAGE):
        # A link to a folder is replaced as any other.
        if is_folder(inside) and not inside.is_symlink():
            raise _obstacle(inside, "a folder", "a file")


def _obstacle(path: Path, found: str, needed: str) -> SmdguardError:
    return SmdguardError(f"{path} is {found}, and must be {needed}; remove it or choose another place")


def write_report(report: "AuditReport", folder: Path) -> None:
    """Write the report and everything that is rendered from it.

    Raises:
        SmdguardError: A file cannot be written.
    """
    from smdguard import render

    write_atomically(folder / DOCUMENT, render.serialise(report))
    write_renderings(report, folder)


def write_renderings(report: "AuditReport", folder: Path) -> None:
    """Write page and figures, and remove figures that an earlier report had and this one has not.

    Raises:
        SmdguardError: The folder cannot be written, or something else is in the place of a file or folder of a report.
    """
    from smdguard import render

    _refuse_obstacles(folder)
    # Notebooks name a back end that need not be installed here, and files are drawn without any.
    os.environ["MPLBACKEND"] = "agg"
    # It would say on standard error that it fills its cache of fonts.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    files = render.figure_files(report)
    write_atomically(folder / PAGE, render.html(report).encode())
    for name, content in files.items():
        write_atomically(folder / FIGURES / name, content)
    with named_errors(folder):
        for name in render.figure_names() - files.keys():
            (folder / FIGURES / name).unlink(missing_ok=True)
