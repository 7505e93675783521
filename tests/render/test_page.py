"""The page: whole by itself, well-formed, safe, and with what its reader must know."""

import base64
import dataclasses
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from typing import Any

import pytest

from smdguard import render
from smdguard.report import AuditReport, Exhibits, Finding, Interval

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Checks that tags nest; keeps text, tags and attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_page_is_the_same_each_time(pages: dict[str, str], full: AuditReport) -> None:
    assert render.html(full) == pages["full"]


@pytest.mark.parametrize("name", ["bare", "full", "hostile"])
def test_page_asks_for_nothing_and_is_accessible(pages: dict[str, str], name: str) -> None:
    content = pages[name]
    page = Page(content)
    assert page.all("html") == [{"lang": "en"}]
    assert {name for name, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object", "base", "form"})
    for _, attributes in page.tags:
        assert all(not name.startswith("on") for name in attributes)
        for reference in ("src", "href", "srcset"):
            assert (attributes.get(reference) or "data:").startswith("data:")
    styles = re.findall(r"<style>(.*?)</style>", content, re.DOTALL)
    assert not re.search(r"url\(|@import", "".join(styles))
    assert all(image["alt"] for image in page.all("img"))
    assert all(heading.get("scope") in ("col", "row") for heading in page.all("th"))
    assert len(page.all("h1")) == 1
    metas = page.all("meta")
    assert "viewport" in [one.get("name") for one in metas]
    policies = [one["content"] for one in metas if one.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_first_screen_says_verdict_and_numbers(pages: dict[str, str]) -> None:
    text = Page(pages["full"]).text
    first, rest = text.split("Findings", maxsplit=1)
    assert "How hard is a-model to fool?" in first
    assert "Fragile: it can be fooled" in first
    assert "The model is right on 98.7 % of the clean images" in first
    assert "each pixel by at most 20 % of the range from black to white, it is right on at most 12.3 %" in first
    assert "an adversary can fool it." in first
    # The gravest finding comes first, then the curve.
    places = [rest.index(part) for part in ("high : gradient masking", "note : few steps", "Accuracy as the change")]
    assert places == sorted(places)


def test_page_holds_every_part_of_a_full_report(pages: dict[str, str]) -> None:
    page = Page(pages["full"])
    assert len(page.all("img")) == 5
    for part in (
        "from other",
        "52.1 %",
        "16.3 %",
        "PGD crafted on member 0",
        "Square: it is too slow",
        "naive-model is an ensemble of the same architecture",
        "attacked with different presets, so the comparison is not even",
        "leaves 54.0 % of the images misclassified and not flagged",
        "0.814",
        "They say nothing about attacks that nobody tried",
        "FGSM(num_steps=10)",
        "smdguard 0.1.0",
        '"transferred": 0.163',
    ):
        assert part in page.text, part


def test_one_of_anything_is_singular(single: AuditReport) -> None:
    page = Page(render.html(single))
    alternatives = [image["alt"] or "" for image in page.all("img")]
    for part in (
        '1 image of "fashion-mnist", linf 0.2',
        "on 1 image. The two were attacked",
        "Of 1 image at linf 0.2",
        "how far 1 image can speak",
        "accuracy of 1 member on images",
        "of the members on 1 image, with",
    ):
        assert any(part in text for text in (page.text, *alternatives)), part
    assert not re.search(r"(?<![\d.])1 \w+s\b", " ".join([page.text, *alternatives]))


def test_no_line_ends_between_a_number_and_its_unit(full: AuditReport) -> None:
    reason = "at l2 0.2 only 9.5 % of 1000 images withstand 12.5 nats"
    finding = Finding("few_steps", "note", "PGD leaves 5 % standing at epsilon 0.1", {})
    content = render.html(dataclasses.replace(full, verdict_reason=reason, findings=(finding,)))
    shown = re.sub(r"<style>.*?</style>|<pre>.*?</pre>|<[^>]*>", "", content, flags=re.DOTALL).replace("&nbsp;", "\xa0")
    for part in ("at l2\xa00.2 only 9.5\xa0% of 1000", "12.5\xa0nats", "5\xa0% standing at epsilon\xa00.1"):
        assert part in shown, part
    assert "PGD crafted on member\xa00" in shown
    assert not re.search(r"\d (%|nats|s)(?!\w)|(linf|l2|epsilon) \d", shown)


def test_attacks_that_nothing_was_left_for_are_named(bare: AuditReport, pages: dict[str, str]) -> None:
    idle = dataclasses.replace(bare.attacks[0], name="Square", repr="Square()", num_attacked=0)
    page = Page(render.html(dataclasses.replace(bare, attacks=(*bare.attacks, idle))))
    assert "Nothing was left to attack for Square." in page.text
    assert "Nothing was left" not in Page(pages["bare"]).text


NO_PICTURES = "This report has no pictures of images before and after an attack: "


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, "the audit made none, or they were not stored with it."),
        ({"partial": True}, "the audit was stopped before it made any."),
        ({"exhibits": Exhibits((), (), None)}, "the audit made none, or they were not stored with it."),
        ({"clean_accuracy": Interval(0.0, 0.0, 0.1)}, None),
    ],
)
def test_pictures_that_could_be_there_are_missed(bare: AuditReport, changes: dict[str, Any], why: str | None) -> None:
    report = dataclasses.replace(bare, **changes)
    for text in (Page(render.html(report)).text, " ".join(render.text(report).split())):
        assert (NO_PICTURES in text) == (why is not None)
        assert f"{NO_PICTURES}{why}" in text or why is None


def test_pictures_that_are_there_are_not_missed(full: AuditReport, pages: dict[str, str]) -> None:
    assert NO_PICTURES not in Page(pages["full"]).text
    assert "no pictures" not in render.text(full)


def test_classes_are_told_from_the_words_around_them(pages: dict[str, str]) -> None:
    alternative = next(image["alt"] or "" for image in Page(pages["full"]).all("img") if "the attack" in str(image))
    assert '"T-shirt/top" still "T-shirt/top"; "Trouser" still "Trouser"; "2" taken for "T-shirt/top"' in alternative


SENTENCES = {
    "robust": {
        "Robust: at least half of what it gets right withstands every attack tried",
        "No attack tried halves the accuracy",
    },
    "fragile": {"Fragile: it can be fooled", "Whoever can alter the images can make it answer wrongly"},
    "unreliable": {"Unreliable: do not trust the figure", "The audit cannot tell how strong the model is"},
}


@pytest.mark.parametrize("verdict", SENTENCES)
@pytest.mark.parametrize("partial", [False, True])
def test_each_verdict_has_its_sentences(bare: AuditReport, verdict: str, partial: bool) -> None:
    report = dataclasses.replace(bare, verdict=verdict, partial=partial)  # type: ignore[arg-type]
    text = Page(render.html(report)).text
    assert {sentence for each in SENTENCES.values() for sentence in each if sentence in text} == SENTENCES[verdict]
    assert "at most 12.3 %" in text
    assert ("stopped before all attacks were made" in text) == partial


@pytest.mark.parametrize("check", ["random_output", "depends_on_batch"])
@pytest.mark.parametrize("partial", [False, True])
def test_figures_that_are_draws_are_called_no_bounds(bare: AuditReport, check: str, partial: bool) -> None:
    report = dataclasses.replace(
        bare, verdict="unreliable", partial=partial, findings=(Finding(check, "high", "it wavers"),)
    )
    text = Page(render.html(report)).text
    assert "it is right on 12.3 % in these draws" in text
    assert "every figure here is one draw: it may be too low or too high" in text
    assert not any(claim in text for claim in ("at most 12.3", "upper bound", "only lower", "weaker than it looks"))


def test_of_an_audit_that_was_stopped_nothing_is_said_to_have_passed_the_checks(bare: AuditReport) -> None:
    text = Page(render.html(dataclasses.replace(bare, partial=True))).text
    assert "stopped before most of its checks were made" in text
    assert "found no sign" not in text


def test_the_curve_of_a_robust_model_is_not_said_to_have_to_fall(full: AuditReport) -> None:
    flat = tuple(dataclasses.replace(point, robust_accuracy=full.curve[0].robust_accuracy) for point in full.curve)
    text = Page(render.html(dataclasses.replace(full, curve=flat, verdict="robust"))).text
    assert "The curves end at the largest change that was tried" in text
    assert "to trust" not in text


def test_attacks_made_elsewhere_are_said_to_have_run_to_their_last_step(pages: dict[str, str]) -> None:
    text = Page(pages["full"]).text
    assert "crafted on another model or on one member alone ran to their last step, whatever early_stop" in text


def test_page_of_a_bare_report_leaves_out_what_is_missing(pages: dict[str, str]) -> None:
    page = Page(pages["bare"])
    assert page.all("img") == []
    assert not any(part in page.text for part in ("Would an attack be noticed", "Command", "Device"))
    assert "The checks found no sign" in page.text


def test_every_caption_is_what_stays_in_sight_when_its_table_is_scrolled(pages: dict[str, str]) -> None:
    captions = re.findall(r"<caption>(.*?)</caption>", pages["full"])
    assert len(captions) == 7
    assert all(caption.startswith("<span>") for caption in captions)
    assert re.search(r"caption span {[^}]*position: sticky; left: 0;", pages["full"])


def test_text_is_escaped(pages: dict[str, str]) -> None:
    content = pages["hostile"]
    assert "<script" not in content
    assert "&lt;script&gt;" in content
    assert "&amp;amp;" in content
    images = Page(content).all("img")
    assert len(images) == 5
    for image in images:
        drawing = ElementTree.fromstring(base64.b64decode((image["src"] or "").partition(",")[2]))
        assert not {element.tag.rpartition("}")[2] for element in drawing.iter()} & {"script", "foreignObject"}


class Rows(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1] and self.lasttag in ("td", "th", "small"):
            self.rows[-1][-1] += f" {data.strip()}" if self.lasttag == "small" else data.strip()


def test_radii_that_look_alike_are_one_row_and_the_text_beside_the_curve_has_both(full: AuditReport) -> None:
    assert full.baseline is not None
    stored = tuple(dataclasses.replace(point, epsilon=point.epsilon + 1e-9) for point in full.baseline.curve)
    page = render.html(dataclasses.replace(full, baseline=dataclasses.replace(full.baseline, curve=stored)))
    rows = [[cell.replace("\N{NO-BREAK SPACE}", " ") for cell in row] for row in Rows(page).rows]
    assert ["0.1", "40.0 %", "20.0 %"] in rows
    assert ["0.1", "40.0 %", ""] not in rows
    alternative = next(image["alt"] for image in Page(page).all("img") if "Line chart" in (image["alt"] or ""))
    assert alternative is not None
    assert "40.0\N{NO-BREAK SPACE}% at epsilon 0.1, " in alternative
    assert "naive-model: 99.0\N{NO-BREAK SPACE}% at epsilon" in alternative


def test_each_number_is_in_its_row_and_column(pages: dict[str, str]) -> None:
    rows = [[cell.replace("\N{NO-BREAK SPACE}", " ").strip() for cell in row] for row in Rows(pages["full"]).rows]
    for row in (
        ["none (clean images)", "98.7 % 95.7 to 100.0 %", ""],
        ["FGSM", "52.1 % 49.1 to 55.1 %", "16.3 % 13.3 to 19.3 %"],
        ["worst case", "12.3 % 9.3 to 15.3 %", ""],
        ["0.1", "40.0 %", "20.0 %"],
        ["1", "70.0 %", "10.0 %", "60.0 %"],
        ["T-shirt/top", "90.0 %", "T-shirt/top", "60.0 %", "PGD crafted on other"],
        ["clean", "3", "0", "0.01", "0.01"],
    ):
        assert row in rows, (row, rows)
