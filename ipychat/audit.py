"""Secrets in notebooks and cassettes, found before they are committed.

    python -m ipychat.audit PATHS

Looks for what is a secret on this machine (keys that are kept, variables of the environment that
look like one) and for what has the form of a well-known token. Folders are searched for notebooks
and `__chat__`. Exits with 0 where nothing was found, 1 where something was, 2 where a path can't
be read. No secret is ever printed.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipychat import config, secrets
from ipychat.errors import ChatError, UsageError
from ipychat.store import credentials, files

HEADS = ("file", "where", "what")
NOTEBOOK = ".ipynb"
CASSETTE = "__chat__"
BEFORE, BEHIND = r"(?<![A-Za-z0-9+/_-])", r"(?![A-Za-z0-9+/_-])"
FORMS = {
    "a key of Anthropic's": r"sk-ant-[\w-]{24,}",
    "a key of OpenRouter's": r"sk-or-[\w-]{24,}",
    "a key of OpenAI's form": r"sk-(?!ant-|or-)(?=[\w-]*\d)[\w-]{24,}",
    "a key of Google's": r"AIza[\w-]{35}",
    "a key of xAI's": r"xai-\w{40,}",
    "a key of Groq's": r"gsk_\w{40,}",
    "a token of Hugging Face's": r"hf_[A-Za-z0-9]{30,}",
    "a token of Replicate's": r"r8_[A-Za-z0-9]{30,}",
    "a personal token of GitHub's": r"(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{60,})",
    "a personal token of GitLab's": r"glpat-[\w-]{20,}",
    "a token of PyPI's": r"pypi-AgE[\w-]{50,}",
    "a token of npm's": r"npm_[A-Za-z0-9]{36}",
    "a token of Slack's": r"xox[abeoprs]-[\w-]{20,}",
    "a key of Stripe's": r"[rs]k_live_[A-Za-z0-9]{20,}",
    "a key of AWS's": r"(?:AKIA|ASIA)[0-9A-Z]{16}",
    "a JSON web token": r"eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}",
    "a private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----",
    "a password in an address": r"[a-z][a-z0-9+.-]*://[^\s/:@'\"<>{}]+:[^\s/:@'\"<>{}•*]{3,}@[\w.\[-]",
    "a token of a Jupyter server": r"[?&]token=[0-9a-f]{32,}",
}
PATTERNS = {
    what: re.compile(form if form[0] in "-[" else f"{BEFORE}{form}{BEHIND}")
    for what, form in FORMS.items()
}


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """A secret in a file; never its text."""

    path: Path
    where: str
    what: str

    def row(self) -> tuple[str, str, str]:
        """Return what a table shows."""
        return str(self.path), self.where, self.what

    def __str__(self) -> str:
        return f"{self.path}: {self.where}: {self.what}"


def scan(paths: Iterable[Path]) -> tuple[int, list[Finding]]:
    """Return how many files were looked at, and what was found in them.

    Raises UsageError for a path that can't be read.
    """
    _learn()
    looked_at = 0
    found: list[Finding] = []
    for path in paths:
        for file in _files(path.expanduser()):
            looked_at += 1
            found += sorted({*_scan(file)})
    return looked_at, found


def summary(looked_at: int, found: list[Finding]) -> str:
    """Say in a line what came of it."""
    count = f"{looked_at} file{'' if looked_at == 1 else 's'}"
    if not found:
        return f"No secrets in {count}."
    places = f"{len(found)} place{'' if len(found) == 1 else 's'}"
    return f"Secrets in {places} of {count}: take them out, and have the services renew them."


def _learn() -> None:
    """Make known what is a secret on this machine."""
    secrets.register_environment(os.environ, config.current().secrets)
    credentials.register_kept()
    for path in files.home().glob("*.json"):
        if path.name != credentials.KEYS:
            credentials.ServiceSession(path).read()


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    if path.name == CASSETTE:
        yield from sorted(path.glob("*.json"))
        return
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        is_cassette = Path(folder).name == CASSETTE
        for name in sorted(names):
            if name.endswith(NOTEBOOK) or (is_cassette and name.endswith(".json")):
                yield Path(folder) / name


def _scan(path: Path) -> Iterator[Finding]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"Can't read {path}: {error.strerror}.") from None
    for where, text in _texts(path, content):
        for name in secrets.names_in(text):
            yield Finding(path, where, f"{name}, known on this machine")
        if isinstance(text, str):
            for what, pattern in PATTERNS.items():
                if pattern.search(text):
                    yield Finding(path, where, what)


def _texts(path: Path, content: bytes) -> Iterator[tuple[str, str | bytes]]:
    """Give every text of a file, and where it stands; of JSON as it reads, not as it is written."""
    try:
        given = json.loads(content)
    except (ValueError, RecursionError):
        for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
            yield f"line {number}", line
        return
    cells = given.get("cells") if path.suffix == NOTEBOOK and isinstance(given, dict) else None
    if not isinstance(cells, list):
        yield from _walk("", given)
        return
    for number, cell in enumerate(cells, 1):
        for part, value in cell.items() if isinstance(cell, dict) else ():
            yield from _walk(f"cell {number}, {part}", value)
    yield from _walk("notebook", {name: one for name, one in given.items() if name != "cells"})


def _walk(where: str, value: Any, kind: str = "") -> Iterator[tuple[str, str | bytes]]:
    match value:
        case str() if kind.startswith("image/") and not kind.startswith("image/svg"):
            yield where, base64.b64decode(value, validate=False)
        case str():
            yield where or "text", value
        case list() if value and all(isinstance(one, str) for one in value):
            yield from _walk(where, "".join(value), kind)
        case list():
            for one in value:
                yield from _walk(where, one, kind)
        case dict():
            for name, one in value.items():
                yield where or "text", str(name)
                yield from _walk(where or str(name), one, str(name))


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(
        "python -m ipychat.audit", description="Look for secrets in notebooks and cassettes."
    )
    parser.add_argument("paths", nargs="+", type=Path, help="notebooks, cassettes, folders")
    try:
        looked_at, found = scan(parser.parse_args(arguments).paths)
    except ChatError as error:
        print(error, file=sys.stderr)
        return 2
    for one in found:
        print(one)
    print(summary(looked_at, found), file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
