"""The command line in this process; whatever it is asked, it shows no traceback and, piped, no colour."""

import io
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from smdguard.cli import main
from tests.cli.halves_module import MODULE
from tests.cli.runners import OneLine, Run


@pytest.fixture(scope="session")
def smdguard() -> Run:
    """Run the command and check what holds for every answer."""

    def run(*arguments: object, status: int = 0, stdin: bytes = b"") -> Result:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert "Traceback" not in result.output
        assert "\x1b" not in result.output
        assert result.exit_code == status, result.output
        return result

    return run


@pytest.fixture(scope="session")
def one_line(smdguard: Run) -> OneLine:
    """Run a command that fails, and return its one line on standard error."""

    def run(*arguments: object, status: int = 1) -> str:
        result = smdguard(*arguments, status=status)
        assert result.stdout == ""
        lines = result.stderr.splitlines()
        if status == 2:  # Wrong usage is preceded by how to use it.
            assert lines[0].startswith("Usage: ")
            lines = lines[3:]
        (line,) = lines
        assert line.startswith("Error: ")
        return line.removeprefix("Error: ")

    return run


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with two images, a picture in a folder below, and a file that is no image."""
    folder = tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    Image.linear_gradient("L").resize((28, 28)).save(folder / "b.png")
    Image.radial_gradient("L").resize((28, 28)).save(folder / "a.JPG", "JPEG")
    Image.radial_gradient("L").resize((28, 28)).save(folder / "below" / "c.png")
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(scope="session")
def png() -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((28, 28)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def halves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with images of two classes and a module with a model of them; it is the working directory."""
    for number in range(60):
        label = number % 2
        image = Image.new("L", (6, 6), 128)
        contrast = 5 + number
        image.paste(128 + contrast, (3 * label, 0, 3 * label + 3, 6))
        folder = tmp_path / "images" / ("left", "right")[label]
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / f"{number}.png")
    (tmp_path / "halves.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "halves", raising=False)
    return tmp_path
