"""Processes that end in the middle of a pull leave nothing that loads wrongly."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from smdguard.model_folder import CONFIG, ONNX
from smdguard.remote import Repository
from tests.hub_server import Handler, HubServer
from tests.remote.asking import load, pinned, read_all


@pytest.mark.parametrize("file", [CONFIG, ONNX])
def test_killed_pull_leaves_nothing_that_loads_wrongly(
    hub_server: HubServer, model: Repository, hub_environment: dict[str, str], tiny_folder: Path, file: str
) -> None:
    started = []

    def stall(handler: Handler) -> None:
        handler.send(b"half", Content_Length="600000")
        started.append(True)
        time.sleep(2)

    hub_server.answers[file] = stall
    command = [sys.executable, "-m", "smdguard", "pull", pinned(model)]
    with subprocess.Popen(command, env=hub_environment, stderr=subprocess.DEVNULL) as process:
        while not started and process.poll() is None:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    hub_server.answers.clear()
    whole = read_all(tiny_folder)
    here = read_all(model.folder) if model.folder.exists() else {}
    assert here.items() <= whole.items()
    load(pinned(model))
    assert read_all(model.folder) == whole


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_pull_killed_while_it_writes(
    model: Repository, hub_environment: dict[str, str], tiny_folder: Path, step: str
) -> None:
    """The process ends itself with SIGKILL at its third write, before the file has its name."""
    script = f"""
import os, signal, sys
from pathlib import Path
owner, name = (os, "fsync") if {step!r} == "fsync" else (Path, "replace")
real, calls = getattr(owner, name), []
def die(*arguments):
    calls.append(arguments)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments)
setattr(owner, name, die)
from smdguard.hub import pull_model
pull_model(sys.argv[1])
"""
    answer = subprocess.run([sys.executable, "-c", script, pinned(model)], env=hub_environment, check=False)
    assert answer.returncode == -signal.SIGKILL
    load(pinned(model))
    whole = read_all(tiny_folder)
    assert {name: content for name, content in read_all(model.folder).items() if name[0] != "."} == whole
