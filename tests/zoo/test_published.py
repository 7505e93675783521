"""Every published model is what its entry says."""

import json

import pytest
from huggingface_hub import ModelCard

from smdguard import render
from smdguard.catalogue import read_manifest
from smdguard.files import zoo_folder
from smdguard.hub import find_model
from smdguard.manifest import Manifest, ManifestEntry
from smdguard.model_folder import AUDIT, CARD, CONFIG, GOLDEN, ONNX, WEIGHTS
from zoo.card import model_card
from zoo.results import FILE, results_page
from zoo.verify import verify_entry

published = pytest.mark.parametrize("entry", read_manifest().models, ids=lambda entry: entry.name)


def test_schema_beside_the_manifest_is_that_of_the_code() -> None:
    schema = json.loads((zoo_folder() / "manifest.schema.json").read_bytes())
    assert schema == Manifest.model_json_schema()


def test_results_page_is_that_of_the_audits() -> None:
    assert (zoo_folder() / FILE).read_text("utf-8") == results_page()


@published
def test_published_model_verifies(entry: ManifestEntry) -> None:
    # `python -m zoo verify` attacks all images again. Larger networks take twenty times as long over one as a LeNet.
    num_images = 30 if entry.architecture.name == "lenet" else 10
    assert verify_entry(entry, num_images=num_images).startswith(f"{entry.name}: ")


@published
def test_published_card_is_generated_and_readable(entry: ManifestEntry) -> None:
    folder = find_model(entry.name)
    card = (folder.path / CARD).read_text()
    assert card == model_card(entry, folder.config, render.read_report(folder.path / AUDIT).suspicion)
    metadata = ModelCard(card).data.to_dict()
    assert metadata["model-index"][0]["name"] == entry.name
    assert metadata["datasets"] == [entry.training.dataset]


@published
def test_published_folder_holds_nothing_else(entry: ManifestEntry) -> None:
    folder = find_model(entry.name).path
    assert {file.name for file in folder.iterdir()} == {CONFIG, WEIGHTS, ONNX, GOLDEN, AUDIT, CARD}
    assert entry.weights.num_bytes == (folder / WEIGHTS).stat().st_size
