"""Functions of the user's own, named package.module:function, such as those that make models or members."""

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from smdguard.errors import InvalidInputError, SmdguardError

ANY_ERROR = (Exception, SystemExit)
"""What the user's code may raise: a script may exit, even with success, before it has given what was asked for."""

_FORM = re.compile(r"(?P<module>[^\W\d]\w*(\.[^\W\d]\w*)*):(?P<function>[^\W\d]\w*)")
# How one who has a file at hand may write it.
_FILE_FORM = re.compile(r"(?P<path>.+)\.py:(?P<function>[^\W\d]\w*)")


def is_factory(name: str) -> bool:
    """Whether the name is meant to be package.module:function, even with a file for its module; nothing is imported."""
    return any(form.fullmatch(name) for form in (_FORM, _FILE_FORM))


def import_factory(name: str) -> Callable[..., Any]:
    """The function package.module:function.

    As with `python -m`, the working directory is searched first, and still is when the function imports on its own.

    Raises:
        InvalidInputError: The name is of another form, the import fails, or it finds nothing that can be called.
    """
    if of_file := _FILE_FORM.fullmatch(name):
        raise InvalidInputError(
            f"{name} names a file, not a module; {_as_module(Path(of_file['path']), of_file['function'])}"
        )
    form = _FORM.fullmatch(name)
    if form is None:
        raise InvalidInputError(f"{name!r} is not of the form package.module:function")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        function = getattr(importlib.import_module(form["module"]), form["function"])
    except ANY_ERROR as error:
        raise InvalidInputError(f"{name} cannot be imported: {in_one_line(error)}") from error
    if not callable(function):
        raise InvalidInputError(f"{name} is not a function but of type {type(function).__name__}")
    return function


def _as_module(path: Path, function: str) -> str:
    """What to do about the function of a file, whose path comes without .py."""
    below, beside = f"{'.'.join(path.parts)}:{function}", f"{path.name}:{function}"
    if _FORM.fullmatch(below):
        return f"write {below}"
    if _FORM.fullmatch(beside):
        return f"go to its folder and write {beside}"
    return "rename it to what Python can import, and write package.module:function"


@contextmanager
def users_code(what: str, *, involved: bool, command: str = "smdguard") -> Iterator[None]:
    """Turns whatever the user's code raises, at any time, into one line; errors of ours stay as they are.

    Args:
        what: What the line begins with.
        involved: Whether the user's code takes part; if not, the error is ours.
        command: Whose --debug shows the traceback.

    Raises:
        SmdguardError: The user's code raised something.
    """
    try:
        yield
    except ANY_ERROR as error:
        if not involved or isinstance(error, SmdguardError):
            raise
        raise SmdguardError(f"{what}: {in_one_line(error)}; see {command} --debug") from error


def in_one_line(error: BaseException) -> str:
    """What the user's code raised: its kind and the first line of its message."""
    kind, first_line = type(error).__name__, str(error).partition("\n")[0]
    return f"{kind}: {first_line}" if first_line else kind
