"""The README's picture shows what the audits of its two models say."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from matplotlib.figure import Figure

from smdguard.files import zoo_folder
from smdguard.render import figures
from zoo.__main__ import main


def curve_of(name: str) -> list[tuple[float, float]]:
    """Radii and accuracies, from the clean accuracy on, as the file has them."""
    audit: dict[str, Any] = json.loads((zoo_folder() / "models" / name / "audit.json").read_bytes())
    worst = [(point["epsilon"], point["robust_accuracy"]["value"]) for point in audit["curve"]]
    return [(0.0, audit["clean_accuracy"]["value"]), *worst]


def test_its_curves_are_those_of_the_two_audits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []

    def keep(figure: Figure) -> bytes:
        drawn.append(figure)
        return b"the picture"

    monkeypatch.setattr(figures, "to_png", keep)
    monkeypatch.setattr("zoo.__main__.zoo_folder", lambda: tmp_path)
    result = CliRunner().invoke(main, ["picture"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "accuracy.png").read_bytes() == b"the picture"
    curves = {str(line.get_label()): list(zip(*line.get_data(), strict=True)) for line in drawn[0].axes[0].lines}
    assert curves == {
        "smd-lenet-mnist": curve_of("smd-lenet-mnist"),
        "naive-lenet-mnist, undefended": curve_of("naive-lenet-mnist"),
    }
