"""Cards say what a model is, to readers and to the Hub."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from huggingface_hub import ModelCard

from smdguard.hub import find_model
from smdguard.manifest import ManifestEntry, Objective, Suspicion
from smdguard.model_folder import CARD
from smdguard.report import Interval, SuspicionReport, SuspicionUnderAttack
from tests.zoo.conftest import NAME
from zoo.__main__ import main
from zoo.card import model_card
from zoo.citations import citation_of


def test_cards_are_written_anew(zoo: Path, entry: ManifestEntry) -> None:
    card = zoo / "models" / NAME / CARD
    before = card.read_bytes()
    card.unlink()
    assert CliRunner().invoke(main, ["cards"]).exit_code == 0
    assert card.read_bytes() == before


def test_card_says_how_the_model_was_trained(zoo: Path, entry: ManifestEntry) -> None:
    config = find_model(NAME).config
    assert "Objective: `naive`.\n1 epochs, seed 0" in model_card(entry, config, None)
    assert "preview" not in model_card(entry, config, None)
    objective = Objective(
        name="smd", parameters={"weight": 1.0, "init": "m@abc"}, adversarial_training={"adversary": "pgd"}
    )
    changed = entry.model_copy(update={"name": "smd-resnet20-cifar10-preview", "objective": objective})
    card = model_card(changed, config, None)
    assert "Objective: `smd` (weight 1.0, init m).\nAdversarial training: every step" in card
    assert "attacked first (adversary pgd).\n1 epochs, seed 0" in card
    assert "**A preview.** It was trained for 1 epochs, where the recipe has 200" in card


@pytest.mark.parametrize(
    ("method", "adversary", "authors"),
    [
        ("naive", None, []),
        ("naive", "pgd", ["Madry"]),
        ("gal", None, ["Kariyappa"]),
        ("smd", "eat", ["Bogun", "Tramèr"]),
        ("smd-plus", None, ["Bogun", "Yang"]),
    ],
)
def test_card_refers_to_who_published_the_method(
    entry: ManifestEntry, method: str, adversary: str | None, authors: list[str]
) -> None:
    objective = Objective(name=method, adversarial_training=adversary and {"adversary": adversary})
    citation = citation_of(objective)
    assert [reference.partition(",")[0] for reference in citation.split("; ") if reference] == authors
    card = model_card(entry.model_copy(update={"citation": citation}), find_model(NAME).config, None)
    assert ("## References" in card) == bool(authors)
    assert citation in card


def test_card_says_what_the_suspicion_is_worth(entry: ManifestEntry) -> None:
    half, nearly_all = (Interval(share, share, share) for share in (0.5, 0.987))
    attacks = tuple(
        SuspicionUnderAttack(name, name, half, None, undetected, None)
        for name, undetected in (("APGD-CE", half), ("adaptive", nearly_all))
    )
    suspicion = SuspicionReport(0.1, half, 200, attacks)
    config = find_model(NAME).config.model_copy(
        update={"suspicion": Suspicion(threshold=0.1, quantile=0.99, num_images=100, test_rate=0.0123)}
    )
    assert (
        "and 1.23 % of the test images. An adversary can stay below it: of 200 test images APGD-CE leaves 50.0 % "
        "misclassified and not flagged, an attack that knows of the threshold 98.7 %.\n"
    ) in model_card(entry, config, suspicion)


def test_card_opens_with_metadata_that_the_hub_reads(zoo: Path, entry: ManifestEntry) -> None:
    card = (zoo / "models" / NAME / CARD).read_text()
    metadata = ModelCard(card).data.to_dict()
    assert (metadata["license"], metadata["library_name"]) == ("apache-2.0", "smdguard")
    assert metadata["datasets"] == ["mnist"]
    clean, worst = metadata["model-index"][0]["results"][0]["metrics"]
    assert clean["value"] == pytest.approx(0.1)
    assert worst["name"] == "worst-case accuracy, linf 0.3"
    assert worst["value"] == pytest.approx(entry.evaluations[0].robust_accuracy, abs=1e-4)
    assert "{{" not in card
    assert "{%" not in card
    assert "None" not in card
