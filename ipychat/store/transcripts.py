"""Conversations on disk: append-only JSON lines, a file per conversation, a folder per notebook.

If a killed process left a partial line at the end, the next writer cuts it off and keeps it beside
the file; a damaged line is skipped and reported. Nothing is ever rewritten. `ipychat.chat` knows
what the records mean; known secrets in them are masked before they are written.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
import warnings
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from ipychat import secrets
from ipychat.errors import StoreError
from ipychat.store import files
from ipychat.text import shapes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUFFIX = ".jsonl"
MAX_STEM = 40
MAX_NAME = 180
"""Bytes. File names are limited to 255, and those of locks and torn lines are longer."""


class Transcript:
    """The records of one conversation."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, *records: dict[str, Any]) -> None:
        """Write `records`: all of them or, raising StoreError, none."""
        content = b"".join(map(_line, records))
        if not content:
            return
        with files.locked(self.path):
            try:
                descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
                try:
                    self._append(descriptor, content)
                finally:
                    os.close(descriptor)
            except OSError as error:
                raise StoreError(f"Can't write {self.path}: {error.strerror}.") from None

    def _append(self, descriptor: int, content: bytes) -> None:
        size, content = self._repair(descriptor, content)
        try:
            if os.write(descriptor, content) < len(content):
                raise StoreError(f"Can't write {self.path}: the disk is full.")
        except BaseException:
            with contextlib.suppress(OSError):  # else the next writer cuts it off
                os.truncate(descriptor, size)
            raise

    def _repair(self, descriptor: int, content: bytes) -> tuple[int, bytes]:
        """Make the file end in a whole line; return its size and what to write to it now."""
        size = os.lseek(descriptor, 0, os.SEEK_END)
        if not size:
            return size, content
        os.lseek(descriptor, size - 1, os.SEEK_SET)
        if os.read(descriptor, 1) == b"\n":
            return size, content
        kept = self.path.read_bytes()
        whole = kept.rfind(b"\n") + 1
        if parse(kept[whole:]) is not None:  # only its newline is missing
            return size, b"\n" + content
        aside = self.path.with_name(f"{self.path.name}.torn-{time.time_ns()}")
        files.write(aside, kept[whole:])
        os.truncate(descriptor, whole)
        secrets.log.warning(
            "The last line of %s was cut off during writing. Saved as %s.", self.path, aside.name
        )
        return whole, content

    def move(self, path: Path) -> None:
        """Use another file from now on, which must not exist yet."""
        with files.locked(self.path), files.locked(path):
            try:
                if self.path.exists():
                    self.path.rename(path)
            except OSError as error:
                raise StoreError(f"Can't rename {self.path}: {error.strerror}.") from None
        self.path = path

    def read(self) -> list[dict[str, Any]]:
        """Return every record; see `records`."""
        return [*self.records()]

    def records(self, kind: str = "") -> Iterator[dict[str, Any]]:
        """Yield every record, or those of one kind, one at a time: a file may be large.

        A torn last line is left out, a damaged line skipped and reported. Raises StoreError if the
        file exists and can't be read.
        """
        begin = f'{{"type": "{kind}"'.encode() if kind else b""
        count = damaged = 0
        try:
            with self.path.open("rb") as file:
                for line in file:
                    count += 1
                    if not line.startswith(begin):
                        continue
                    if (record := parse(line)) is not None:
                        yield record
                    elif line.endswith(b"\n"):
                        damaged += 1
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise StoreError(f"Can't read {self.path}: {error.strerror}.") from None
        if damaged:
            said = f"{damaged} of {count} lines of {self.path} are damaged and were skipped."
            warnings.warn(said, stacklevel=2)


def _line(record: dict[str, Any]) -> bytes:
    try:
        asks = record.get("type") in {"asked", "set"}
        masked = shapes.masked(record) if asks else secrets.masked(record)
        try:
            return json.dumps(masked, ensure_ascii=False).encode() + b"\n"
        # half of a surrogate pair, which JSON can express and UTF-8 can't
        except UnicodeEncodeError:
            return json.dumps(masked).encode() + b"\n"
    except (ValueError, RecursionError) as error:
        raise StoreError(f"A record can't be written as JSON: {error}.") from None


def parse(line: bytes) -> dict[str, Any] | None:
    """Return the record that a line holds; None where it is damaged."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


# -- where they are


def notebook_folder(notebook: str) -> Path:
    """Return the folder for the conversations of the notebook at that path, readable and unique."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", PurePath(notebook).stem)
    digest = hashlib.sha256(notebook.encode(errors="surrogatepass")).hexdigest()
    return files.home() / "transcripts" / f"{stem[:MAX_STEM]}-{digest[:10]}"


def file_name(name: str) -> str:
    """Return the file name for a conversation of any name: safe, and different for each.

    Capitals are encoded too, since some file systems take `A` for `a`.
    """
    raw = name.encode(errors="surrogatepass")
    safe = re.sub(rb"[^a-z0-9_-]", lambda found: b"%%%02X" % found[0][0], raw).decode()
    if len(safe) > MAX_NAME:
        safe = "~" + hashlib.sha256(raw).hexdigest()
    return safe + SUFFIX


def names(folder: Path) -> list[str]:
    """Return the names of the conversations in `folder`."""
    return sorted(map(_name_of, folder.glob(f"*{SUFFIX}")))


def _name_of(path: Path) -> str:
    """Return the name in the file's name; if that is a hash, the name in the first record."""
    if path.name.startswith("~"):
        with contextlib.suppress(OSError), path.open("rb") as file:
            match parse(file.readline()):
                case {"type": "named", "name": str(name)}:
                    return name
    return unquote(path.name.removesuffix(SUFFIX), errors="surrogatepass")
