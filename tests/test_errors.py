"""What smdguard refuses is said in one printable line, whatever names came in."""

import pytest

from smdguard.errors import IntegrityError, UnknownModelError


@pytest.mark.parametrize("kind", [IntegrityError, UnknownModelError])
def test_a_message_is_one_printable_line(kind: type[Exception]) -> None:
    assert str(kind("there is no a\nb\x1b[31m\udcff\u202e é")) == "there is no a?b?[31m?? é"
