"""Audits of the zoo's models."""

from pathlib import Path

import pytest

from smdguard.auditing.crafting import Workshop
from smdguard.auditing.partial_results import PartialResults
from smdguard.manifest import ModelConfig, read_record
from smdguard.model_folder import CONFIG
from training.audits import PARTIAL
from zoo.audits import audit_zoo_model


def test_an_audit_that_was_cut_off_goes_on(tiny_zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_zoo / "models" / "naive-lenet-mnist"
    config = read_record(ModelConfig, folder / CONFIG)

    def audited() -> dict[str, object]:
        report = audit_zoo_model(folder, config, "quick", radii=[0.1], num_images=10)
        return {**vars(report), "seconds": None}

    with monkeypatch.context() as patch:
        patch.setattr(PartialResults, "discard", lambda self: None)
        first = audited()
    assert (folder / PARTIAL).is_dir()
    with monkeypatch.context() as patch:
        patch.setattr(Workshop, "craft", lambda *_: pytest.fail("it was made already"))
        assert audited() == first
    assert not (folder / PARTIAL).exists()
