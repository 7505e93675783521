"""What the packages promise by name is there."""

from types import ModuleType

import pytest

import smdguard
from smdguard import auditing, render


@pytest.mark.parametrize("package", [smdguard, auditing, render], ids=lambda package: package.__name__)
def test_every_public_name_can_be_had(package: ModuleType) -> None:
    assert len(package.__all__) > 2
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="nowhere"):
        _ = package.nowhere
