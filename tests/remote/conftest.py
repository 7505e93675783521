"""A model on the Hub."""

from pathlib import Path

import pytest

from smdguard.remote import Repository
from tests.hub_server import HubServer
from tests.remote.asking import read_all


@pytest.fixture
def model(hub_server: HubServer, tiny_folder: Path) -> Repository:
    """The tiny model in somebody's repository."""
    return Repository("org/tiny", hub_server.host("org/tiny", read_all(tiny_folder)))
