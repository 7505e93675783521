"""What all benchmarks have in common."""

import pytest

from smdguard.command_group import keep_freed_memory


@pytest.fixture(scope="session", autouse=True)
def memory_kept_as_by_the_command_lines() -> None:
    """Else what is measured first waits for memory that the rest finds at hand."""
    keep_freed_memory()
