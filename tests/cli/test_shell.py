"""Commands that reports and messages show can be typed again."""

import pytest

from smdguard.cli.shell import typed


@pytest.mark.parametrize(
    ("platform", "line"),
    [
        ("linux", r"""audit --data 'C:\two words' '' 'a'"'"'b' '[x]/*'"""),
        ("win32", r"""audit --data "C:\two words" "" a'b [x]/*"""),
    ],
)
def test_arguments_are_quoted_as_the_system_s_shell_takes_them(
    monkeypatch: pytest.MonkeyPatch, platform: str, line: str
) -> None:
    monkeypatch.setattr("sys.platform", platform)
    assert typed(["audit", "--data", r"C:\two words", "", "a'b", "[x]/*"]) == line
