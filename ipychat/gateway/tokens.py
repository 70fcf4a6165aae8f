"""Tokens that expire, signed with a key that all kernels of the user share."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets as random
import time

from ipychat import secrets
from ipychat.store import files

LIFETIME = 7 * 24 * 3600
"""Seconds."""
KEY_FILE = "gateway.key"


def issue() -> str:
    """Return a new token."""
    expires = str(int(time.time()) + LIFETIME)
    payload = f"{expires}.{random.token_urlsafe(12)}"
    return f"{payload}.{_signature(payload)}"


def accept(token: str) -> bool:
    """Tell whether `token` is one of ours that has not expired."""
    payload, _, signature = token.rpartition(".")
    expires = payload.partition(".")[0]
    if not (token.isascii() and expires.isdigit()):
        return False
    genuine = hmac.compare_digest(signature.encode(), _signature(payload).encode())
    return genuine and int(expires) > time.time()


def _signature(payload: str) -> str:
    digest = hmac.digest(_key(), payload.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _key() -> bytes:
    """Return the key, made by the first kernel that needs it."""
    path = files.home() / KEY_FILE
    kept = files.read_json(path).get("key")
    if not isinstance(kept, str):
        files.update_json(path, lambda kept: kept or {"key": random.token_hex(32)})
        kept = files.read_json(path)["key"]
    secrets.register(key := str(kept))
    return key.encode()
