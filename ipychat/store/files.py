"""Where files are kept, and private, atomic, locked writing.

Folders are 0700 and files 0600. A file is replaced whole or not at all; a damaged one is moved
aside and reported, never overwritten.
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
"""Seconds. Locks are held for milliseconds; after this long the user should be told."""
HELD_TIMEOUT = 0.25
"""Seconds to wait for a lock that has timed out before: its holder is stuck."""
LOCK_POLL = 0.002
"""Seconds between attempts to take a lock."""
CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
"""Flags to create a file that must not exist."""
ORPHAN_AGE = 3600.0
"""Seconds. An older temporary file was left by a process killed while writing."""


_held: set[str] = set()
"""Locks that have timed out, until they are acquired again."""


class HeldError(StoreError):
    """Another process holds a lock and does not release it."""


def home() -> Path:
    """Return ipychat's folder: `IPYCHAT_HOME`, else the platform's user data folder."""
    if given := os.environ.get("IPYCHAT_HOME"):
        return absolute(given)
    import platformdirs

    return Path(platformdirs.user_data_dir("ipychat", appauthor=False))


@functools.cache
def absolute(path: str) -> Path:
    """Return the absolute path, as of the first call: the working directory may change later."""
    return Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 - removes any ..


def private_folder(path: Path) -> Path:
    """Create the folder and its missing parents, for this user alone."""
    try:
        if not path.parent.exists():
            private_folder(path.parent)  # mkdir would create the parents with the umask's mode
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StoreError(f"Can't make the folder {path}: {error.strerror}.") from None
    return path


def write(path: Path, content: bytes) -> None:
    """Replace the content of `path` atomically, for this user alone.

    Raises StoreError and leaves the file unchanged if that fails. Not synced: after a power cut the
    file may be an older version, or damaged (it is then moved aside). A killed process leaves it
    intact.
    """
    temporary = f"{path.parent}/.{path.name}.{os.urandom(8).hex()}"
    try:
        try:
            descriptor = os.open(temporary, CREATE_FLAGS, 0o600)
        except FileNotFoundError:
            private_folder(path.parent)
            descriptor = os.open(temporary, CREATE_FLAGS, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.replace(temporary, path)  # noqa: PTH105 - the atomic call, by its own name
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108 - matches os.replace above
        if isinstance(error, OSError):
            raise StoreError(f"Can't write {path}: {error.strerror}.") from None
        raise


def version(path: Path) -> tuple[int, ...] | None:
    """Return a key that changes whenever the file does; None if it is missing. Raises OSError."""
    try:
        found = os.stat(path)  # noqa: PTH116 - often called; Path takes twice as long
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`; empty if there is no file.

    A damaged or unreadable file is moved aside with a warning, and counts as missing.
    """
    try:
        return _parse(path)
    except _DamagedError:
        with locked(path):  # another process may be replacing the damaged file right now
            return _parse_or_move(path)


def update_json(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Replace the JSON object in `path` by `change(object)`, with other writers locked out."""
    with locked(path):
        _sweep(path)
        content = json.dumps(change(_parse_or_move(path)), indent=1, ensure_ascii=False)
        write(path, content.encode())


def remove(path: Path) -> None:
    """Delete the file if it exists."""
    with locked(path):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"Can't remove {path}: {error.strerror}.") from None


class _DamagedError(Exception):
    """Why a file can't be used."""


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
        raise _DamagedError("it does not hold a JSON object")
    return value


def _parse_or_move(path: Path) -> dict[str, Any]:
    try:
        return _parse(path)
    except _DamagedError as fault:
        move_aside(path, str(fault))
        return {}


def move_aside(path: Path, fault: str) -> None:
    """Rename a damaged file, and warn."""
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}")
    try:
        path.rename(aside)
    except OSError as error:
        raise StoreError(f"Can't read {path} ({fault}), nor move it: {error.strerror}.") from None
    warnings.warn(f"{path} could not be read: {fault}. Kept as {aside.name}.", stacklevel=2)


def _sweep(path: Path) -> None:
    """Delete temporary files beside `path` that killed processes left."""
    for orphan in path.parent.glob(f".{path.name}.*"):
        with contextlib.suppress(OSError):
            if time.time() - orphan.stat().st_mtime > ORPHAN_AGE:
                orphan.unlink()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock for `path` against all threads and processes. Not re-entrant.

    Raises HeldError if another process keeps it for 30 s; later attempts give up sooner, until one
    succeeds.
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
            "If no process is using it, delete that file."
        ) from None
    except OSError as error:
        raise StoreError(f"Can't lock {path}: {error.strerror}.") from None


def lock_file(path: Path) -> str:
    """Return the name of the lock file for `path`.

    Raises StoreError if that is a link: locking may truncate the link's target.
    """
    name = f"{path}.lock"
    if os.path.islink(name):  # noqa: PTH114 - called for each record; Path takes twice as long
        raise StoreError(f"{name} is a link, and a lock must not be one.\nRemove it.")
    return name


def get_cookies_dir() -> str:
    """Return the folder for what services issue: `home()`, under its documented name."""
    return str(home())
