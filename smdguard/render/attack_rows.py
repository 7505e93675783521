"""The attacks of a report as rows of a table: what each left standing, white-box and from each surrogate."""

import re
from typing import TYPE_CHECKING, NamedTuple

from smdguard.wording import listed

if TYPE_CHECKING:
    from smdguard.report import AttackResult, AuditReport, Interval

_SETTING = re.compile(r"(\w+)=(\([^()]*\)|[^,()]+)")


class AttackRow(NamedTuple):
    """One attack at the audit's radius.

    Args:
        heading: Its name, with the settings that tell it from others of that name, the images that it was made on where
            that was not all, and the member that it was crafted on where that was not the whole model.
        cells: Accuracy when crafted on the model, then on each surrogate; None where it was not.
    """

    heading: str
    cells: "tuple[Interval | None, ...]"


def surrogate_names(report: "AuditReport") -> list[str]:
    """What the black-box attacks at the audit's radius were made on."""
    return list(dict.fromkeys(result.source for result in _at_radius(report) if result.access == "black-box"))


def attack_rows(report: "AuditReport") -> list[AttackRow]:
    """A row for each attack at the audit's radius, for each member that was attacked alone, and for smaller radii.

    What is found in a smaller ball lies in the larger one.
    """
    results = [result for result in _at_radius(report) if result.access != "member"]
    members = [result for result in _at_radius(report) if result.access == "member"]
    rows, elsewhere = [], (None,) * len(surrogate_names(report))
    for settings in dict.fromkeys(result.repr for result in results):
        same = [result for result in results if result.repr == settings]
        direct = next((result for result in same if result.access == "white-box"), None)
        by_source = {result.source: result for result in same if result.access == "black-box"}
        cells = [direct, *(by_source.get(source) for source in surrogate_names(report))]
        heading = _heading(same[0], results)
        if same[0].num_attacked < report.num_images:
            heading = f"{heading} on the {same[0].num_attacked} still standing"
        rows.append(AttackRow(heading, tuple(cell and cell.robust_accuracy for cell in cells)))
    rows += [
        AttackRow(f"{result.name} crafted on {result.source}", (result.robust_accuracy, *elsewhere))
        for result in members
    ]
    smaller = [point for point in report.curve if point.epsilon < report.threat.epsilon]
    if smaller:
        heading = f"all attacks up to {smaller[-1].epsilon:.4g}"
        rows.append(AttackRow(heading, (smaller[-1].robust_accuracy, *elsewhere)))
    return rows


def nothing_left(report: "AuditReport") -> str:
    """The sentence on pursuits at the audit's radius that found no image standing, which are no rows; or nothing.

    What stands after them is what stood before.
    """
    made = {result.name for result in _at_radius(report)}
    idle = [one.name for one in report.attacks if one.epsilon == report.threat.epsilon and not one.num_attacked]
    names = [f"other runs of {name}" if name in made else name for name in dict.fromkeys(idle)]
    return f"Nothing was left to attack for {listed(names)}." if names else ""


def _heading(result: "AttackResult", results: "list[AttackResult]") -> str:
    own = _settings(result.repr)
    others = [_settings(other.repr) for other in results if other.name == result.name]
    telling = {name: value for name, value in own.items() if any(other.get(name) != value for other in others)}
    return ", ".join([result.name, *(f"{name} {value}" for name, value in telling.items())])


def _settings(text: str) -> dict[str, str]:
    """The settings in an attack's repr, such as PGD(loss='ce', num_steps=10)."""
    return {name: value.strip("'") for name, value in _SETTING.findall(text)}


def _at_radius(report: "AuditReport") -> "list[AttackResult]":
    """Those that there was something for: of pursuits, those that something was left to."""
    return [result for result in report.attacks if result.epsilon == report.threat.epsilon and result.num_attacked]
