"""A Hugging Face Hub on loopback: the endpoints that its client uses, with answers that a test may replace."""

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from smdguard.files import sha256

TOKEN = "hf_loopback"
LARGE = (".safetensors", ".onnx")
Answer = Callable[["Handler"], None]


@dataclass
class Commit:
    """A commit: its name and the files it holds."""

    oid: str
    files: dict[str, bytes]


@dataclass
class HostedRepository:
    """A repository: its commits, the latest last, and its tags."""

    private: bool = False
    commits: list[Commit] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes]) -> str:
        """Put files on top of what is there; returns the new commit."""
        merged = {**(self.commits[-1].files if self.commits else {}), **files}
        name = repr((len(self.commits), sorted((path, sha256(content)) for path, content in merged.items())))
        self.commits.append(Commit(hashlib.sha1(name.encode()).hexdigest(), merged))
        return self.commits[-1].oid

    def find(self, revision: str) -> Commit | None:
        """The commit that a branch, tag or commit names."""
        oid = self.commits[-1].oid if revision == "main" else self.tags.get(revision, revision)
        return next((commit for commit in self.commits if commit.oid == oid), None)


@dataclass
class Request:
    """A request that came in."""

    method: str
    path: str
    token: str | None
    host: str


class HubServer(ThreadingHTTPServer):
    """The server's state. `answers` maps the end of a path to what answers in place of the Hub."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, HostedRepository] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[Request] = []
        self.answers: dict[str, Answer] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def elsewhere(self) -> str:
        """The same server under another name, hence another origin to whoever asks."""
        return f"http://localhost:{self.server_port}"

    def host(self, name: str, files: dict[str, bytes], *, private: bool = False) -> str:
        """Put files into a repository; returns the commit."""
        repository = self.repositories.setdefault(name, HostedRepository(private))
        self.objects |= {sha256(content): content for content in files.values()}
        return repository.commit(files)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is part of the tests."""


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        self.server.requests.append(Request(self.command, path, token, self.headers["Host"]))
        self.authorized = token == TOKEN
        self.body = self._read_body()
        for ending, answer in self.server.answers.items():
            if path.endswith(ending):
                answer(self)
                return
        self.route(path)

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while length := int(self.rfile.readline(), 16):
            body += self.rfile.read(length)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def route(self, path: str) -> None:
        """The Hub's own answer."""
        match path.strip("/").split("/"):
            case ["cdn", digest]:
                self.send(self.server.objects[digest])
            case ["lfs", digest]:
                self.server.objects[digest] = self.body
                self.send(b"")
            case ["api", "repos", "create"]:
                self._create(**json.loads(self.body))
            case ["api", "validate-yaml"]:
                self.send_json({"errors": [], "warnings": []})
            case ["api", "models", org, name, *rest]:
                self._api(f"{org}/{name}", rest)
            case [org, name, "info", "lfs", "objects", "batch"]:
                self._batch(f"{org}/{name.removesuffix('.git')}")
            case [org, name, "resolve", revision, *file]:
                self._resolve(f"{org}/{name}", revision, "/".join(file))
            case _:
                self.refuse(404)

    def send(self, content: bytes, status: int = 200, **headers: str) -> None:
        """An answer with a body; underscores in names of headers stand for dashes."""
        self.send_response(status)
        for name, value in {"Content_Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def send_json(self, document: Any, status: int = 200) -> None:
        self.send(json.dumps(document).encode(), status, Content_Type="application/json")

    def refuse(self, status: int, code: str = "") -> None:
        headers = {"X_Error_Code": code} if code else {}
        self.send(b"", status, **headers)

    def _find(self, name: str) -> HostedRepository | None:
        """The repository, where whoever asks may see it; otherwise the request is answered as the Hub does."""
        repository = self.server.repositories.get(name)
        if repository is None or (repository.private and not self.authorized):
            self.refuse(404 if self.authorized else 401, "RepoNotFound")
            return None
        return repository

    def _create(self, name: str, organization: str, visibility: str = "public", **_: Any) -> None:
        full = f"{organization}/{name}"
        if not self.authorized:
            self.refuse(401)
        elif full in self.server.repositories:
            self.send_json({"url": f"{self.server.url}/{full}"}, 409)
        else:
            self.server.host(full, {".gitattributes": b"*.onnx filter=lfs\n"}, private=visibility == "private")
            self.send_json({"url": f"{self.server.url}/{full}"})

    def _api(self, name: str, rest: list[str]) -> None:
        repository = self._find(name)
        if repository is None:
            return
        if self.command == "POST" and not self.authorized:
            self.refuse(403)
            return
        match rest:
            case []:
                self.send_json({"id": name, "sha": repository.commits[-1].oid})
            case ["tree", revision] if commit := repository.find(revision):
                self.send_json([_describe(path, content) for path, content in commit.files.items()])
            case ["preupload", _]:
                files = [file["path"] for file in json.loads(self.body)["files"]]
                modes = [{"path": path, "uploadMode": "lfs" if path.endswith(LARGE) else "regular"} for path in files]
                self.send_json({"files": [{**mode, "shouldIgnore": False} for mode in modes]})
            case ["commit", _]:
                self._commit(name, [json.loads(line) for line in self.body.splitlines()])
            case ["tag", revision]:
                tag = json.loads(self.body)["tag"]
                known = tag in repository.tags
                repository.tags.setdefault(tag, revision)
                self.send_json({}, 409 if known else 200)
            case _:
                self.refuse(404, "RevisionNotFound")

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        repository = self.server.repositories[name]
        values = {"header": [], "file": [], "lfsFile": []}
        for line in lines:
            values[line["key"]].append(line["value"])
        parent = values["header"][0].get("parentCommit")
        if parent not in (None, repository.commits[-1].oid):
            self.refuse(412)
            return
        files = {value["path"]: base64.b64decode(value["content"]) for value in values["file"]}
        files |= {value["path"]: self.server.objects[value["oid"]] for value in values["lfsFile"]}
        oid = repository.commit(files)
        self.send_json({"commitOid": oid, "commitUrl": f"{self.server.url}/{name}/commit/{oid}"})

    def _batch(self, name: str) -> None:
        if self._find(name) is None:
            return
        objects = json.loads(self.body)["objects"]
        for item in objects:
            if item["oid"] not in self.server.objects:
                item["actions"] = {"upload": {"href": f"{self.server.url}/lfs/{item['oid']}"}}
        self.send_json({"transfer": "basic", "objects": objects})

    def _resolve(self, name: str, revision: str, file: str) -> None:
        repository = self._find(name)
        if repository is None:
            return
        commit = repository.find(revision)
        if commit is None:
            self.refuse(404, "RevisionNotFound")
        elif file not in commit.files:
            self.refuse(404, "EntryNotFound")
        elif file.endswith(LARGE):
            content = commit.files[file]
            self.send(
                b"",
                302,
                Location=f"{self.server.elsewhere}/cdn/{sha256(content)}",
                X_Repo_Commit=commit.oid,
                X_Linked_Etag=f'"{sha256(content)}"',
                X_Linked_Size=str(len(content)),
            )
        else:
            content = commit.files[file]
            self.send(content, ETag=f'"{_git_oid(content)}"', X_Repo_Commit=commit.oid)


def _git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _describe(path: str, content: bytes) -> dict[str, Any]:
    row = {"type": "file", "path": path, "size": len(content), "oid": _git_oid(content)}
    if path.endswith(LARGE):
        row["lfs"] = {"oid": sha256(content), "size": len(content), "pointerSize": 130}
    return row


@contextmanager
def serve() -> Iterator[HubServer]:
    """A Hub that answers until the end of the block."""
    with HubServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
