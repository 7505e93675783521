"""How long a user waits for the command line, from a cold process."""

import subprocess
import sys

import pytest


def run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


CALLS = {
    "python -c pass": ("-c", "pass"),
    "import smdguard": ("-c", "import smdguard"),
    "smdguard --help": ("-m", "smdguard", "--help"),
    "smdguard predict": ("-m", "smdguard", "predict", "zoo/samples/digit-3.png"),
}


@pytest.mark.benchmark(group="start of a process")
@pytest.mark.parametrize("call", CALLS)
def test_start(benchmark, call: str) -> None:
    benchmark.pedantic(run, args=CALLS[call], rounds=7, warmup_rounds=1)
