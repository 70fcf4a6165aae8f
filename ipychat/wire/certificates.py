"""Certificate authorities named in the environment.

OpenSSL's variables take precedence over those of `requests` and curl. aiohttp reads only OpenSSL's,
and only when it is imported; a notebook may set them later.
"""

from __future__ import annotations

import asyncio
import functools
import os
import ssl
from collections.abc import Callable

from ipychat.errors import UnreachableError

FILE, FOLDER = "SSL_CERT_FILE", "SSL_CERT_DIR"
REQUESTS, CURL = "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"
ADVICE = (
    "If your network has a certificate authority of its own, set SSL_CERT_FILE or "
    "REQUESTS_CA_BUNDLE to the file with its certificate."
)

_made: dict[tuple[str | None, ...], ssl.SSLContext] = {}
"""The last context created, by the settings it was created from."""


async def context() -> ssl.SSLContext | None:
    """Return a context with the certificates that the environment names; None if it names none.

    Raises UnreachableError if they can't be read.
    """
    openssl = os.environ.get(FILE), os.environ.get(FOLDER)
    if any(openssl):  # which OpenSSL reads by itself
        return await _once(openssl, ssl.create_default_context)
    for name, path in ((REQUESTS, os.environ.get(REQUESTS)), (CURL, os.environ.get(CURL))):
        if path:
            return await _once((name, path), functools.partial(_load, name, path))
    return None


async def _once(
    named: tuple[str | None, ...], make: Callable[[], ssl.SSLContext]
) -> ssl.SSLContext:
    if named not in _made:
        made = await asyncio.to_thread(make)  # it reads files
        _made.clear()
        _made[named] = made
    return _made[named]


def _load(name: str, path: str) -> ssl.SSLContext:
    try:
        if os.path.isdir(path):  # noqa: PTH112 - the path is only passed on
            return ssl.create_default_context(capath=path)
        return ssl.create_default_context(cafile=path)
    except OSError as error:  # SSLError is a subclass
        reason = "it holds no certificates" if isinstance(error, ssl.SSLError) else error.strerror
        raise UnreachableError(f"{name} names {path}, which can't be read: {reason}.") from None
