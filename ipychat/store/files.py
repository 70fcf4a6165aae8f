"""Where things live, and writing them so that nothing is lost: private, atomic, locked.

Folders are 0700 and files 0600. A file is replaced as a whole or not at all; a damaged one is moved
aside and reported, never written over.
"""

import contextlib
import functools
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ipychat import requirements
from ipychat.errors import StoreError

LOCK_TIMEOUT = 30.0
"""Seconds. A lock is held for milliseconds; whoever waits this long should be told."""
HELD_TIMEOUT = 0.25
"""Seconds for a lock that was waited for in vain: whoever holds it holds it still, or is gone."""
LOCK_POLL = 0.002
"""Seconds between two tries to take a lock."""
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
"""How a file is opened that nobody has made before."""
ORPHAN_AGE = 3600.0
"""Seconds. A temporary file this old belongs to a process that was killed while it wrote."""


_held: set[str] = set()
"""The locks that were waited for in vain, until one of them is had again."""


class HeldError(StoreError):
    """Another process holds a lock, and keeps it."""


def home() -> Path:
    """Return the folder for all that ipychat keeps: `IPYCHAT_HOME`, else the platform's place."""
    if given := os.environ.get("IPYCHAT_HOME"):
        return absolute(given)
    import platformdirs

    return Path(platformdirs.user_data_dir("ipychat", appauthor=False))


@functools.cache
def absolute(path: str) -> Path:
    """Return the same path wherever the process goes after it was first asked for."""
    return Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 - without any ..


def private_folder(path: Path) -> Path:
    """Make the folder and those above it that are missing, for this user alone."""
    try:
        if not path.parent.exists():
            private_folder(path.parent)  # mkdir would make the parents by the umask
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StoreError(f"Can't make the folder {path}: {error.strerror}.") from None
    return path


def write(path: Path, content: bytes) -> None:
    """Put `content` in place of what `path` holds, at once and whole, for this user alone.

    Raises StoreError; the file is then as it was. Not synced to the platter: after a power cut the
    file may be an older one, or damaged and then moved aside; a killed process leaves it whole.
    """
    temporary = f"{path.parent}/.{path.name}.{os.urandom(8).hex()}"
    try:
        try:
            descriptor = os.open(temporary, NEW, 0o600)
        except FileNotFoundError:
            private_folder(path.parent)
            descriptor = os.open(temporary, NEW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.replace(temporary, path)  # noqa: PTH105 - the atomic call, by its own name
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108 - beside its twin above
        if isinstance(error, OSError):
            raise StoreError(f"Can't write {path}: {error.strerror}.") from None
        raise


def version(path: Path) -> tuple[int, ...] | None:
    """Return a key that changes whenever the file does; None if there is none. Raises OSError."""
    try:
        found = os.stat(path)  # noqa: PTH116 - several times a question: a Path takes twice as long
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`; empty if there is none.

    A damaged or unreadable file is moved aside with a warning, and counts as none.
    """
    try:
        return _parse(path)
    except _DamagedError:
        with locked(path):  # whoever holds it may be replacing the damaged file just now
            return _parse_or_move(path)


def update_json(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Replace the JSON object in `path` by what `change` makes of it, no other writer between."""
    with locked(path):
        _sweep(path)
        content = json.dumps(change(_parse_or_move(path)), indent=1, ensure_ascii=False)
        write(path, content.encode())


def remove(path: Path) -> None:
    """Remove the file, if it is there."""
    with locked(path):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"Can't remove {path}: {error.strerror}.") from None


class _DamagedError(Exception):
    """Why a file cannot be used."""


def _parse(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError):
        raise _DamagedError("it is not valid JSON") from None
    except OSError as error:
        raise _DamagedError(error.strerror) from None
    if not isinstance(value, dict):
        raise _DamagedError("it holds no JSON object")
    return value


def _parse_or_move(path: Path) -> dict[str, Any]:
    try:
        return _parse(path)
    except _DamagedError as fault:
        move_aside(path, str(fault))
        return {}


def move_aside(path: Path, fault: str) -> None:
    """Keep a damaged file under another name, and warn."""
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}")
    try:
        path.rename(aside)
    except OSError as error:
        raise StoreError(f"Can't read {path} ({fault}), nor move it: {error.strerror}.") from None
    warnings.warn(f"{path} could not be read: {fault}. Kept as {aside.name}.", stacklevel=2)


def _sweep(path: Path) -> None:
    """Remove what killed processes left beside `path` while they wrote it."""
    for orphan in path.parent.glob(f".{path.name}.*"):
        with contextlib.suppress(OSError):
            if time.time() - orphan.stat().st_mtime > ORPHAN_AGE:
                orphan.unlink()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock that stands for `path`, against all threads and processes. Not re-entrant.

    Raises HeldError where another process keeps it: after 30 s, and from then on soon, until it is
    had again.
    """
    requirements.check("filelock")
    import filelock

    private_folder(path.parent)
    name = lock_file(path)
    patience = HELD_TIMEOUT if name in _held else LOCK_TIMEOUT
    try:
        with filelock.FileLock(name, timeout=patience, mode=0o600, poll_interval=LOCK_POLL):
            _held.discard(name)
            yield
    except filelock.Timeout:
        _held.add(name)
        raise HeldError(
            f"Another process has held {name} for {patience:g} s.\n"
            "If none is at work there, delete that file."
        ) from None
    except OSError as error:
        raise StoreError(f"Can't lock {path}: {error.strerror}.") from None


def lock_file(path: Path) -> str:
    """Return the name of the file whose lock stands for `path`.

    Raises StoreError where that is a link: locking may empty the file that it leads to.
    """
    name = f"{path}.lock"
    if os.path.islink(name):  # noqa: PTH114 - once for each record: a Path takes twice as long
        raise StoreError(f"{name} is a link, and a lock is never taken through one.\nRemove it.")
    return name


def get_cookies_dir() -> str:
    """Return the folder for what services hand out: `home()`, by its documented name."""
    return str(home())
