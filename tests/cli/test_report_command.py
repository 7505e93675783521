"""smdguard audit --output and smdguard report."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from smdguard import catalogue, render
from smdguard.cli.baseline import find_baseline
from smdguard.companions import read_baseline_audit
from smdguard.errors import IntegrityError
from smdguard.files import sha256
from smdguard.hub import find_model
from smdguard.manifest import Evaluation, EvaluationThreat, ModelConfig, Objective, serialise
from smdguard.model_folder import AUDIT
from smdguard.report import CurvePoint
from smdguard.threat import ThreatModel
from tests.cli.runners import OneLine, Run

FIGURES = {"curve", "transfer", "saliency", "gallery", "disagreement"}


@pytest.fixture(scope="module")
def audited(smdguard: Run, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit") / "new"
    options = ["--num-images", 10, "--attacks", "FGSM", "--device", "cpu", "--epsilons", "0.1:0.3:0.2"]
    smdguard("audit", "--model", tiny_folder, *options, "--output", folder)
    return folder


@pytest.fixture
def folder(audited: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(audited, tmp_path / "copy"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_audit_leaves_report_page_and_figures(audited: Path) -> None:
    figures = {f"figures/{name}.{kind}" for name in FIGURES for kind in ("png", "svg")}
    assert contents(audited).keys() == {"report.json", "report.html", *figures}
    assert (audited / "report.json").stat().st_size < 200_000


def test_report_renders_the_same_again(smdguard: Run, folder: Path, audited: Path) -> None:
    (folder / "report.html").unlink()
    shutil.rmtree(folder / "figures")
    result = smdguard("report", folder)
    assert (result.stdout, result.stderr) == (f"{folder / 'report.html'}\n", "")
    assert contents(folder) == contents(audited)


def test_a_back_end_for_screens_that_is_not_here_is_not_asked_for(folder: Path) -> None:
    """Notebooks name theirs to every process that they start."""
    (folder / "report.html").unlink()
    environment = {**os.environ, "MPLBACKEND": "module://of_a_notebook.backend"}
    command = [sys.executable, "-m", "smdguard", "report", str(folder)]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (answer.stdout, answer.stderr) == (f"{folder / 'report.html'}\n", "")


def test_figures_that_the_report_has_not_are_removed(smdguard: Run, folder: Path) -> None:
    document = json.loads((folder / "report.json").read_bytes())
    document.update(curve=[], exhibits=None)
    (folder / "report.json").write_text(json.dumps(document))
    (folder / "figures" / "mine.png").write_bytes(b"mine")
    result = smdguard("report", folder)
    assert {file.name for file in (folder / "figures").iterdir()} == {"transfer.png", "transfer.svg", "mine.png"}
    line = "This report has no pictures of images before and after an attack: the audit made none, or they were not "
    assert result.stderr == f"{line}stored with it.\n"
    assert line in (folder / "report.html").read_text()


def test_links_in_the_folder_are_not_followed(smdguard: Run, one_line: OneLine, folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    for file in ("key", "curve.png"):
        (mine / file).write_bytes(b"mine")
    for file in ("report.html", "figures/curve.png"):
        (folder / file).unlink()
        (folder / file).symlink_to(mine / "key")
    smdguard("report", folder)
    assert not (folder / "report.html").is_symlink()
    shutil.rmtree(folder / "figures")
    for name in ("figures", "partial"):
        (folder / name).symlink_to(mine)
        refusal = f"{folder / name} is a link, and must be a folder; remove it or choose another place"
        assert one_line("report", folder) == refusal
        # Even before it is noticed that there is no such model.
        assert one_line("audit", "--model", "none", "--output", folder) == refusal
        (folder / name).unlink()
    assert contents(mine) == {"key": b"mine", "curve.png": b"mine"}


@pytest.mark.parametrize("name", ["figures", "partial"])
def test_a_file_in_the_place_of_a_folder_is_found_before_the_audit(one_line: OneLine, folder: Path, name: str) -> None:
    shutil.rmtree(folder / name, ignore_errors=True)
    (folder / name).write_text("mine")
    refusal = f"{folder / name} is a file, and must be a folder; remove it or choose another place"
    assert one_line("report", folder) == refusal
    # Even before it is noticed that there is no such model.
    assert one_line("audit", "--model", "none", "--output", folder) == refusal
    assert (folder / name).read_text() == "mine"


@pytest.mark.parametrize("name", ["report.json", "report.html"])
def test_a_folder_in_the_place_of_a_file_is_found_before_the_audit(
    one_line: OneLine, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).mkdir()
    refusal = f"{tmp_path / name} is a folder, and must be a file; remove it or choose another place"
    assert one_line("audit", "--model", "none", "--output", tmp_path) == refusal


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff"])
def test_what_is_no_report_is_one_clear_line(one_line: OneLine, folder: Path, content: bytes) -> None:
    (folder / "report.json").write_bytes(content)
    assert f"{folder / 'report.json'} is not an audit report" in one_line("report", folder)


def test_folder_without_report_is_one_clear_line(one_line: OneLine, tmp_path: Path) -> None:
    line = one_line("report", tmp_path)
    assert line.startswith(f"{tmp_path / 'report.json'} cannot be read: No such file or directory; name the folder")


def test_folder_that_cannot_be_written_is_found_before_the_audit(one_line: OneLine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    output = tmp_path / "file" / "audit"
    # Even before it is noticed that there is no such model.
    assert one_line("audit", "--model", "none", "--output", output) == f"{output} cannot be written: Not a directory"


def test_report_needs_a_folder(one_line: OneLine) -> None:
    one_line("report", status=2)


@pytest.fixture
def audited_zoo(tiny_zoo: Path, audited: Path) -> Path:
    """A zoo whose naive ensemble was audited with a curve at 0.1 and 0.3."""
    content = (audited / "report.json").read_bytes()
    (tiny_zoo / "models" / "naive-lenet-mnist" / AUDIT).write_bytes(content)
    evaluation = Evaluation(
        threat=EvaluationThreat(norm="linf", epsilon=0.3),
        attack="worst_case",
        num_images=10,
        seed=0,
        clean_accuracy=0.5,
        robust_accuracy=0.0,
        report_sha256=sha256(content),
        versions={},
    )
    manifest = catalogue.read_manifest()
    models = tuple(entry.model_copy(update={"evaluations": (evaluation,)}) for entry in manifest.models)
    (tiny_zoo / "manifest.json").write_bytes(serialise(manifest.model_copy(update={"models": models})))
    catalogue.read_manifest.cache_clear()
    return tiny_zoo


def defended(config: ModelConfig) -> ModelConfig:
    return config.model_copy(update={"objective": Objective(name="smd")})


def test_baseline_is_the_curve_of_the_naive_ensemble(audited_zoo: Path, audited: Path) -> None:
    own = render.parse_report((audited / "report.json").read_bytes(), "report.json")
    naive = find_model("smd-lenet-mnist-s1").config
    config = defended(naive)
    whole = find_baseline(config, ThreatModel("linf", 0.3), quiet=False)
    assert whole is not None
    assert (whole.name, whole.preset, whole.num_images) == ("naive-lenet-mnist", None, 10)
    assert whole.curve == (CurvePoint(0.0, own.clean_accuracy), *own.curve)
    # No further than the audit goes, in no other norm, and not beside an undefended one.
    assert find_baseline(config, ThreatModel("linf", 0.2), quiet=False) == dataclasses.replace(
        whole, curve=whole.curve[:2]
    )
    assert find_baseline(config, ThreatModel("l2", 0.3), quiet=False) is None
    assert find_baseline(naive, ThreatModel("linf", 0.3), quiet=False) is None


def test_baseline_that_was_changed_is_refused(audited_zoo: Path) -> None:
    file = audited_zoo / "models" / "naive-lenet-mnist" / AUDIT
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(IntegrityError, match="is not the file that the manifest names"):
        read_baseline_audit(defended(find_model("smd-lenet-mnist-s1").config))


def test_an_audit_is_made_without_a_baseline_that_was_changed(
    smdguard: Run, audited_zoo: Path, tiny_copy: Path, edit_config: Callable[..., None]
) -> None:
    file = audited_zoo / "models" / "naive-lenet-mnist" / AUDIT
    file.write_bytes(file.read_bytes() + b" ")
    edit_config(tiny_copy, lambda config: config["objective"].update(name="smd"))
    options = ["--preset", "quick", "--num-images", 10, "--device", "cpu", "--epsilons", "0:0.1:0.1", "--json"]
    result = smdguard("audit", "--model", tiny_copy, *options)
    assert json.loads(result.stdout)["baseline"] is None
    assert f"no baseline: {file} is not the file that the manifest names" in result.stderr


def test_zoo_without_audits_has_no_baseline(tiny_zoo: Path) -> None:
    assert read_baseline_audit(defended(find_model("smd-lenet-mnist-s1").config)) is None
