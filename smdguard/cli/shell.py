"""Commands as the user's shell takes them."""

import shlex
import sys
from collections.abc import Sequence


def typed(arguments: Sequence[str]) -> str:
    """The arguments on one line, to be typed or pasted; shells of Windows do not know single quotes as others do."""
    if sys.platform == "win32":
        from subprocess import list2cmdline

        return list2cmdline(arguments)
    return shlex.join(arguments)
