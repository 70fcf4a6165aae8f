"""Tokens and session ids issued by services, shared by all kernels of the user.

One file per service holds an access token, a session id, and the root URL they belong to. For any
other root they count as absent, so a token never goes to a server that did not issue it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import weakref
from typing import TYPE_CHECKING, Any

from ipychat import requirements, secrets
from ipychat.errors import StoreError
from ipychat.store import files

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

ROOT = "root"
LOGIN_POLL = 0.02
"""Seconds between attempts to take the login lock, which is held for a whole login."""

_logins: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Path, asyncio.Lock]] = (
    weakref.WeakKeyDictionary()
)
_unsaved: dict[Path, dict[str, Any]] = {}
"""Values that could not be written to disk; this kernel uses them until they can be."""


class ServiceSession:
    """What one service issued to this user, in memory and on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, str]:
        """Return everything stored, whatever root it belongs to; empty if there is nothing."""
        try:
            kept = _unsaved.get(self.path) or files.read_json(self.path)
        except StoreError as error:
            secrets.log.warning("%s", error)
            return {}
        texts = {name: value for name, value in kept.items() if isinstance(value, str)}
        _register(texts)
        return {n: value if n == ROOT else secrets.Secret(value) for n, value in texts.items()}

    def read_for(self, root: str) -> dict[str, str]:
        """Return the values for `root`."""
        kept = self.read()
        return kept if kept.get(ROOT) == root else {}

    def save(self, values: dict[str, str]) -> None:
        """Replace everything stored by `values`."""
        self._write(values, lambda _: values)

    def update(self, values: dict[str, str]) -> None:
        """Merge `values` with what is stored; values for another root are dropped."""

        def change(kept: dict[str, Any]) -> dict[str, Any]:
            same = ROOT not in values or kept.get(ROOT) == values[ROOT]
            return {**(kept if same else {}), **values}

        self._write(values, change)

    def _write(
        self, values: dict[str, str], change: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> None:
        _register(values)
        try:
            files.update_json(self.path, lambda kept: change(_unsaved.get(self.path, kept)))
            _unsaved.pop(self.path, None)
        except StoreError as error:
            _unsaved[self.path] = change(_unsaved.get(self.path, {}))
            secrets.log.warning("%s This kernel keeps the login until it ends.", error)

    def clear(self) -> None:
        """Forget everything."""
        _unsaved.pop(self.path, None)
        try:
            files.remove(self.path)
        except StoreError as error:
            secrets.log.warning("%s", error)

    @contextlib.asynccontextmanager
    async def login(self) -> AsyncIterator[None]:
        """Hold the login lock: one task of one kernel logs in at a time.

        Read again inside the block: another task may have logged in while this one waited.
        """
        requirements.check("filelock")
        import filelock

        # The tasks of one loop queue here, so only one of them polls the file lock.
        mine = _logins.setdefault(asyncio.get_running_loop(), {})
        turn = mine.setdefault(self.path, asyncio.Lock())
        async with turn, contextlib.AsyncExitStack() as stack:
            try:
                files.private_folder(self.path.parent)
                lock = files.lock_file(self.path.with_name(f"{self.path.name}.login"))
                await stack.enter_async_context(
                    filelock.AsyncFileLock(lock, mode=0o600, poll_interval=LOGIN_POLL)
                )
            except (OSError, StoreError) as error:
                # if the disk can't be written, logins can't be shared either
                secrets.log.warning("No lock for %s: %s", self.path.name, error)
            yield


def _register(values: dict[str, str]) -> None:
    for name, value in values.items():
        if name != ROOT:
            secrets.register(value, f"the {name} of a service")


# -- keys that the user gave

KEYS = "keys.json"
KEYRING = "ipychat"
"""The service name of our keys in the system's keyring."""

_from_keyring: dict[str, str] = {}
"""Keys read from the system's keyring: asking it takes milliseconds, and may prompt the user."""


def kept_key(service: str, root: str) -> str | None:
    """Return the stored key for `service` at `root`, registered as a secret."""
    entry = _keys().get(service)
    if not isinstance(entry, dict) or entry.get(ROOT) != (root := secrets.without_login(root)):
        return None
    account = _account(service, root)
    key = entry.get("key") or _from_keyring.get(account) or _keyring_key(account)
    if not (isinstance(key, str) and key):
        return None
    secrets.register(key, f"the key of {service}")
    return secrets.Secret(key)


def services() -> list[str]:
    """Return the services with stored keys, at any address."""
    return sorted(_keys())


def register_kept() -> None:
    """Register every key in the private file as a secret."""
    for name, entry in _keys().items():
        if isinstance(entry, dict) and isinstance(key := entry.get("key"), str):
            secrets.register(key, f"the key of {name}")


def keep_key(service: str, root: str, key: str) -> str:
    """Store a key; return where, in words. Raises StoreError if it can't be written."""
    secrets.register(key, f"the key of {service}")
    root = secrets.without_login(root)
    entry, where = {ROOT: root, "key": key}, "a private file"
    if _put_into_keyring(_account(service, root), key):
        entry, where = {ROOT: root}, "your system's keyring"
    files.update_json(_keys_file(), lambda kept: {**kept, service: entry})
    return where


def forget_key(service: str) -> bool:
    """Delete the key of `service`; return whether there was one.

    Raises StoreError if it can't be deleted from the disk or the keyring.
    """
    entry = files.read_json(_keys_file()).get(service)
    if isinstance(entry, dict) and "key" not in entry:
        _take_from_keyring(_account(service, str(entry.get(ROOT))))
    files.update_json(
        _keys_file(), lambda kept: {name: e for name, e in kept.items() if name != service}
    )
    return entry is not None


def _account(service: str, root: str) -> str:
    """The keyring's account name for a key: it includes the address, so the key fits no other."""
    return f"{service} {root}"


def _keys_file() -> Path:
    return files.home() / KEYS


@functools.cache
def _warn_once(fault: str) -> None:
    secrets.log.warning("%s", fault)


def _keys() -> dict[str, Any]:
    path = _keys_file()
    try:
        return _read_keys(path, files.version(path))
    except (StoreError, OSError) as error:
        _warn_once(str(error))
        return {}


@functools.lru_cache(maxsize=2)
def _read_keys(path: Path, version: tuple[int, ...] | None) -> dict[str, Any]:
    """Read the private file, once until it changes: every question needs it."""
    return files.read_json(path) if version else {}


def _put_into_keyring(account: str, key: str) -> bool:
    """Store the key in the system's keyring; False if there is none that accepts it."""
    try:
        import keyring
        import keyring.errors
    except ImportError:
        return False
    _from_keyring.pop(account, None)
    try:
        keyring.set_password(KEYRING, account, key)
        return bool(keyring.get_password(KEYRING, account) == key)  # some backends store nothing
    except (keyring.errors.KeyringError, OSError, RuntimeError):
        return False


def _keyring_key(account: str) -> str | None:
    service, _, _ = account.partition(" ")
    try:
        import keyring
        import keyring.errors
    except ImportError:
        _warn_once(f"The key of {service} is in the system's keyring: pip install keyring")
        return None
    try:
        found: str | None = keyring.get_password(KEYRING, account)
    except (keyring.errors.KeyringError, OSError, RuntimeError):
        _warn_once(f"The system's keyring did not return the key of {service}.")
        return None
    if found:
        _from_keyring[account] = found
    return found


def _take_from_keyring(account: str) -> None:
    _from_keyring.pop(account, None)
    try:
        import keyring
        import keyring.errors

        keyring.delete_password(KEYRING, account)
    except keyring.errors.PasswordDeleteError:
        pass  # the keyring no longer has it
    except (ImportError, keyring.errors.KeyringError, OSError, RuntimeError) as error:
        raise StoreError(
            f"The system's keyring could not delete the key: {type(error).__name__}."
        ) from None
