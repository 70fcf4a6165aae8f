"""Services that want a key: which one is found, and the one address that it may go to."""

from __future__ import annotations

import asyncio
import os
import subprocess
from typing import Any, ClassVar, NamedTuple

from ipychat import secrets
from ipychat.errors import MissingKeyError
from ipychat.providers.provider import Card, FullProvider
from ipychat.store import credentials
from ipychat.wire.http import not_running

KEY_COMMAND = "key_command"
COMMAND_TIMEOUT = 10.0
"""Time limit of a key command, in seconds."""
_printed: dict[tuple[str, ...], str] = {}
"""Keys by the command that printed them."""


class Key(NamedTuple):
    """A key, and where it was found."""

    value: str
    where: str

    def __repr__(self) -> str:
        return f"<Key: {self.where}>"


class Keyed(FullProvider):
    """A provider whose service knows its users by a key."""

    name: ClassVar[str] = ""
    """What the catalog calls it; under that name its key is kept."""
    key_variables: ClassVar[tuple[str, ...]] = ()
    """The environment's names for its key; none where it wants no key."""
    key_command: ClassVar[tuple[str, ...]] = ()
    """The user's command that prints the key."""

    @classmethod
    def find_key(cls, root: str, given: str | None = None) -> Key | None:
        """Return the key for `root`: the one given, else the environment's, else the one kept.

        The environment's belongs to the environment's address, else to the service's own; a kept
        one to the address that it was kept for.
        """
        if given:
            return _checked(given, "api_key")
        if root == cls.root():
            if printed := _printed.get(cls.key_command):
                return _checked(printed, KEY_COMMAND)
            for variable in cls.key_variables:
                if key := secrets.Secret(os.environ.get(variable, "").strip()):
                    return _checked(key, variable)
        kept = credentials.kept_key(cls.name, root)
        return _checked(kept, f"%chat_login {cls.name}") if kept else None

    @classmethod
    def account_root(cls, root: str) -> str:
        """Return the address that a key is for which is given to the provider at `root`."""
        return root

    @classmethod
    def key_found(cls, root: str) -> str | None:
        """Return where a key for `root` was found; None where there is none."""
        try:
            found = cls.find_key(root)
        except MissingKeyError as error:
            return str(error)
        return found.where if found else None

    @classmethod
    def key(cls, root: str, given: str | None = None) -> str | None:
        """Return the key for `root`; None where a server of the user's own may need none.

        Raises MissingKeyError where one is needed and there is none.
        """
        if found := cls.find_key(root, given):
            return found.value
        if cls.key_variables and root == cls.base_url.rstrip("/"):
            raise MissingKeyError(
                f"{cls.label} wants a key.\n"
                f"Set {cls.key_variables[0]}, run %chat_login {cls.name}, or pass api_key=…."
            )
        return None

    @classmethod
    async def fetch_key(cls, root: str, given: str | None = None) -> None:
        """Run the key command in a thread, unless its key is known."""
        command = cls.key_command
        if command and not given and root == cls.root() and command not in _printed:
            _printed[command] = await asyncio.to_thread(_run, command, cls.label)

    @classmethod
    def forget_key(cls) -> bool:
        """Forget the key that the command printed; return whether there was one."""
        return _printed.pop(cls.key_command, None) is not None

    @classmethod
    async def check(cls, root: str, key: str, **transport: Any) -> list[Card]:
        """Return the service's models, if it accepts the key."""
        return await cls.cards(base_url=root, api_key=key, **transport)

    @classmethod
    def missing(cls, root: str) -> str | None:
        """Return what is missing before `root` can be asked."""
        try:
            key = cls.key(root)
        except MissingKeyError as error:
            if cls.key_found(root):
                return str(error)
            return f"no key: %chat_login {cls.name}"
        return None if key else not_running(root)


def _run(command: tuple[str, ...], label: str) -> str:
    """Run a key command without a shell, and return what it prints."""
    try:
        done = subprocess.run(  # noqa: S603 - no shell, and the user's own setting names it
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=COMMAND_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        said = f"took over {COMMAND_TIMEOUT:g} s"
        raise MissingKeyError(f"{label}'s key_command {command[0]} {said}.") from None
    except (OSError, ValueError) as error:
        raise MissingKeyError(f"{label}'s key_command can't be run: {error}.") from None
    key = done.stdout.decode(errors="replace").strip()
    if done.returncode or not key:
        how = f"ended with {done.returncode}" if done.returncode else "printed nothing"
        raise MissingKeyError(f"{label}'s key_command {command[0]} {how}, and gave no key.")
    return secrets.Secret(key)


def _checked(key: str, where: str) -> Key:
    key = secrets.Secret(key.strip())
    secrets.register(key, where)
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise MissingKeyError(f"The key in {where} has a character that no key has.")
    return Key(key, where)
