"""Reports and predictions for the terminal."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from smdguard.errors import printable
from smdguard.render.attack_rows import attack_rows, nothing_left, surrogate_names
from smdguard.render.pictures import missing_pictures
from smdguard.wording import counted, images_of, percent, quoted

if TYPE_CHECKING:  # It would import torch, which predictions do without.
    from smdguard.report import AuditReport, Interval, SuspicionReport, TransferMatrix

_VERDICT_STYLE = {"robust": "bold green", "fragile": "bold yellow", "unreliable": "bold red"}
_SEVERITY_STYLE = {"high": "bold red", "medium": "yellow", "note": "dim"}


def predictions_view(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """The predictions as a table; each row as `smdguard predict --json` gives it."""
    table = Table(box=None, pad_edge=False)
    table.add_column("image", overflow="fold")  # The end of a path is what tells images apart.
    table.add_column("label")
    for heading in ("probability", "agreement"):
        table.add_column(heading, justify="right")
    table.add_column("suspicious")
    suspicious = {True: Text("yes", style="bold yellow"), False: Text("no"), None: Text("not calibrated")}
    for row in rows:
        if "error" in row:
            table.add_row(printable(row["image"]), Text("not read", style="red"))
        else:
            table.add_row(
                printable(row["image"]),
                printable(row["label"]),
                percent(row["probability"], 2),
                percent(row["agreement"], 0),
                suspicious[row["suspicious"]],
            )
    return table


def zoo_view(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """The models of the zoo as a table; each row as `smdguard list --json` gives it."""
    table = Table(box=None, pad_edge=False)
    table.add_column("name", no_wrap=True, overflow="fold")
    for heading in ("data set", "members"):
        table.add_column(heading)
    for heading in ("clean", "worst case", "at epsilon"):
        table.add_column(heading, justify="right")
    for heading in ("verdict", "size", "where"):
        table.add_column(heading)
    for row in rows:
        audited = row["epsilon"] is not None
        table.add_row(
            row["name"],
            row["dataset"],
            str(row["num_members"]),
            percent(row["clean_accuracy"]) if audited else "",
            percent(row["worst_case_accuracy"]) if audited else "",
            f"{row['epsilon']:.3g}" if audited else "",
            Text(row["verdict"], style=_VERDICT_STYLE[row["verdict"]]),
            f"{row['num_bytes'] / 1e6:.1f} MB",
            row["where"],
        )
    return table


def audit_view(report: "AuditReport") -> RenderableType:
    """The report for a terminal: verdict first, then the attacks, the curve, the members and the findings.

    Names and sentences can come from files of others, so no character of theirs is one that a terminal would obey.
    """
    parts: list[RenderableType] = [_headline(report), Text(), _attack_table(report)]
    if idle := nothing_left(report):
        parts += [Text(), Text(printable(idle))]
    if report.curve:
        parts += [Text(), _curve_table(report)]
    if report.transfer is not None:
        parts += [Text(), _transfer_table(report.transfer)]
    if report.suspicion is not None:
        parts += [Text(), _suspicion_table(report.suspicion)]
    for finding in report.findings:
        heading = Text(printable(f"{finding.severity}: {finding.check}"), style=_SEVERITY_STYLE[finding.severity])
        parts += [Text(), heading, Padding(printable(finding.message), (0, 0, 0, 2), expand=False)]
    if report.impossible:
        reasons = [printable(f"Not possible: {one.name}, because {one.reason}.") for one in report.impossible]
        parts += [Text(), *map(Text, reasons)]
    if missing := missing_pictures(report):
        parts += [Text(), Text(missing)]
    parts += [Text(), Text(_footnote(report), style="dim")]
    return Group(*parts)


def text(report: "AuditReport") -> str:
    """The report as plain text, without colour."""
    stream = io.StringIO()
    console = Console(file=stream, width=120, no_color=True, force_terminal=False, markup=False, emoji=False)
    console.print(audit_view(report))
    return stream.getvalue()


def _headline(report: "AuditReport") -> RenderableType:
    verdict = Text(report.verdict.upper(), style=_VERDICT_STYLE[report.verdict])
    images = images_of(report.num_images, report.dataset)
    audited = printable(f"{quoted(report.model)}, {images}, {report.threat.norm} {report.threat.epsilon:.4g}")
    title = Text.assemble(verdict, "  ", audited)
    if report.partial:
        title.append("  PARTIAL: stopped before all attacks were made", style="bold red")
    return Group(title, Text(printable(report.verdict_reason[:1].upper() + report.verdict_reason[1:])))


def _attack_table(report: "AuditReport") -> Table:
    """An attack a row; a column for the model itself and for each surrogate."""
    table = Table("accuracy under attack", box=None, pad_edge=False)
    for heading in ("white-box", *(printable(f"from {source}") for source in surrogate_names(report))):
        table.add_column(heading, justify="right")
    table.add_row("clean", _share(report.clean_accuracy))
    for row in attack_rows(report):
        table.add_row(printable(row.heading), *("" if cell is None else _share(cell) for cell in row.cells))
    table.add_row(Text("worst case", style="bold"), Text(_share(report.worst_case.robust_accuracy), style="bold"))
    return table


def _curve_table(report: "AuditReport") -> Table:
    table = Table("epsilon", box=None, pad_edge=False)
    table.add_column("worst case", justify="right")
    for point in report.curve:
        table.add_row(f"{point.epsilon:.4g}", _share(point.robust_accuracy))
    return table


def _transfer_table(transfer: "TransferMatrix") -> Table:
    table = Table(printable(f"{transfer.name} at {transfer.epsilon:.4g}"), box=None, pad_edge=False)
    for target in range(len(transfer.members)):
        table.add_column(f"on member {target}", justify="right")
    for source, row in enumerate(transfer.members):
        table.add_row(f"crafted on member {source}", *map(percent, row))
    return table


def _suspicion_table(suspicion: "SuspicionReport") -> Table:
    """Per attack: what is wrong under it, what of that is flagged, and what gets through."""
    table = Table(f"suspicion, {counted(suspicion.num_images, 'image')}", box=None, pad_edge=False)
    for heading in ("still right", "flagged among misclassified", "misclassified, not flagged", "AUROC"):
        table.add_column(heading, justify="right")
    table.add_row("clean", "", f"{_share(suspicion.clean_flagged)} flagged", "", "")
    for attack in suspicion.attacks:
        flagged = "none misclassified" if attack.flagged is None else _share(attack.flagged)
        area = "" if attack.auroc is None else f"{attack.auroc:.3f}"
        table.add_row(printable(attack.name), _share(attack.robust_accuracy), flagged, _share(attack.undetected), area)
    return table


def _share(interval: "Interval") -> str:
    return f"{percent(interval.value)} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def _footnote(report: "AuditReport") -> str:
    return (
        f"In brackets: 95 % Wilson bounds for all images of this kind; they say nothing about attacks nobody tried. "
        f"Seed {report.seed}, {report.seconds:.0f} s."
    )
