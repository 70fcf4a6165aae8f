"""Keys that a user gives: checked with the service, and kept for the address that it has now."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from ipychat import secrets
from ipychat.catalog import lists, registry
from ipychat.errors import (
    AnswerError,
    AuthenticationError,
    ForbiddenError,
    PolicyError,
    RequestError,
    ServiceError,
    UsageError,
)
from ipychat.providers._keyed import Keyed
from ipychat.store import credentials
from ipychat.wire import policy
from ipychat.wire.http import is_loopback

CHECK = {"retries": 0, "connect_timeout": 5.0, "timeout": 20.0}
"""How the question travels that checks a key."""
LONGEST = 5_000
"""Characters. The longest keys are signed tokens of some two thousand."""


class Account(NamedTuple):
    """Whose key it is, and which address it may go to."""

    name: str
    cls: type[Keyed]
    root: str

    @property
    def host(self) -> str:
        """Host and port, for people to recognise."""
        _, _, host = secrets.without_login(self.root).partition("//")
        return host.rpartition("@")[2].partition("/")[0]


def account(name: str) -> Account:
    """Return the account that a key for the provider of that name is of.

    Raises UsageError where there is no such provider, or one that wants no key.
    """
    cls = registry.load(name)
    if not issubclass(cls, Keyed):
        raise UsageError(f"{name} wants no key.")
    if refused := policy.refusal()(name, ""):
        raise PolicyError(f"{name} is {refused}.")
    root = cls.account_root(registry.root(name, cls))
    if not cls.key_variables and is_loopback(root):
        raise UsageError(f"{name} wants no key.")
    policy.check_url(root)
    return Account(name, cls, root)


async def log_in(whose: Account, key: str) -> str:
    """Check a key, keep it, and return in words what was found and where it is kept.

    One that the service does not accept raises its error, and is not kept.
    """
    key = secrets.Secret(key.strip())
    if not key:
        raise UsageError("No key was typed, and none is kept.")
    if len(key) > LONGEST:
        raise UsageError(f"A key of {len(key):,} characters is none.")
    try:
        listed = await whose.cls.check(whose.root, key, **CHECK)
        lists.keep(whose.name, whose.root, listed)
        found = f"{whose.cls.label} takes this key, and lists {len(listed)} models."
    except (AuthenticationError, ForbiddenError, RequestError) as error:  # Google's and xAI's: 400
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
