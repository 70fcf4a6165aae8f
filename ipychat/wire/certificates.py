"""The certificates that a service's own has to be signed by, where the environment names them.

OpenSSL's variables go before those that `requests` and curl read. aiohttp reads OpenSSL's alone,
and only when it is imported; a notebook may set them later.
"""

from __future__ import annotations

import asyncio
import os
import ssl

from ipychat.errors import UnreachableError

OPENSSL = ("SSL_CERT_FILE", "SSL_CERT_DIR")
BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
ADVICE = (
    "If your network has a certificate authority of its own, set SSL_CERT_FILE or "
    "REQUESTS_CA_BUNDLE to the file with its certificate."
)

_made: dict[tuple[tuple[str, str], ...], ssl.SSLContext] = {}
"""The one made last, by the variables that it was made of."""


async def context() -> ssl.SSLContext | None:
    """Return a context with the certificates that the environment names; None where it names none.

    Raises UnreachableError where they can't be read.
    """
    named = _set(OPENSSL) or _set(BUNDLES)[:1]
    if not named:
        return None
    if named not in _made:
        made = await asyncio.to_thread(_make, *named[0])  # it reads files
        _made.clear()
        _made[named] = made
    return _made[named]


def _set(names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name in names if (value := os.environ.get(name)))


def _make(name: str, path: str) -> ssl.SSLContext:
    if name in OPENSSL:
        return ssl.create_default_context()  # OpenSSL reads both by itself
    try:
        if os.path.isdir(path):  # noqa: PTH112 - a path that is no more than handed on
            return ssl.create_default_context(capath=path)
        return ssl.create_default_context(cafile=path)
    except OSError as error:  # an SSLError is one, too
        reason = "it holds no certificates" if isinstance(error, ssl.SSLError) else error.strerror
        raise UnreachableError(f"{name} names {path}, which can't be read: {reason}.") from None
