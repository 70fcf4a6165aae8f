"""Limits on models and hosts that an administrator sets and a user can only narrow.

They are read from a file that only an administrator can write; a user's configuration file would
override an administrator's:

    {"allowed_models": ["openai:*", "helper:*"], "allowed_hosts": ["api.openai.com"]}

Names may contain `*`. This is a guard-rail, not a wall: code in a kernel can do whatever Python
can.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from ipychat import config
from ipychat.errors import PolicyError
from ipychat.store import files

NAME = "policy.json"
KEYS = {"allowed_models", "allowed_hosts"}

_own: set[str] = set()
"""Hosts and ports of this kernel's own gateway; the requests it makes itself are checked."""


class Limits(NamedTuple):
    """Patterns, one of which must match; None means no limit."""

    allowed_models: tuple[str, ...] | None = None
    allowed_hosts: tuple[str, ...] | None = None


@functools.cache
def file() -> Path:
    """Return the path of an administrator's file; no environment variable can change it."""
    if sys.platform == "win32":
        import platformdirs  # reads the registry there

        return Path(platformdirs.site_config_dir("ipychat", appauthor=False)) / NAME
    if sys.platform == "darwin":
        return Path("/Library/Application Support/ipychat") / NAME
    return Path("/etc/ipychat") / NAME


def check_model(model: str) -> None:
    """Raise PolicyError if `model`, written provider:name, is not allowed."""
    _check(model, "allowed_models", model)


def refusal() -> Callable[[str, str], str | None]:
    """Return a function that says briefly why a model is not allowed, or None if it is.

    With an empty model it does so for a provider none of whose models is allowed.
    """
    limits = [(whose, one.allowed_models) for whose, one in _limits()]

    def refused(provider: str, model: str) -> str | None:
        name = f"{provider}:{model}" if model else provider
        for whose, patterns in limits:
            if patterns is not None and not model:
                patterns = tuple(one.partition(":")[0] for one in patterns)  # noqa: PLW2901
            if not _fits(name, patterns):
                return f"not allowed by {whose[0].lower()}{whose[1:]}"
        return None

    return refused


def check_url(url: str) -> None:
    """Raise PolicyError if requests to the host of `url` are not allowed."""
    if config.replay() == "replay":
        raise PolicyError("Nothing is sent while answers are replayed: IPyChat.replay is 'replay'.")
    parts = urlsplit(url)
    host = (parts.hostname or "").lower().rstrip(".")
    _check(host, "allowed_hosts", f"requests to {host}", own=parts.netloc in _own)


def _check(name: str, kind: str, what: str, *, own: bool = False) -> None:
    """Raise PolicyError if `name` matches no pattern of a limit and is not our own."""
    for whose, limits in _limits():  # a file that can't be read forbids our own, too
        patterns: tuple[str, ...] | None = getattr(limits, kind)
        if not _fits(name, patterns) and not own:
            raise PolicyError(
                f"{whose} does not allow {what}.\n"
                f"Allowed are: {', '.join(patterns or ()) or 'none'}."
            )


def limits_hosts() -> bool:
    """Whether there are limits on hosts."""
    return any(limits.allowed_hosts is not None for _, limits in _limits())


def own(root: str) -> None:
    """Allow this kernel's own gateway at `root`."""
    _own.add(urlsplit(root).netloc)


def in_force() -> list[tuple[str, str]]:
    """Return each limit in words, with its source."""
    return [
        (f"{kind.replace('_', ' ')}: {', '.join(patterns) or 'none'}", whose)
        for whose, limits in _limits()
        for kind, patterns in zip(Limits._fields, limits, strict=True)
        if patterns is not None
    ]


def _limits() -> list[tuple[str, Limits]]:
    """Return the limits in force, each with its source."""
    settings = config.current()
    path = file()
    try:
        version = files.version(path)
    except OSError as error:
        raise _unreadable(path, error.strerror) from None
    hosts = settings.allowed_hosts
    own = Limits(settings.allowed_models, None if hosts is None else tuple(map(str.lower, hosts)))
    found = [("%config IPyChat", own)]
    if version:
        found.insert(0, ("The administrator's policy", _read(path, version)))
    return found


@functools.lru_cache(maxsize=4)
def _read(path: Path, _version: tuple[int, ...]) -> Limits:
    """Read the file; if it can't be read, allow nothing, since its limits are unknown."""
    try:
        given = json.loads(path.read_bytes())
        if not isinstance(given, dict) or given.keys() - KEYS:
            raise ValueError(f"it holds an object with {' and '.join(sorted(KEYS))} at most")
        return Limits(**{kind: _patterns(kind, value) for kind, value in given.items()})
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise _unreadable(path, why) from None


def _patterns(kind: str, given: object) -> tuple[str, ...]:
    if isinstance(given, list) and all(isinstance(one, str) for one in given):
        return tuple(one.lower() if kind == "allowed_hosts" else one for one in given)
    raise ValueError(f"{kind} must be a list of texts")


def _unreadable(path: Path, why: str | None) -> PolicyError:
    return PolicyError(
        f"The administrator's policy {path} can't be read, so nothing is sent: {why}."
    )


def _fits(name: str, patterns: tuple[str, ...] | None) -> bool:
    return patterns is None or any(fnmatchcase(name, pattern) for pattern in patterns)
