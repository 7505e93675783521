"""Asking for a model on the Hub, and what comes back."""

from pathlib import Path

import pytest

import smdguard as sg
from smdguard.remote import Repository

ZOO_NAME = "naive-lenet-mnist"


def read_all(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def pinned(model: Repository) -> str:
    return f"{model.name}@{model.commit}"


def load(model: str) -> sg.Guard:
    """Both back ends, so that both files are read."""
    sg.load(model, backend="torch", device="cpu")
    return sg.load(model, backend="onnx", device="cpu")


def refusal(model: str, error: type[Exception]) -> str:
    with pytest.raises(error) as caught:
        load(model)
    assert "\n" not in str(caught.value)
    return str(caught.value)
