"""A hub of models on loopback, and the other host that it sends downloads on to, with faults."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from ipychat.local.weights import Offer
from tests.loopback import FIN, HANG, RESET, Received, Service, head

REVISION = "0123456789abcdef0123456789abcdef01234567"
REPO, FILE = "someone/tiny-GGUF", "tiny.gguf"
BLOB = "/blobs/tiny"
FACTS = f"/api/models/{REPO}/revision/main"

Fault = Callable[[bytes, Received], Iterable[Any]]


def part(content: bytes, received: Received) -> list[Any]:
    """What is asked for: the whole file, or its end."""
    wanted = received.headers.get("Range")
    if wanted is None:
        return whole(content, received)
    start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
    place = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
    return _sent(206, content[start:], place)


def whole(content: bytes, received: Received) -> list[Any]:
    """All of it, whatever is asked for."""
    return _sent(200, content)


def elsewhere(content: bytes, received: Received) -> list[Any]:
    """Another part than the one asked for."""
    place = {"Content-Range": f"bytes 1-{len(content) - 1}/{len(content)}"}
    return _sent(206, content[1:], place)


def cut(after: int, how: str = RESET) -> Fault:
    """Answers that end after some bytes; or don't go on, for `HANG`."""

    def fault(content: bytes, received: Received) -> list[Any]:
        first, body = part(content, received)
        return [first, body[:after], how]

    return fault


def stopped(after: int) -> Fault:
    return cut(after, HANG)


def ended(after: int) -> Fault:
    return cut(after, FIN)


def _sent(status: int, body: bytes, more: dict[str, str] | None = None) -> list[Any]:
    length = {"Content-Length": str(len(body))}
    kind = "application/octet-stream"
    return [head(status, kind, chunked=False, headers=length | (more or {})), body]


class Hub:
    """Has one file. `faults` are of the next downloads, one each."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.faults: list[Fault] = []
        self.hub, self.cdn = Service(), Service()
        self.hub.on(FACTS, self._tell)
        for revision in (REVISION, "main"):
            self.hub.on(f"/{REPO}/resolve/{revision}/{FILE}", self._send_on)
        self.cdn.on(BLOB, self._send)

    @property
    def url(self) -> str:
        return self.hub.url

    @property
    def ranges(self) -> list[str | None]:
        """Which part each download asked for."""
        return [request.headers.get("Range") for request in self.cdn.requests]

    def offer(self, **other: Any) -> Offer:
        """What a table says that knows all."""
        known = {"bytes": len(self.content), "revision": REVISION, "sha256": self.sha256}
        return Offer(REPO, FILE, licence="CC0", good_for="tests", **{**known, **other})

    def close(self) -> None:
        self.hub.close()
        self.cdn.close()

    def _send_on(self, received: Received) -> list[Any]:
        place = {
            "Location": f"{self.cdn.url}{BLOB}?signature=of-this-download",
            "Content-Length": "0",
        }
        return [head(302, "text/plain", chunked=False, headers=place)]

    def _send(self, received: Received) -> Iterable[Any]:
        return (self.faults.pop(0) if self.faults else part)(self.content, received)

    def _tell(self, received: Received) -> list[Any]:
        lfs = {"sha256": self.sha256, "size": len(self.content), "pointerSize": 134}
        blobs = [{"rfilename": "README.md", "size": 9}, {"rfilename": FILE, "lfs": lfs}]
        body = json.dumps({"id": REPO, "sha": REVISION, "siblings": blobs}).encode()
        length = {"Content-Length": str(len(body))}
        return [head(200, "application/json", chunked=False, headers=length), body]
