"""Networks that do not work: nobody waits for long, and one line says what is wrong."""

import re
import socket
import time
from collections.abc import Iterator
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import constants

from smdguard import remote
from smdguard.errors import HubError
from smdguard.hub import find_model
from smdguard.model_folder import CONFIG
from smdguard.remote import Repository
from tests.hub_server import Handler, HubServer
from tests.remote.asking import pinned, refusal


def test_refused_connection_is_one_attempt(
    model: Repository, monkeypatch: pytest.MonkeyPatch, unused_endpoint: str
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", unused_endpoint)
    template = unused_endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    connect, attempts = socket.socket.connect, []

    def count(self: socket.socket, address: Any) -> None:
        attempts.append(address)
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", count)
    message = refusal(pinned(model), HubError)
    assert message.startswith(f"{unused_endpoint} cannot be asked for {CONFIG} of {pinned(model)}: ")
    assert len(attempts) == 1


@pytest.fixture
def unused_endpoint() -> Iterator[str]:
    with socket.socket() as probe:  # Bound, but not listening, for as long as it is asked.
        probe.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.parametrize("name", ["org/tiny", "org/tiny@" + "0" * 40])
def test_hub_that_never_answers_is_not_waited_for(
    hub_server: HubServer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(remote, "_ANSWER_SECONDS", 0.2)
    asked, given_up = Event(), Event()

    def never_answer(handler: Handler) -> None:
        asked.set()
        given_up.wait()

    hub_server.answers[CONFIG] = never_answer
    assert "no answer within 0.2 seconds" in refusal(name, HubError)
    # On a busy machine the question leaves only after it was given up.
    assert asked.wait(timeout=30)
    assert len(hub_server.requests) == 1
    given_up.set()


def test_name_lookup_that_hangs_is_not_waited_for(model: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    given_up = Event()

    def hang(*_: object, **__: object) -> None:
        given_up.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(remote, "_ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", hang)
    assert "no answer within 0.2 seconds" in refusal(pinned(model), HubError)
    given_up.set()


@pytest.mark.filterwarnings("ignore::smdguard.errors.UnpinnedRevisionWarning")
def test_slow_answer_is_waited_for_as_long_as_the_user_has_set(
    hub_server: HubServer, model: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer_late(handler: Handler) -> None:
        time.sleep(0.5)
        handler.route(handler.path)

    hub_server.answers[CONFIG] = answer_late
    monkeypatch.setattr(remote, "_ANSWER_SECONDS", 0.1)
    for variable, name in (("HF_HUB_ETAG_TIMEOUT", "org/tiny"), ("HF_HUB_DOWNLOAD_TIMEOUT", pinned(model))):
        assert re.search(rf"no answer within 0\.1 seconds; .* set .*{variable}.* to more", refusal(name, HubError))
        monkeypatch.setenv(variable, "60")
        monkeypatch.setattr(constants, variable, 60)
    assert find_model("org/tiny").path == model.folder


def test_download_that_comes_late_is_closed(model: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    given_up, closed = Event(), Event()
    monkeypatch.setattr(remote, "_ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(remote, "_open", lambda *_: given_up.wait() and SimpleNamespace(close=closed.set))
    refusal(pinned(model), HubError)
    given_up.set()
    assert closed.wait(timeout=30)


def test_time_for_an_answer_is_set_below_five_seconds() -> None:
    assert remote._ANSWER_SECONDS < 5
