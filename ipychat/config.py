"""Every setting in one frozen value.

`current()` is what is in force; `use()` replaces it as a whole. Configuration files and
`%config IPyChat` only fill this value; code below reads it and never asks where it came from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


def _nothing() -> Mapping[str, str]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What a user can set. Times are in seconds."""

    model: str | None = None
    """Which model answers where none is named."""
    aliases: Mapping[str, str] = field(default_factory=_nothing)
    """Short names of the user's own: alias → model."""
    urls: Mapping[str, str] = field(default_factory=_nothing)
    """Root URLs in place of a provider's own: provider → URL."""
    proxy: str | None = None
    """For every request that leaves this machine; else the environment's proxies hold."""
    connect_timeout: float = 10.0
    idle_timeout: float = 120.0
    """How long a service may be silent, before its answer and within it."""
    timeout: float | None = None
    """How long a whole answer may take."""
    retries: int = 2
    """How often a request is sent again after a 429 or 5xx that came before the first byte."""


_current = Config()


def current() -> Config:
    """Return the settings in force."""
    return _current


def use(settings: Config) -> None:
    """Put `settings` in force."""
    global _current  # noqa: PLW0603 - the one value this module exists to hold
    _current = settings
