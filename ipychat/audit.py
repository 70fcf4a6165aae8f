"""Secrets in notebooks and cassettes, found before they are committed.

    python -m ipychat.audit PATHS

Looks for what is a secret on this machine (keys that are kept, variables of the environment that
look like one) and for what has the form of a well-known token. Folders are searched for notebooks
and cassettes. Exits with 0 where nothing was found, 1 where something was, 2 where something can't
be read. No secret is ever printed.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipychat import config, secrets
from ipychat.errors import ChatError, UsageError
from ipychat.store import credentials, files
from ipychat.text import shapes

HEADS = ("file", "where", "what")
NOTEBOOK = ".ipynb"
CASSETTE = "__chat__"
ENTRY = re.compile(r"[0-9a-f]{64}\.json")
"""File names of stored answers, in whatever folder the cassette is."""
CHECKPOINTS = ".ipynb_checkpoints"
"""The only hidden folder that is searched: it holds copies of notebooks."""
MAX_NAME = 200
"""Characters of a name that are shown."""
BLOCK_LINES = 1000
"""Lines of a damaged file that are searched together, which is faster."""

ENCODED = re.compile(r"[A-Za-z0-9+/]{40,}(?:\r?\n[A-Za-z0-9+/]+)*")
"""What may be base64, on one line or several."""


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """A secret in a file, without its text; or a file that can't be read."""

    path: Path
    where: str
    what: str
    is_fault: bool = False

    def row(self) -> tuple[str, str, str]:
        """Return the cells of the finding's row in a table."""
        return _shown(str(self.path)), _shown(self.where), _shown(self.what)

    def __str__(self) -> str:
        return ": ".join(filter(None, self.row()))


def _shown(name: str) -> str:
    """Return a name, which anyone may have chosen, without control characters and secrets."""
    name = shapes.mask(name)
    name = name if name.isprintable() else repr(name)[1:-1]
    return name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}…"


def scan(paths: Iterable[Path]) -> tuple[int, list[Finding]]:
    """Return the number of files searched and the findings, including unreadable files.

    Raises UsageError for a path that doesn't exist.
    """
    _learn()
    looked_at = 0
    found: list[Finding] = []
    for path in [*map(_there, paths)]:
        for file in _files(path):
            try:
                content = _read(file)
            except OSError as error:
                found.append(Finding(file, "", f"can't be read: {error.strerror}", is_fault=True))
            else:
                looked_at += 1
                found += sorted({*_scan(file, content)})
    return looked_at, found


def summary(looked_at: int, found: list[Finding]) -> str:
    """Summarise the result in one line."""
    faults = sum(one.is_fault for one in found)
    count = f"{looked_at} file{'' if looked_at == 1 else 's'}"
    unread = f" {faults} can't be read." if faults else ""
    if len(found) == faults:
        return f"No secrets in {count}.{unread}"
    places = f"{len(found) - faults} place{'' if len(found) - faults == 1 else 's'}"
    said = f"Secrets in {places} of {count}: remove them, and renew them at their services."
    return said + unread


def _learn() -> None:
    """Register this machine's secrets."""
    secrets.register_environment(os.environ, config.current().secrets)
    credentials.register_kept()
    for path in files.home().glob("*.json"):
        if path.name != credentials.KEYS:
            credentials.ServiceSession(path).read()


# -- files


def _there(path: Path) -> Path:
    try:
        path = path.expanduser()
        path.stat()
    except (OSError, ValueError, RuntimeError) as error:  # the last two: no such name, no such user
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"Can't read {_shown(str(path))}: {reason}.") from None
    return path


def _files(path: Path) -> Iterator[Path]:
    """Yield the files to search at `path`, and folders that can't be listed."""
    if not path.is_dir():
        yield path
        return
    unlisted: list[Path] = []
    for name, folders, names in os.walk(path, onerror=lambda e: unlisted.append(Path(e.filename))):
        folder = Path(name)
        folders[:] = sorted(one for one in folders if one[0] != "." or one == CHECKPOINTS)
        is_cassette = folder.absolute().name == CASSETTE
        for one in sorted(names):
            if (
                one.endswith(NOTEBOOK)
                or (is_cassette and one.endswith(".json"))
                or ENTRY.match(one)
            ):
                yield folder / one
    yield from unlisted


def _read(path: Path) -> bytes:
    if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe would block
        raise OSError(0, "no file")
    return path.read_bytes()


# -- texts


def _scan(path: Path, content: bytes) -> Iterator[Finding]:
    for where, text in [("its name", path.name), *_texts(path, content)]:
        for what in _secrets_in(text):
            yield Finding(path, where, what)


def _secrets_in(text: str) -> Iterator[str]:
    """Yield the names of secrets in a text, and in any base64 in it."""
    yield from _forms_in(text)
    yield from _known_in(text)
    for encoded in ENCODED.finditer(text):
        written = "".join(encoded[0].split())
        data = base64.b64decode(written[: len(written) - (len(written) % 4 == 1)] + "==")
        yield from _forms_in(data.decode("latin-1"))
        yield from _known_in(data)


def _forms_in(text: str) -> Iterator[str]:
    yield from {what: None for _, _, what in shapes.looks(text)}


def _known_in(content: str | bytes) -> Iterator[str]:
    for name in secrets.names_in(content):
        yield f"{name}, known on this machine"


def _texts(path: Path, content: bytes) -> Iterator[tuple[str, str]]:
    """Yield every text of a file with its position; JSON strings as decoded."""
    try:
        given = json.loads(content)
    except (ValueError, RecursionError):
        yield from _lines(content.decode(json.detect_encoding(content), "replace"))
        return
    cells = given.get("cells") if path.suffix == NOTEBOOK and isinstance(given, dict) else None
    if not isinstance(cells, list):
        yield from _walk("", given)
        return
    for number, cell in enumerate(cells, 1):
        for part, value in cell.items() if isinstance(cell, dict) else [("no cell", cell)]:
            yield from _walk(f"cell {number}, {part}", [part, value])
    yield from _walk("notebook", {name: one for name, one in given.items() if name != "cells"})


def _lines(text: str) -> Iterator[tuple[str, str]]:
    """Yield the lines of a damaged file that contain secrets, else all of it at once."""
    text = re.sub(r"\\u00([2-7][0-9a-fA-F])", lambda at: chr(int(at[1], 16)), text)
    lines = text.split("\n")
    for first in range(0, len(lines), BLOCK_LINES):
        block = lines[first : first + BLOCK_LINES]
        if any(_secrets_in("\n".join(block))):
            telling = [
                (n, line) for n, line in enumerate(block, first + 1) if any(_secrets_in(line))
            ]
            yield from ((f"line {number}", line) for number, line in telling)
            if not telling:
                yield f"lines {first + 1} to {first + len(block)}", "\n".join(block)


def _walk(where: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield every text nested in a value, keys included; a list of texts also as one text."""
    waiting = [(where, value)]
    while waiting:
        where, one = waiting.pop()
        match one:
            case str():
                yield where or "text", one
            case list() if one and all(isinstance(each, str) for each in one):
                yield where or "text", "".join(one)
                if not all(each.endswith("\n") for each in one[:-1]):
                    waiting += [(where, each) for each in one]
            case list():
                waiting += [(where, each) for each in one]
            case dict():
                for name, each in one.items():
                    yield where or "text", name
                    waiting.append((where or name, each))


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        "python -m ipychat.audit",
        description="Look for secrets in notebooks and cassettes. "
        "Exit status: 0 none, 1 some, 2 something can't be read.",
    )
    made.add_argument("paths", nargs="+", type=Path, help="notebooks, cassettes, folders")
    made.add_argument(
        "--variable",
        action="append",
        default=[],
        metavar="NAME",
        help="An environment variable that holds a secret although its name doesn't say so.",
    )
    return made


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    given = parser().parse_args(arguments)
    secrets.register_environment(os.environ, given.variable)
    try:
        looked_at, found = scan(given.paths)
    except ChatError as error:
        print(error, file=sys.stderr)
        return 2
    for one in found:
        print(one)
    print(summary(looked_at, found), file=sys.stderr)
    return 2 if any(one.is_fault for one in found) else bool(found)


if __name__ == "__main__":
    sys.exit(main())
