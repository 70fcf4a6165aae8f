"""Keys that a user gives: checked with the service, and kept for the address that it has now."""

from __future__ import annotations

import asyncio
from typing import NamedTuple
from urllib.parse import urlsplit

from ipychat import cards, catalog
from ipychat.errors import (
    AnswerError,
    AuthenticationError,
    ForbiddenError,
    ServiceError,
    UsageError,
)
from ipychat.providers._keyed import Keyed
from ipychat.store import credentials

CHECK = {"retries": 0, "connect_timeout": 5.0, "timeout": 20.0}
"""How the question travels that checks a key."""


class Account(NamedTuple):
    """Whose key it is, and which address it may go to."""

    name: str
    cls: type[Keyed]
    root: str

    @property
    def host(self) -> str:
        """Host and port, for people to recognise."""
        return urlsplit(self.root).netloc.rpartition("@")[2]


def account(name: str) -> Account:
    """Return the account that a key for the provider of that name is of.

    Raises UsageError where there is no such provider, or one that wants no key.
    """
    cls = catalog.load(name)
    if not (issubclass(cls, Keyed) and cls.key_variables):
        raise UsageError(f"{name} wants no key.")
    return Account(name, cls, catalog.root(name, cls))


async def log_in(whose: Account, key: str) -> str:
    """Check a key, keep it, and return in words what was found and where it is kept.

    One that the service does not accept raises its error, and is not kept.
    """
    key = key.strip()
    if not key:
        raise UsageError("No key was typed, and none is kept.")
    try:
        listed = await whose.cls.check(whose.root, key, **CHECK)
        cards.keep(whose.name, whose.root, listed)
        found = f"{whose.cls.label} takes this key, and lists {len(listed)} models."
    except (AuthenticationError, ForbiddenError) as error:
        raise AuthenticationError(f"{error}\nThe key was not kept.", error.status) from None
    except (ServiceError, AnswerError) as error:
        first = str(error).splitlines()[0]
        found = f"The key could not be checked: {first}"
    where = await asyncio.to_thread(credentials.keep_key, whose.name, whose.root, key)
    return f"{found}\nIt is kept in {where}, and goes to {whose.host} only."


def forget(name: str) -> str:
    """Forget the key of a provider; return in words whether there was one."""
    known = credentials.forget_key(name)
    return f"The key of {name} is forgotten." if known else f"There was no key of {name}."
