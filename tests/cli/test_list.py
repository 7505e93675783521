"""smdguard list."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from smdguard import render
from smdguard.catalogue import read_manifest
from smdguard.hub import find_model
from smdguard.manifest import ManifestEntry
from smdguard.model_folder import AUDIT
from tests.cli.runners import Run

KEYS = {
    "name",
    "dataset",
    "num_members",
    "clean_accuracy",
    "worst_case_accuracy",
    "epsilon",
    "verdict",
    "num_bytes",
    "where",
}


def test_json_has_the_promised_keys(smdguard: Run, tiny_zoo: Path) -> None:
    document = json.loads(smdguard("list", "--json").stdout)
    assert document.keys() == {"models"}
    assert {row["name"]: row.keys() == KEYS for row in document["models"]} == {
        "naive-lenet-mnist": True,
        "naive-lenet-mnist-s1": True,
        "smd-lenet-mnist-s1": True,
    }
    first = document["models"][0]
    folder = tiny_zoo / "models" / "naive-lenet-mnist"
    size = sum((folder / file).stat().st_size for file in ("model.safetensors", "model.onnx"))
    assert (first["dataset"], first["num_members"], first["num_bytes"]) == ("mnist", 3, size)
    assert (first["where"], first["verdict"]) == ("checkout", "fragile")


def test_table_has_a_line_for_each_model(smdguard: Run, tiny_zoo: Path) -> None:
    heading, *lines = smdguard("list").stdout.splitlines()
    assert heading.split()[0] == "name"
    assert [line.split()[0] for line in lines] == ["naive-lenet-mnist", "naive-lenet-mnist-s1", "smd-lenet-mnist-s1"]


@pytest.mark.parametrize("entry", read_manifest().models, ids=lambda entry: entry.name)
def test_real_models_are_listed_with_their_audits(smdguard: Run, entry: ManifestEntry) -> None:
    rows = {row["name"]: row for row in json.loads(smdguard("list", "--json").stdout)["models"]}
    row = rows[entry.name]
    assert row.keys() == KEYS
    report = render.read_report(find_model(entry.name).path / AUDIT)
    assert row["worst_case_accuracy"] == report.worst_case.robust_accuracy.value
    assert (row["clean_accuracy"], row["epsilon"]) == (report.clean_accuracy.value, report.threat.epsilon)
    assert row["where"] in {"checkout", "bundled"}
    assert row["verdict"] == entry.verdict


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"]])
def test_a_full_disk_is_one_line(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        answer = subprocess.run(
            [sys.executable, "-m", "smdguard", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, "PYTHONUNBUFFERED": ""},
        )
    assert answer.stderr == "Error: standard output cannot be written: No space left on device\n"
    assert answer.returncode == 1
