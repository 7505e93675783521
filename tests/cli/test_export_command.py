"""smdguard export."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.runners import OneLine, Run


def test_another_process_exports_the_same_bytes(tiny_folder: Path, tiny_onnx: bytes, tmp_path: Path) -> None:
    output = tmp_path / "new" / "model.onnx"
    script = "from smdguard.cli import main; main()"
    arguments = ["export", str(tiny_folder), "--output", str(output)]
    answer = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == ""
    assert answer.stderr == f"{output}: {len(tiny_onnx):,} bytes\n"
    assert output.read_bytes() == tiny_onnx
    assert list(output.parent.iterdir()) == [output]


def test_default_output_is_named_after_the_model(
    smdguard: Run, tiny_folder: Path, tiny_onnx: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = smdguard("export", tiny_folder, "--quiet")
    assert result.output == ""
    assert (tmp_path / "tiny-lenet-mnist.onnx").read_bytes() == tiny_onnx


def test_what_cannot_be_exported_is_one_clear_line(one_line: OneLine, tiny_copy: Path) -> None:
    assert "there is no model 'none'" in one_line("export", "none")
    (tiny_copy / "model.safetensors").unlink()
    assert one_line("export", tiny_copy).startswith(f"{tiny_copy / 'model.safetensors'} cannot be read: ")


def test_place_that_cannot_be_written_is_one_clear_line(one_line: OneLine, tiny_folder: Path) -> None:
    output = tiny_folder / "config.json" / "below" / "model.onnx"
    assert one_line("export", tiny_folder, "--output", output) == f"{output} cannot be written: Not a directory"


@pytest.mark.parametrize("arguments", [[], ["a", "--to", "tflite"], ["a", "--output", "."]])
def test_wrong_usage_has_status_2(one_line: OneLine, arguments: list[str]) -> None:
    one_line("export", *arguments, status=2)
