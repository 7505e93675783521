"""Functions of the user's own: found by name beside the user, and refused in one line."""

import sys
from pathlib import Path

import pytest

from smdguard.errors import InvalidInputError
from smdguard.factories import import_factory, in_one_line, is_factory

MODULE = """
def network(image_shape, num_classes):
    from neighbour_of_factories import ANSWER
    return image_shape, num_classes, ANSWER

answer = 42
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory has modules, and Python was not told to search it."""
    (tmp_path / "own_factories.py").write_text(MODULE)
    (tmp_path / "neighbour_of_factories.py").write_text("ANSWER = 42")
    (tmp_path / "broken_factories.py").write_text("raise ValueError('first line\\nsecond line')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place not in ("", str(tmp_path))])
    (tmp_path / "script_factories.py").write_text("import sys\nsys.exit()")
    for module in ("own_factories", "neighbour_of_factories"):
        monkeypatch.delitem(sys.modules, module, raising=False)


@pytest.mark.parametrize("name", ["module:function", "package.module:function", "_a1.b_2:C", "größe:Modell"])
def test_a_factory_is_a_module_and_a_function(name: str) -> None:
    assert is_factory(name)


@pytest.mark.parametrize(
    "name",
    ["", "lenet", ":b", "a:", "a:b:c", "a:b.c", "a..b:c", ".a:b", "../a:b", "1a:b", "a:1b", "a b:c", "a:b()", "a:b\n"],
)
def test_other_names_are_no_factories(name: str) -> None:
    assert not is_factory(name)
    with pytest.raises(InvalidInputError, match=r"is not of the form package\.module:function$") as caught:
        import_factory(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("own_factories.py:network", "write own_factories:network"),
        ("./own_factories.py:network", "write own_factories:network"),
        ("nets/own_factories.py:network", "write nets.own_factories:network"),
        ("/nets/own_factories.py:network", "go to its folder and write own_factories:network"),
        ("../own_factories.py:network", "go to its folder and write own_factories:network"),
        ("my-nets/own_factories.py:network", "go to its folder and write own_factories:network"),
        ("own-factories.py:network", "rename it to what Python can import, and write package.module:function"),
    ],
)
def test_a_file_is_refused_with_the_module_to_name(name: str, advice: str) -> None:
    assert is_factory(name)
    with pytest.raises(InvalidInputError) as caught:
        import_factory(name)
    assert str(caught.value) == f"{name} names a file, not a module; {advice}"
    assert "own_factories" not in sys.modules


def test_telling_a_factory_imports_nothing() -> None:
    assert is_factory("own_factories:network")
    assert "own_factories" not in sys.modules


def test_the_working_directory_is_searched_then_and_when_the_function_is_called() -> None:
    assert import_factory("own_factories:network")((1, 2, 3), 4) == ((1, 2, 3), 4, 42)
    import_factory("own_factories:network")
    assert sys.path.count("") == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_factories:answer", "own_factories:answer is not a function but of type int"),
        (
            "own_factories:absent",
            "own_factories:absent cannot be imported: AttributeError: module 'own_factories' has no attribute 'absent'",
        ),
        (
            "no.such.module:network",
            "no.such.module:network cannot be imported: ModuleNotFoundError: No module named 'no'",
        ),
        ("broken_factories:network", "broken_factories:network cannot be imported: ValueError: first line"),
        ("script_factories:network", "script_factories:network cannot be imported: SystemExit"),
    ],
)
def test_what_cannot_be_had_is_one_clear_line(name: str, message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        import_factory(name)
    assert str(caught.value) == message


def test_an_error_without_a_message_is_its_kind() -> None:
    assert in_one_line(NotImplementedError()) == "NotImplementedError"
    assert in_one_line(NotImplementedError("not yet\nsorry")) == "NotImplementedError: not yet"
