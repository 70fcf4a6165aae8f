"""Keys that a user enters: checked with the service, and stored for its current address."""

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
"""Transport options of the request that checks a key."""
MAX_KEY = 5_000
"""Characters. The longest keys are signed tokens of about 2,000."""


class Account(NamedTuple):
    """The service that a key belongs to, and the address it may be sent to."""

    name: str
    cls: type[Keyed]
    root: str

    @property
    def host(self) -> str:
        """Host and port, which people can recognise."""
        _, _, host = secrets.without_login(self.root).partition("//")
        return host.rpartition("@")[2].partition("/")[0]


def account(name: str) -> Account:
    """Return the account for keys of the provider of that name.

    Raises UsageError if there is no such provider, or if it needs no key.
    """
    cls = registry.load(name)
    if not issubclass(cls, Keyed):
        raise UsageError(f"{name} needs no key.")
    if refused := policy.refusal()(name, ""):
        raise PolicyError(f"{name} is {refused}.")
    root = cls.account_root(registry.root(name, cls))
    if not cls.key_variables and is_loopback(root):
        raise UsageError(f"{name} needs no key.")
    policy.check_url(root)
    return Account(name, cls, root)


async def log_in(whose: Account, key: str) -> str:
    """Check a key and store it; return in words what was found and where the key is stored.

    If the service rejects the key, its error is raised and the key is not stored.
    """
    key = secrets.Secret(key.strip())
    if not key:
        raise UsageError("No key was entered, so none is stored.")
    if len(key) > MAX_KEY:
        raise UsageError(f"A text of {len(key):,} characters is not a key.")
    try:
        listed = await whose.cls.check(whose.root, key, **CHECK)
        lists.keep(whose.name, whose.root, listed)
        found = f"{whose.cls.label} accepts this key, and lists {len(listed)} models."
    # Google and xAI answer 400
    except (AuthenticationError, ForbiddenError, RequestError) as error:
        raise AuthenticationError(f"{error}\nThe key was not stored.", error.status) from None
    except (ServiceError, AnswerError) as error:
        first = str(error).splitlines()[0]
        found = f"The key could not be checked: {first}"
    where = await asyncio.to_thread(credentials.keep_key, whose.name, whose.root, key)
    return f"{found}\nIt is stored in {where}, and only sent to {whose.host}."


def forget(name: str) -> str:
    """Delete the key of a provider; return in words whether there was one."""
    known = credentials.forget_key(name)
    return f"The key of {name} was deleted." if known else f"There was no key of {name}."
