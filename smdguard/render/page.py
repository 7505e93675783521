"""A report as one HTML page that needs nothing beside it."""

import base64
import json
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from smdguard.render import figures
from smdguard.render.attack_rows import attack_rows, nothing_left, surrogate_names
from smdguard.render.pictures import missing_pictures
from smdguard.render.style import to_svg
from smdguard.report import AuditReport, CurvePoint, Interval, SaliencyMaps
from smdguard.threat import ThreatModel
from smdguard.wording import counted, images_of, quoted

_HEADLINES = {
    "robust": "Robust: at least half of what it gets right withstands every attack tried",
    "fragile": "Fragile: it can be fooled",
    "unreliable": "Unreliable: do not trust the figure",
}
_MEANINGS = {
    "robust": "No attack tried halves the accuracy with changes of this size. That says nothing about "
    "larger changes, about other kinds of change, such as rotating or covering the image, or about attacks nobody has "
    "tried.",
    "fragile": "Whoever can alter the images can make it answer wrongly, as often as the figures above say. Where "
    "images come from people you do not trust, do not rely on this model's answer alone.",
    "unreliable": "The audit cannot tell how strong the model is; it may be far weaker than it looks. Treat it "
    "as fragile until a better audit says otherwise.",
}
_UNSTEADY = (
    "The model does not give an image the same output each time, so every figure here is one draw: it may be too low "
    "or too high. Treat the model as fragile until its outputs are reproducible and it is audited again."
)
_BESIDE_NUMBER = re.compile(r"(?<=\d) (?=%|nats\b)|(?:(?<=\bl2)|(?<=\blinf)|(?<=\bmember)|(?<=\bepsilon)) (?=\d)")


class _Table(NamedTuple):
    heading: list[str]
    rows: list[list[str]]


class _Figure(NamedTuple):
    """A figure, the text in its place for who cannot see it, what to make of it, and its numbers."""

    title: str
    source: str
    alternative: str
    caption: str
    numbers: _Table


def html(report: AuditReport) -> str:
    """The report as one self-contained HTML document."""
    environment = Environment(
        loader=PackageLoader("smdguard.render"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "bounds": _bounds, "as_json": _as_json, "unbroken": _unbroken}
    return environment.get_template("report.html").render(
        report=report,
        headline=_HEADLINES[report.verdict],
        meaning=_MEANINGS[report.verdict] if report.is_steady else _UNSTEADY,
        change=_change(report.threat),
        radius=f"{report.threat.norm} {report.threat.epsilon:.4g}",
        images=images_of(report.num_images, report.dataset),
        counted=counted,
        attack_rows=attack_rows(report),
        nothing_left=nothing_left(report),
        missing_pictures=missing_pictures(report),
        surrogates=surrogate_names(report),
        settings=list(dict.fromkeys(result.repr for result in report.attacks)),
        curve=_curve(report),
        figures=[figure for describe in _OTHERS if (figure := describe(report)) is not None],
    )


def _curve(report: AuditReport) -> _Figure | None:
    caption = (
        "Accuracy in the worst case over all attacks, for changes of growing size. The shaded bands are 95 % Wilson "
        "bounds. The curves end at the largest change that was tried; a large enough one fools every model."
    )
    curves, baseline = {"accuracy": _shares(report.whole_curve)}, report.baseline
    if baseline is not None:
        caption += (
            f" {baseline.name} is an ensemble of the same architecture, trained on the same data without any defence; "
            f"its curve comes from its own audit on {counted(baseline.num_images, 'image')}."
        )
        if baseline.preset != report.preset:
            caption += " The two were attacked with different presets, so the comparison is not even."
        curves[baseline.name] = _shares(baseline.curve)
    radii = sorted({radius for shares in curves.values() for radius in shares}, key=float)
    rows = [[radius, *(shares.get(radius, "") for shares in curves.values())] for radius in radii]
    return _figure(
        report,
        figures.accuracy_curve,
        "Accuracy as the change grows",
        "Line chart. " + " ".join(_in_words(name, shares) for name, shares in curves.items()),
        caption,
        _Table(["epsilon", *curves], rows),
    )


def _shares(curve: Sequence[CurvePoint]) -> dict[str, str]:
    """What a curve has at each radius, both as they are shown: others cannot be told apart."""
    return {f"{point.epsilon:.4g}": _percent(point.robust_accuracy.value) for point in curve}


def _in_words(name: str, shares: dict[str, str]) -> str:
    return f"{name}: " + ", ".join(f"{share} at epsilon {radius}" for radius, share in shares.items()) + "."


def _transfer(report: AuditReport) -> _Figure | None:
    if report.transfer is None:
        return None
    count = range(len(report.transfer.members))
    rows = [[str(i), *(_percent(share) for share in row)] for i, row in enumerate(report.transfer.members)]
    return _figure(
        report,
        figures.transfer_map,
        "Does what fools one member fool the others?",
        f"Heat map of the accuracy of {counted(len(count), 'member')} on images made to fool each of them.",
        f"Each row: images made to fool one member alone, at epsilon {report.transfer.epsilon:g}. Each column: how "
        "many of them a member still gets right. The less a fooling image carries over, the more the members differ. "
        "Even so, one that aims at all members at once may fool them all.",
        _Table(["crafted on", *(f"on member {i}" for i in count)], rows),
    )


def _saliency(report: AuditReport) -> _Figure | None:
    if report.exhibits is None or not report.exhibits.saliency:
        return None
    rows = [
        [figures.class_name(report, maps.label), f"{first} and {second}", f"{cosine:.3f}"]
        for maps in report.exhibits.saliency
        for (first, second), cosine in zip(_pairs(maps), maps.cosines, strict=True)
    ]
    return _figure(
        report,
        figures.saliency_maps,
        "Where the members look",
        f"Saliency maps of the members on {counted(len(report.exhibits.saliency), 'image')}, with the cosine of every "
        "pair.",
        "For each member, how brighter pixels would change its certainty: yellow raises it, dark blue lowers it, grey "
        "does nothing. The cosine of two maps is 1 where the members respond alike and 0 or below where they do not.",
        _Table(["image of", "members", "cosine"], rows),
    )


def _gallery(report: AuditReport) -> _Figure | None:
    if report.exhibits is None or not report.exhibits.gallery:
        return None
    rows = [
        [
            figures.class_name(report, one.label),
            _percent(one.clean_probability),
            figures.class_name(report, one.adversarial_label),
            _percent(one.adversarial_probability),
            one.attack,
        ]
        for one in report.exhibits.gallery
    ]
    return _figure(
        report,
        figures.gallery,
        "Images before and after",
        "Images, what the attack changed, and the result: "
        + "; ".join(
            f"{quoted(row[0])} {'still' if row[0] == row[2] else 'taken for'} {quoted(row[2])}" for row in rows
        ),
        f"Each image is from a different class. The attack changed {_change(report.threat)}; the change is shown "
        "amplified until its strongest pixel is black or white. In brackets: the probability that the model gives its "
        "answer. These are examples: how often it happens is the number at the top.",
        _Table(["image of", "before", "attacked: taken for", "after", "attack"], rows),
    )


def _disagreement(report: AuditReport) -> _Figure | None:
    if report.exhibits is None or report.exhibits.disagreement is None:
        return None
    values = report.exhibits.disagreement
    groups = [("clean", values.clean), ("fooling", values.adversarial)]
    rows = [
        [name, str(len(scores)), *(f"{scores[int(share * (len(scores) - 1))]:.3g}" for share in (0.1, 0.5, 0.9))]
        for name, unsorted in groups
        if (scores := sorted(unsorted))
    ]
    return _figure(
        report,
        figures.disagreement_histogram,
        "Does disagreement reveal an attack?",
        "Histogram of the members' disagreement on clean and on fooling images. "
        + "; ".join(f"{row[0]}: median {row[3]} nats" for row in rows),
        "How far the members' answers differ, on clean images and on those that fool the model. The further apart the "
        "two, the more attacks could be noticed. But these attacks do not try to keep the members agreeing; an "
        f"attack that does {_unnoticed(report)}.",
        _Table(["images", "number", "10th percentile", "median", "90th percentile"], rows),
    )


def _unnoticed(report: AuditReport) -> str:
    """What is known of the attack that tries to stay below the threshold, the last of the suspicion's."""
    if report.suspicion is None or not report.suspicion.attacks:
        return "is harder to notice"
    undetected = report.suspicion.attacks[-1].undetected.value
    return f"leaves {_percent(undetected)} of the images misclassified and not flagged"


_OTHERS: tuple[Callable[[AuditReport], _Figure | None], ...] = (_transfer, _saliency, _gallery, _disagreement)


def _figure(
    report: AuditReport,
    draw: Callable[[AuditReport], "figures.Figure | None"],
    title: str,
    alternative: str,
    caption: str,
    numbers: _Table,
) -> _Figure | None:
    figure = draw(report)
    if figure is None:
        return None
    source = f"data:image/svg+xml;base64,{base64.b64encode(to_svg(figure)).decode()}"
    return _Figure(title, source, alternative, caption, numbers)


def _pairs(maps: SaliencyMaps) -> list[tuple[int, int]]:
    count = range(len(maps.maps))
    return [(first, second) for first in count for second in count if first < second]


def _change(threat: ThreatModel) -> str:
    if threat.norm == "linf":
        return f"each pixel by at most {100 * threat.epsilon:.3g} % of the range from black to white"
    return f"all pixels together by at most {threat.epsilon:.3g} (Euclidean length, black to white is 1)"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def _bounds(interval: Interval) -> str:
    return f"{100 * interval.low:.1f} to {100 * interval.high:.1f}\N{NO-BREAK SPACE}%"


def _unbroken(sentence: str) -> str:
    """The sentence, each of whose numbers stays on one line with its unit or with what it is the number of."""
    return _BESIDE_NUMBER.sub("\N{NO-BREAK SPACE}", sentence)


def _as_json(evidence: dict) -> str:
    return json.dumps(evidence, indent=2, ensure_ascii=False)
