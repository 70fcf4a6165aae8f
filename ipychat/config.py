"""Every setting in one frozen value.

`current()` is what is in force; `use()` replaces it as a whole. Configuration files and
`%config IPyChat` only fill this value; code below reads it and never asks where it came from.
"""

import os
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from ipychat.errors import UsageError

REPLAY = ("off", "auto", "refresh", "replay")
"""Whether answers that are kept are looked up: no; first; no, but kept anew; yes, and no others."""
REPLAY_VARIABLE = "IPYCHAT_REPLAY"
CASSETTE_VARIABLE = "IPYCHAT_CASSETTE"
CASSETTE = "__chat__"
"""The folder of a notebook's answers, where the user names no other."""
NOTHING: Mapping[str, Any] = MappingProxyType({})


class Endpoint(NamedTuple):
    """A service at its address."""

    label: str
    """Its name for people."""
    base_url: str
    key_variable: str = ""
    """The environment's name for its key; empty where it wants none."""
    default_model: str = ""
    """Empty where it depends on what is loaded there."""
    check_path: str = ""
    """What a key is checked by where anyone may read the list of models."""
    asks_usage: bool = True
    """Whether a stream may be asked for its usage; some refuse the word."""
    pdf_part: str = "file"
    """What it calls a part of a message that is a PDF."""


class Config(NamedTuple):
    """What a user can set. Times are in seconds."""

    model: str | None = None
    """Which model answers where none is named."""
    aliases: Mapping[str, str] = NOTHING
    """Short names of the user's own: alias → model."""
    system: str | None = None
    """What every conversation tells its model first."""
    format: str = "markdown"
    """How answers are shown."""
    urls: Mapping[str, str] = NOTHING
    """Root URLs in place of a provider's own: provider → URL."""
    endpoints: Mapping[str, Endpoint] = NOTHING
    """Services of the user's own that speak OpenAI's protocol: name → where and how."""
    fallbacks: Mapping[str, tuple[str, ...]] = NOTHING
    """Who is asked next where a model fails before its first word: model → others, in order."""
    proxy: str | None = None
    """For every request that leaves this machine; else the environment's proxies hold."""
    connect_timeout: float = 10.0
    idle_timeout: float = 120.0
    """How long nothing of an answer may come: a stream's comments and blank lines are nothing."""
    timeout: float | None = None
    """How long a whole answer may take."""
    max_answer: int = 32 << 20
    """Bytes of text, in UTF-8, that an answer may have, its reasoning and tool calls included."""
    retries: int = 2
    """How often a request is sent again after a 429 or 5xx that came before the first byte."""
    large: int | None = 100_000
    """Tokens, by an estimate, over which a question is sent only if the user says so; None: any."""
    history: int | None = None
    """How many earlier turns are sent along; None: all."""
    keep: bool = True
    """Whether conversations are kept on disk."""
    replay: str = "off"
    """One of `REPLAY`; the environment goes before it: see `replay()`."""
    cassette: str | None = None
    """The folder in which a notebook's answers are kept beside it; see `cassette()`."""
    dask: str | None = None
    """The scheduler of a cluster whose workers ask many prompts."""
    local_context: int = 8192
    """How many tokens a question and its answer may have at the engine on this machine."""
    local_idle: float = 10.0
    """Minutes after which that engine lets go of its weights."""
    secrets: tuple[str, ...] = ()
    """The environment's names for secrets that don't look like it."""
    allowed_models: tuple[str, ...] | None = None
    """The user's own limits, beside an administrator's: patterns of which one has to fit."""
    allowed_hosts: tuple[str, ...] | None = None
    notebook: str | None = None
    """What stands for the notebook whose conversations are kept; None: they live in memory only."""
    gateway: Callable[[], Awaitable[str]] | None = None
    """Returns the root URL of what answers for services that are gone; None: nothing does."""


_current = Config()


def current() -> Config:
    """Return the settings in force."""
    return _current


def use(settings: Config) -> None:
    """Put `settings` in force."""
    global _current  # noqa: PLW0603 - the one value this module exists to hold
    _current = settings


def replay() -> str:
    """Return whether answers that are kept are looked up.

    The environment goes before the notebook's setting: who runs a notebook from outside decides.
    """
    named = os.environ.get(REPLAY_VARIABLE, "").strip() or _current.replay
    if named not in REPLAY:
        raise UsageError(f"{REPLAY_VARIABLE} is one of {', '.join(REPLAY)}, not {named!r}.")
    return named


def cassette() -> str | None:
    """Return the folder of the notebook's answers, if they are kept beside it."""
    named = os.environ.get(CASSETTE_VARIABLE, "").strip() or _current.cassette
    return CASSETTE if named and named.lower() in {"1", "true"} else named
