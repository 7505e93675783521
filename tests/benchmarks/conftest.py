"""What all benchmarks have in common: how they compare, and the memory they find."""

from collections.abc import Callable, Iterator, Mapping
from time import perf_counter

import pytest

from smdguard.command_group import keep_freed_memory

Compare = Callable[[str, Mapping[str, Callable[[], object]], int], None]
"""What is compared, the cases, and how many rounds."""

TABLES = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TABLES] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for table in config.stash[TABLES]:
        terminalreporter.write_line(table)


@pytest.fixture(scope="session", autouse=True)
def memory_kept_as_by_the_command_lines() -> None:
    """Else what is measured first waits for memory that the rest finds at hand."""
    keep_freed_memory()


@pytest.fixture
def compare(benchmark, request: pytest.FixtureRequest) -> Compare:
    """Shows the shortest time of each case, and how many times the first one's it is.

    The cases take turns, so that the speed of a shared machine, which changes from second to second, is the same for
    all. The library's own table is of whole rounds. Where benchmarks are disabled, each case runs once.
    """

    def compare(title: str, cases: Mapping[str, Callable[[], object]], rounds: int) -> None:
        seconds: dict[str, list[float]] = {name: [] for name in cases}

        def take_turns() -> None:
            for name, case in cases.items():
                start = perf_counter()
                case()
                seconds[name].append(perf_counter() - start)

        if not benchmark.disabled:
            for warm_up in cases.values():
                warm_up()
        benchmark.pedantic(take_turns, rounds=rounds)
        if not benchmark.disabled:
            request.config.stash[TABLES].append("\n".join([f"\n{title}", *_rows(seconds)]))

    return compare


def _rows(seconds: Mapping[str, list[float]]) -> Iterator[str]:
    shortest = {name: min(times) for name, times in seconds.items()}
    first, width = next(iter(shortest.values())), max(map(len, shortest))
    for name, time in shortest.items():
        yield f"  {name:{width}}  {1000 * time:9,.1f} ms  {time / first:5.2f}"
