"""A model hub on the loopback address, for the real clients: they find it through HF_ENDPOINT.

It speaks what `huggingface_hub` asks: repositories with commits, branches and tags, their trees,
and files with ETag, ranges and the redirect of large ones. It can be gated, slow, damaged, or break
a transfer off. Every request is noted.
"""

import contextlib
import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.hub_repository import Repository, Stored

TOKEN = "hf_stub_that_has_accepted_the_terms"
_CHUNK = 16 * 1024

_INFO = re.compile(r"/api/(models|datasets)/(.+?)(?:/revision/(.+))?")
_TREE = re.compile(r"/api/(models|datasets)/(.+?)/tree/([^/]+)(?:/(.*))?")
_PATHS = re.compile(r"/api/(models|datasets)/(.+?)/paths-info/([^/]+)")
_FILE = re.compile(r"/(?:(datasets)/)?([^/]+(?:/[^/]+)?)/resolve/([^/]+)/(.+)")
_BLOB = re.compile(r"/blobs/([0-9a-f]{64})")


@dataclass
class Faults:
    """What goes wrong. Large files alone are slow, damaged or broken off."""

    break_after: int | None = None  # bytes of a transfer, after which the connection is cut
    breaks: int = 0  # how many transfers that still happens to
    seconds_a_chunk: float = 0.0
    damaged: bool = False  # as many bytes, but others
    status: int | None = None  # answered to everything


class Hub:
    """The repositories, the faults, and what was asked."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.faults = Faults()
        self.asked: list[tuple[str, str, int]] = []  # method, path, first byte
        self._repositories: dict[tuple[str, str], Repository] = {}

    def repository(self, name: str, kind: str = "models", gated: bool = False) -> Repository:
        """The repository of a name; a new one if there is none."""
        made = Repository(name, gated)
        return self._repositories.setdefault((kind, name), made)

    def find(self, kind: str, name: str) -> Repository | None:
        return self._repositories.get((kind, unquote(name)))

    def blob(self, sha256: str) -> bytes | None:
        for repository in self._repositories.values():
            for files in repository.commits.values():
                for stored in files.values():
                    if stored.is_large and stored.sha256 == sha256:
                        return stored.content
        return None

    def environment(self, cache: Path) -> dict[str, str]:
        """For a program that is to use this hub, with its cache in a folder."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(cache),
            "HF_HUB_CACHE": str(cache / "hub"),
            "HF_HUB_DISABLE_XET": "1",  # another protocol, of another server
            "HF_HUB_OFFLINE": "0",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }

    def transfers(self) -> list[int]:
        """The first byte of each transfer of a large file."""
        return [start for method, path, start in self.asked
                if method == "GET" and path.startswith("/blobs/")]  # fmt: skip


@contextlib.contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub on a free port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    hub = Hub(f"http://127.0.0.1:{server.server_address[1]}")
    _Handler.hubs[server.server_address[1]] = hub
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        del _Handler.hubs[server.server_address[1]]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hubs: ClassVar[dict[int, Hub]] = {}  # by port

    @property
    def hub(self) -> Hub:
        return self.hubs[self.server.server_address[1]]  # type: ignore[index]

    @property
    def _other_host(self) -> str:
        return self.hub.url.replace("127.0.0.1", "localhost")

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        range_ = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        self.hub.asked.append((self.command, path, int(range_[1]) if range_ else 0))
        if status := self.hub.faults.status:
            self._error(status, "InternalError", "The stub was told to fail")
        elif found := _BLOB.fullmatch(path):
            content = self.hub.blob(found[1])
            self._send_file(content or b"", found[1], {}, is_large=True)
        elif found := _PATHS.fullmatch(path):
            self._paths(found, body)
        elif found := _TREE.fullmatch(path):
            self._tree(found, "true" in parse_qs(parts.query).get("recursive", [""])[0].lower())
        elif found := _FILE.fullmatch(path):
            self._file(*found.groups())
        elif found := _INFO.fullmatch(path):
            self._info(*found.groups())
        else:
            self._error(404, "EntryNotFound", "Not found")

    def _commit(self, kind: str, name: str, revision: str | None) -> tuple[Repository, str] | None:
        """The repository and its commit; None if the error has been sent."""
        repository = self.hub.find(kind, name)
        if repository is None:  # the hub does not say whether it is private
            self._error(401, "RepoNotFound", "Invalid username or password.")
            return None
        commit = repository.found(revision or "main")
        if commit is None:
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return repository, commit

    def _info(self, kind: str, name: str, revision: str | None) -> None:
        if found := self._commit(kind, name, revision):
            repository, commit = found
            files = repository.commits[commit]
            self._send_json(
                {
                    "_id": commit[:24], "id": repository.name, "modelId": repository.name,
                    "sha": commit, "private": False, "disabled": False, "downloads": 0, "likes": 0,
                    "gated": "manual" if repository.gated else False, "tags": [],
                    "lastModified": "2026-01-01T00:00:00.000Z",
                    "createdAt": "2026-01-01T00:00:00.000Z",
                    "siblings": [{"rfilename": path} for path in files],
                }
            )  # fmt: skip

    def _tree(self, asked: re.Match[str], recursive: bool) -> None:
        kind, name, revision, folder = asked.groups()
        if found := self._commit(kind, name, revision):
            files = found[0].commits[found[1]]
            below = f"{folder}/" if folder else ""
            entries: dict[str, dict[str, Any]] = {}
            for path, stored in files.items():
                if not path.startswith(below):
                    continue
                first, *deeper = path.removeprefix(below).split("/")
                if recursive or not deeper:
                    entries[path] = _entry(path, stored)
                else:
                    here = below + first
                    entries[here] = {"type": "directory", "oid": "0" * 40, "size": 0, "path": here}
            if folder and not entries:
                self._error(404, "EntryNotFound", f"{folder} does not exist")
                return
            self._send_json(list(entries.values()))

    def _paths(self, asked: re.Match[str], body: bytes) -> None:
        kind, name, revision = asked.groups()
        if found := self._commit(kind, name, revision):
            files = found[0].commits[found[1]]
            fields = _form(body, self.headers.get("Content-Type", ""))
            entries = [_entry(path, files[path]) for path in fields if path in files]
            for path in fields:
                if path not in files and any(other.startswith(f"{path}/") for other in files):
                    entries.append({"type": "directory", "oid": "0" * 40, "size": 0, "path": path})
            self._send_json(entries)

    def _file(self, kind: str | None, name: str, revision: str, path: str) -> None:
        found = self._commit(kind or "models", name, revision)
        if found is None:
            return
        repository, commit = found
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if repository.gated and token != TOKEN:
            where = f"{self.hub.url}/{repository.name}"
            told = f"Access to model {repository.name} is restricted. Visit {where} to ask for it."
            self._error(403 if token else 401, "GatedRepo", told)
            return
        stored = repository.commits[commit].get(path)
        headers = {"X-Repo-Commit": commit}
        if stored is None:
            self._error(404, "EntryNotFound", "Entry not found", headers)
        elif not stored.is_large:
            self._send_file(stored.content, stored.etag, headers, is_large=False)
        else:
            headers |= {
                "X-Linked-Etag": f'"{stored.sha256}"',
                "X-Linked-Size": str(len(stored.content)),
                # Another host, as that of the hub's large files: clients do not follow at once.
                "Location": f"{self._other_host}/blobs/{stored.sha256}",
            }
            self._send(302, b"", headers)

    def _send_file(
        self, content: bytes, etag: str, headers: dict[str, str], *, is_large: bool
    ) -> None:
        asked = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        headers = headers | {"ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        if is_large and self.hub.faults.damaged:
            content = content[:-1] + bytes([content[-1] ^ 1])
        status, total = 200, len(content)
        if asked:
            start, end = int(asked[1]), min(int(asked[2] or total - 1), total - 1)
            if start >= total:
                self._send(416, b"", {"Content-Range": f"bytes */{total}"})
                return
            content, status = content[start : end + 1], 206
            headers["Content-Range"] = f"bytes {start}-{end}/{total}"
        self._send(status, content, headers, faulty=is_large)

    def _send(
        self, status: int, content: bytes, headers: dict[str, str], faulty: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        with contextlib.suppress(ConnectionError):  # a client that was killed
            self._write(content, faulty)

    def _write(self, content: bytes, faulty: bool) -> None:
        faults = self.hub.faults
        if faulty and faults.breaks and faults.break_after is not None:
            faults.breaks -= 1
            self.wfile.write(content[: faults.break_after])
            self.wfile.flush()
            self.close_connection = True
            return
        for start in range(0, len(content), _CHUNK):
            self.wfile.write(content[start : start + _CHUNK])
            if faulty and faults.seconds_a_chunk:
                self.wfile.flush()
                time.sleep(faults.seconds_a_chunk)

    def _send_json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _error(
        self, status: int, code: str, message: str, headers: dict[str, str] | None = None
    ) -> None:
        told = {"X-Error-Code": code, "X-Error-Message": message, **(headers or {})}
        self._send(status, json.dumps({"error": message}).encode(), told)


def _entry(path: str, stored: Stored) -> dict[str, Any]:
    entry = {"type": "file", "path": path, "size": len(stored.content), "oid": stored.git_id}
    if stored.is_large:
        size = len(stored.content)
        entry["lfs"] = {"oid": stored.sha256, "size": size, "pointerSize": 134}
    return entry


def _form(body: bytes, kind: str) -> list[str]:
    """The paths that are asked for."""
    if "json" in kind:
        return list(json.loads(body).get("paths", []))
    return parse_qs(body.decode()).get("paths", [])
