"""Stored answers, keyed by question: cache, cassette and receipts in one.

An entry is one small JSON file, named by the hash of its question and laid out so that it can be
read and compared line by line. It is written atomically. An entry whose hash is not its name, or
whose answer was changed, is damaged and never used.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from ipychat import secrets
from ipychat.errors import StoreError
from ipychat.messages import Image
from ipychat.store import files

SUFFIX = ".json"
IMAGE_NAME = r"[0-9a-f]{64}\.[a-z]{3,4}"
NAMES = "names.json"
GITIGNORE = b".*\n*.damaged-*\n!.gitignore\n"
"""The `.gitignore` of a cassette: locks, and temporary files of killed processes."""
MAX_FILE = 16 << 20
"""Bytes of an entry. A cassette may come from anywhere."""
READ_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
"""Flags to open a file that may be anything: follow no link, and don't block."""
QUOTED = r'"(?:[^"\\]|\\.)*"'
"""A JSON string."""
NO_MESSAGES = '\n "messages": []'
"""The empty list of messages in a receipt. It occurs once: nested keys are indented further."""
MAX_SPLIT = 1 << 20
"""Characters of a text that is split into lines; nobody compares longer ones."""
MAX_COMPARED = 4_000
"""Characters of a question that are compared to find the nearest one."""


Names: TypeAlias = Mapping[str, Mapping[str, Sequence[str]]]
"""By notebook: the models that each name stood for."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The exact question in canonical form, with secrets masked, and its hash."""

    text: str
    hash: str
    repeatable: bool = True
    """Whether an earlier answer can stand in for a new one."""
    unwritable: str = ""
    """The option that can't be serialised, so that questions with it can't be told apart."""

    @classmethod
    def of(
        cls, asked: Mapping[str, Any], *, repeatable: bool = True, unwritable: str = ""
    ) -> Receipt:
        """Create the receipt of `asked`, as JSON with sorted keys."""
        text = _written(secrets.masked(dict(asked)))
        return cls(text, _hash(text), repeatable, unwritable)

    def to(self, messages: Sequence[Mapping[str, Any]]) -> Receipt:
        """Return the same receipt with other messages; this one must have none."""
        before, name, after = self.text.partition(NO_MESSAGES)
        written = _written(secrets.masked([*messages]), "\n ")
        text = f"{before}{name[:-2]}{written}{after}"
        return Receipt(text, _hash(text), self.repeatable, self.unwritable)


@dataclass(frozen=True, slots=True)
class Entry:
    """An answer, its question, and the notebooks that asked it."""

    receipt: Receipt
    answered: dict[str, Any]
    notebooks: tuple[str, ...] = ()
    images: tuple[Image, ...] = ()
    """Images of the answer that are to be stored in files beside the entry."""

    def to_json(self) -> bytes:
        """Return the content of the entry's file."""
        answered = _written(secrets.masked(self.answered))
        notebooks, digest = _written(sorted(self.notebooks), "\n "), _hash(answered)
        return (
            f"{ANSWERED}{_moved_in(answered)}{ASKED}{_moved_in(self.receipt.text)}"
            f'{NOTEBOOKS}{notebooks},\n "sha256": "{digest}"\n}}\n'
        ).encode()

    @classmethod
    def of_json(cls, name: str, content: bytes) -> Entry:
        """Parse an entry. Raises ValueError if it is damaged."""
        match given := json.loads(content):
            case {
                "asked": dict(),
                "answered": dict(answered),
                "sha256": str(sha256),
                "notebooks": list(notebooks),
            }:
                asked, said = _texts(content.decode())
                if (_hash(asked), _hash(said)) != (name, sha256):
                    # reformatted by another tool, or changed
                    asked, said = _written(given["asked"]), _written(answered)
                    if _hash(asked) != name:
                        raise ValueError("its question does not match its name")
                    if _hash(said) != sha256:
                        raise ValueError("its answer was changed")
                return cls(Receipt(asked, name), answered, tuple(map(str, notebooks)))
        raise ValueError("it contains no answer")


ANSWERED, ASKED, NOTEBOOKS = '{\n "answered": ', ',\n "asked": ', ',\n "notebooks": '
"""The start of each section of an entry; nothing else matches, as JSON strings contain no newline.
"""


def _texts(content: str) -> tuple[str, str]:
    """Return an entry's question and answer as they were serialised."""
    said, _, rest = content.removeprefix(ANSWERED).partition(ASKED)
    return _moved_out(rest.partition(NOTEBOOKS)[0]), _moved_out(said)


def _moved_in(text: str) -> str:
    return text.replace("\n", "\n ")


def _moved_out(text: str) -> str:
    return text.replace("\n ", "\n")


class AnswerStore:
    """The entries in one folder. A `shared` one is committed beside its notebooks."""

    def __init__(self, folder: Path, *, shared: bool) -> None:
        self.folder = folder
        self._shared = shared

    def has(self, name: str) -> bool:
        """Whether there is an entry with this hash, damaged or not."""
        return (self.folder / f"{name}{SUFFIX}").exists()

    def read(self, name: str) -> Entry | None:
        """Return the entry with this hash; None if there is none. Raises StoreError if damaged."""
        path = self.folder / f"{name}{SUFFIX}"
        try:
            entry = Entry.of_json(name, _read(path))
            return replace(entry, images=self._images(entry.answered))
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError) as error:
            raise StoreError(f"{path} is damaged: {error}.") from None
        except OSError as error:
            raise StoreError(f"Can't read {path}: {error.strerror}.") from None

    def keep(self, entry: Entry, names: Names) -> None:
        """Save an entry, and the models that each notebook's names stood for. Raises StoreError.

        Notebooks that asked the same question before stay listed. A damaged entry is moved aside.
        """
        with self._alone():
            path = self.folder / f"{entry.receipt.hash}{SUFFIX}"
            try:
                before = self.read(entry.receipt.hash)
            except StoreError as error:
                files.move_aside(path, str(error))
                before = None
            notebooks = (*entry.notebooks, *(before.notebooks if before else ()))
            content = Entry(entry.receipt, entry.answered, tuple({*notebooks})).to_json()
            for image in entry.images:
                if not (self.folder / image.name).exists():
                    files.write(self.folder / image.name, image.data)
            if before is None or before.to_json() != content:
                files.write(path, content)
            if self._shared:
                self._keep_names(names)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock of a shared folder; in a private one, entries are independent."""
        if not self._shared:
            yield
            return
        with files.locked(self.folder / ".cassette"):
            self._ignore()
            yield

    def _ignore(self) -> None:
        path = self.folder / ".gitignore"
        if not path.exists():
            files.write(path, GITIGNORE)

    def _keep_names(self, names: Names) -> None:
        kept = self.names()
        # a notebook without a known name may be several notebooks
        unknown = {
            name: [*dict.fromkeys([*kept.get("", {}).get(name, ()), *models])]
            for name, models in names.get("", {}).items()
        }
        changed = {notebook: {**kept.get(notebook, {}), **new} for notebook, new in names.items()}
        if unknown:
            changed[""].update(unknown)
        self._write_names(kept, {**kept, **changed})

    def _write_names(self, kept: Names, names: Names) -> None:
        if names != kept:
            files.write(self.folder / NAMES, _written(names).encode() + b"\n")

    def names(self) -> dict[str, dict[str, list[str]]]:
        """Return the models that each name stood for, by notebook. Raises StoreError."""
        path = self.folder / NAMES
        try:
            version = files.version(path)
            return _names(path, version) if version else {}
        except (ValueError, AttributeError, TypeError, RecursionError):
            raise StoreError(
                f"{path} is damaged, perhaps by a merge.\n"
                "Delete it, and record the notebooks again."
            ) from None
        except OSError as error:
            raise StoreError(f"Can't read {path}: {error.strerror}.") from None

    def forget_names(self, notebook: str) -> None:
        """Forget the names of a notebook that no longer exists."""
        with self._alone():
            kept = self.names()
            self._write_names(kept, {one: names for one, names in kept.items() if one != notebook})

    def _images(self, answered: Mapping[str, Any]) -> tuple[Image, ...]:
        """Return the images of an answer, without those whose files are missing or damaged."""
        found: list[Image] = []
        for name in _image_names(answered):
            try:
                image = Image.read(_read(self.folder / name))
            except (OSError, ValueError):
                image = None
            if image is None or image.name != name:
                secrets.log.warning("The image %s is missing or damaged.", name)
            else:
                found.append(image)
        return tuple(found)

    def all(self) -> Iterator[Entry]:
        """Yield every entry; damaged ones are logged and skipped."""
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            if path.name != NAMES:
                try:
                    if entry := self.read(path.stem):
                        yield entry
                except StoreError as error:
                    secrets.log.warning("%s", error)

    def nearest(self, receipt: Receipt) -> tuple[Entry | None, int]:
        """Return the entry with the most similar question, and the number of entries."""
        wanted = difflib.SequenceMatcher(autojunk=False)
        wanted.set_seq2(receipt.text[-MAX_COMPARED:])
        best, found, count = 0.0, None, 0
        for entry in self.all():
            count += 1
            wanted.set_seq1(entry.receipt.text[-MAX_COMPARED:])
            if wanted.real_quick_ratio() > best and (likeness := wanted.quick_ratio()) > best:
                best, found = likeness, entry
        return found, count

    def forget(self, name: str, notebook: str) -> bool:
        """Remove a notebook from an entry; return whether the entry, having no other, is gone."""
        path = self.folder / f"{name}{SUFFIX}"
        with self._alone():
            if (entry := self.read(name)) is None:
                return False
            left = tuple(one for one in entry.notebooks if one != notebook)
            if left:
                files.write(path, Entry(entry.receipt, entry.answered, left).to_json())
            else:
                try:
                    path.unlink(missing_ok=True)
                    shown = {name for one in self.all() for name in _image_names(one.answered)}
                    for image in {*_image_names(entry.answered)} - shown:
                        (self.folder / image).unlink(missing_ok=True)
                except OSError as error:
                    raise StoreError(f"Can't remove {path}: {error.strerror}.") from None
        return not left


def _image_names(answered: Mapping[str, Any]) -> list[str]:
    """Return the file names of an answer's images; anyone may have written them."""
    names = answered.get("images", [])
    if not isinstance(names, list):
        return []
    return [one for one in names if isinstance(one, str) and re.fullmatch(IMAGE_NAME, one)]


def _read(path: Path) -> bytes:
    """Read a file that anyone may have put there: no link, device, pipe or endless file."""
    if path.is_symlink():
        raise ValueError("it is a link, which is not followed")
    descriptor = os.open(path, READ_FLAGS)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_FILE:
            raise ValueError("it is not a file, or larger than any entry")
        return file.read(found.st_size)


@functools.lru_cache(maxsize=8)
def _names(path: Path, _version: tuple[int, ...]) -> dict[str, dict[str, list[str]]]:
    """Read the names, once until the file changes: each question needs them several times."""
    given = json.loads(_read(path))
    return {
        notebook: {name: _models(models) for name, models in names.items()}
        for notebook, names in given.items()
    }


def _models(given: Any) -> list[str]:
    if isinstance(given, list) and all(isinstance(one, str) and one.isprintable() for one in given):
        return given
    raise ValueError(given)


def lines(text: str, mask: Callable[[str], str] = secrets.mask) -> str | list[str]:
    """Mask a text and, if it has several lines, split it into a list for comparison."""
    text = mask(text)
    return text.splitlines(keepends=True) if "\n" in text and len(text) <= MAX_SPLIT else text


def text_of(given: str | list[str]) -> str:
    """Join a text that `lines` has split."""
    return "".join(given)


def _written(value: Any, line: str = "\n") -> str:
    """Serialise a JSON value with sorted keys, one item per line; `line` begins each."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can express and UTF-8 can't
        text = re.sub(QUOTED, lambda found: _quoted(found[0]), text)
    return text.replace("\n", line)


def _quoted(text: str) -> str:
    """Return a JSON string, in ASCII if UTF-8 can't encode it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(json.loads(text))
    return text


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
