"""Every setting, in one frozen value.

`current()` returns the settings in force; `use()` replaces them as a whole. Configuration files and
`%config IPyChat` only fill this value; other code reads it and never asks where it came from.
"""

import os
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from ipychat.errors import UsageError

REPLAY = ("off", "auto", "refresh", "replay")
"""Modes of replay. off: ask; auto: use stored answers, ask for others; refresh: ask and store
again; replay: use stored answers only."""
REPLAY_VARIABLE = "IPYCHAT_REPLAY"
CASSETTE_VARIABLE = "IPYCHAT_CASSETTE"
CASSETTE = "__chat__"
"""The default folder of a notebook's cassette."""
EFFORTS = ("none", "low", "medium", "high", "max")
"""Levels of reasoning effort that are translated for every service."""
OPENAI_PROTOCOLS = ("completions", "responses")
"""OpenAI's chat completions, which most services speak, and Responses, for its newer models."""
APPROVALS = ("ask", "reads", "all")
"""Who decides whether a tool runs: the user, each time; or only where it does more than read; or
nobody."""
PROTOCOLS = (*OPENAI_PROTOCOLS, "anthropic", "gemini")
"""What an endpoint may speak."""
MODEL_IN_URL = "{model}"
"""The placeholder for the model in an endpoint's URL."""
NOTHING: Mapping[str, Any] = MappingProxyType({})


class Endpoint(NamedTuple):
    """A service that speaks OpenAI's protocol."""

    label: str
    """Its label."""
    base_url: str
    key_variable: str = ""
    """The environment variable with its key; empty if it needs none."""
    default_model: str = ""
    """Empty if it depends on what the server has loaded."""
    check_path: str = ""
    """The path that checks a key, for services whose list of models is open to everyone."""
    asks_usage: bool = True
    """Whether to request usage for streams; some services reject that option."""
    protocol: str = ""
    """One of `PROTOCOLS`; empty: one of OpenAI's, by its address."""
    headers: tuple[tuple[str, str], ...] = ()
    """Further headers; `$NAME` in a value is read from the environment, and is a secret."""
    query: tuple[tuple[str, str], ...] = ()
    """What stands behind the question mark of each address."""
    key_header: str = "Authorization: Bearer"
    """The header of the key, and what stands before the key in it."""
    key_command: tuple[str, ...] = ()
    """A command that prints the key, run without a shell."""
    pdf_part: str = "file"
    """The type of a message's part that is a PDF."""


class Config(NamedTuple):
    """What a user can set. Times are in seconds."""

    model: str | None = None
    """The default model."""
    aliases: Mapping[str, str] = NOTHING
    """Short names: alias → model."""
    system: str | None = None
    """The system prompt of every conversation."""
    effort: str | None = None
    """The default of `effort`, for models that support it; None: it is not sent."""
    format: str = "markdown"
    """The format of answers."""
    urls: Mapping[str, str] = NOTHING
    """Root URLs that replace a provider's own: provider → URL."""
    endpoints: Mapping[str, Endpoint] = NOTHING
    """Further services that speak OpenAI's protocol, by name."""
    protocols: Mapping[str, str] = NOTHING
    """Which of OpenAI's protocols to use, where a service has both: provider → protocol."""
    fallbacks: Mapping[str, tuple[str, ...]] = NOTHING
    """Models to ask if one fails before its first word: model → others, in order."""
    proxy: str | None = None
    """The proxy for requests that leave this machine; by default, the environment's."""
    connect_timeout: float = 10.0
    idle_timeout: float = 120.0
    """Longest wait for the next part of an answer; a stream's comments and blank lines don't count.
    """
    timeout: float | None = None
    """Time limit of a whole answer."""
    max_answer: int = 32 << 20
    """Bytes of an answer's text in UTF-8, including reasoning and tool calls."""
    retries: int = 2
    """Retries after a 429 or 5xx that came before the first byte."""
    large: int | None = 100_000
    """Estimated tokens above which a question must be confirmed; None: no limit."""
    history: int | None = None
    """Earlier turns to send; None: all."""
    keep: bool = True
    """Whether conversations are kept on disk."""
    replay: str = "off"
    """One of `REPLAY`; the environment takes precedence: see `replay()`."""
    cassette: str | None = None
    """The folder beside the notebook that holds its answers; see `cassette()`."""
    dask: str | None = None
    """The scheduler of a Dask cluster whose workers run batches."""
    local_context: int = 8192
    """Tokens of a question and its answer in the local engine."""
    local_idle: float = 10.0
    """Minutes of inactivity after which the local engine unloads its weights."""
    secrets: tuple[str, ...] = ()
    """Environment variables that hold secrets although their names don't say so."""
    allowed_models: tuple[str, ...] | None = None
    """The user's own limits, in addition to an administrator's: patterns, one of which must match.
    """
    allowed_hosts: tuple[str, ...] | None = None
    allowed_tools: tuple[str, ...] | None = None
    allowed_servers: tuple[str, ...] | None = None
    allowed_commands: tuple[str, ...] | None = None
    mcp: Mapping[str, Any] = NOTHING
    """MCP servers in the shape of `mcpServers`: name → command or url, and more."""
    notebook: str | None = None
    """Identifies the notebook whose conversations are kept; None: they are kept in memory only."""
    tools: tuple[str, ...] = ()
    """What questions that say nothing of tools give their model."""
    approve: str = "ask"
    """One of `APPROVALS`."""
    max_steps: int = 20
    """Tool calls of one question."""
    ask: Callable[[Any], Awaitable[Any]] | None = None
    """Asks the user about a tool call; None: nobody can be asked."""
    gateway: Callable[[], Awaitable[str]] | None = None
    """Returns the root URL of the gateway that stands in for offline services; None: there is none.
    """


_current = Config()


def current() -> Config:
    """Return the settings in force."""
    return _current


def use(settings: Config) -> None:
    """Replace the settings in force."""
    global _current  # noqa: PLW0603 - the one value that this module holds
    _current = settings


def replay() -> str:
    """Return the mode of replay.

    The environment takes precedence over the notebook's setting, for those who run notebooks from
    outside.
    """
    named = os.environ.get(REPLAY_VARIABLE, "").strip() or _current.replay
    if named not in REPLAY:
        raise UsageError(f"{REPLAY_VARIABLE} is one of {', '.join(REPLAY)}, not {named!r}.")
    return named


def cassette() -> str | None:
    """Return the folder of the notebook's cassette; None if it has none."""
    named = os.environ.get(CASSETTE_VARIABLE, "").strip() or _current.cassette
    return CASSETTE if named and named.lower() in {"1", "true"} else named
