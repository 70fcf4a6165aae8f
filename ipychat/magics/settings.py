"""`%config IPyChat`: the settings as traits. They only fill `config.Config`."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from traitlets import (
    Bool,
    Dict,
    Enum,
    Float,
    Integer,
    List,
    TraitError,
    Unicode,
    Union,
    validate,
)
from traitlets.config import Configurable

if TYPE_CHECKING:
    from ipychat.config import Endpoint

from ipychat import config

DEFAULT = config.Config()
FORMATS = ("markdown", "text", "code", "json", "html")


class IPyChat(Configurable):
    """Chat with language models. A flag of a cell comes before what is set here."""

    model = Unicode(
        None,
        allow_none=True,
        help="Which model answers where none is named: provider:name, or an alias.",
    ).tag(config=True)
    aliases = Dict(
        key_trait=Unicode(), value_trait=Unicode(), help="Short names of your own: alias → model."
    ).tag(config=True)
    system = Unicode(
        None, allow_none=True, help="What every conversation tells its model first."
    ).tag(config=True)
    effort = Enum(
        config.EFFORTS,
        None,
        allow_none=True,
        help="How hard models think that can be told, unless --effort says otherwise.",
    ).tag(config=True)
    format = Enum(FORMATS, DEFAULT.format, help="How answers are shown.").tag(config=True)
    urls = Dict(
        key_trait=Unicode(),
        value_trait=Unicode(),
        help="Addresses in place of a provider's own: provider → root URL.",
    ).tag(config=True)
    endpoints = Dict(
        key_trait=Unicode(),
        help="Services of your own: name → root URL, or a dict with url (it may hold {model}), "
        "protocol, headers, query, key (the environment's name for it), key_header, key_command "
        "and model.",
    ).tag(config=True)
    protocols = Dict(
        key_trait=Unicode(),
        value_trait=Enum(config.OPENAI_PROTOCOLS),
        help="By which of OpenAI's protocols a service is asked: provider → completions or "
        "responses. Unset, OpenAI itself and Azure are asked by responses, others by completions.",
    ).tag(config=True)
    fallbacks = Dict(
        key_trait=Unicode(),
        value_trait=List(Unicode()),
        help="Who is asked next, in order, where a model fails before its first word: "
        "model → models.",
    ).tag(config=True)
    proxy = Unicode(
        None,
        allow_none=True,
        help="For every request that leaves this machine; else the environment's proxies hold.",
    ).tag(config=True)
    connect_timeout = Float(DEFAULT.connect_timeout, min=0, help="Seconds to connect within.").tag(
        config=True
    )
    idle_timeout = Float(
        DEFAULT.idle_timeout,
        min=0,
        help="Seconds in which something of an answer has to come; comments and blank lines, "
        "which some services send while a question waits its turn, don't count.",
    ).tag(config=True)
    timeout = Float(None, allow_none=True, min=0, help="Seconds a whole answer may take.").tag(
        config=True
    )
    max_answer = Integer(
        DEFAULT.max_answer,
        min=1,
        help="Bytes of text, reasoning and tool calls that an answer may have; a longer one is cut "
        "off there.",
    ).tag(config=True)
    retries = Integer(
        DEFAULT.retries,
        min=0,
        help="How often a request is sent again after a 429 or 5xx before the first byte.",
    ).tag(config=True)
    large = Integer(
        DEFAULT.large,
        allow_none=True,
        min=0,
        help="Tokens from which on a question is sent with --large only; 0 or None: all are.",
    ).tag(config=True)
    history = Integer(
        None, allow_none=True, min=0, help="How many earlier turns are sent along; None: all."
    ).tag(config=True)
    replay = Enum(
        config.REPLAY,
        DEFAULT.replay,
        help="Whether answers that are kept are looked up: off; auto, before a service is asked; "
        "refresh, which only keeps anew; replay, and nothing is ever sent. "
        "IPYCHAT_REPLAY goes before it.",
    ).tag(config=True)
    cassette = Union(
        [Bool(), Unicode()],
        default_value=False,
        help="Keep this notebook's answers beside it: True for the folder __chat__, or a folder. "
        "IPYCHAT_CASSETTE goes before it.",
    ).tag(config=True)
    dask = Unicode(
        None,
        allow_none=True,
        help="The scheduler of a Dask cluster, tcp://…, whose workers ask many prompts.",
    ).tag(config=True)
    local_context = Integer(
        DEFAULT.local_context,
        min=256,
        help="Tokens of a question and its answer at the engine on this machine.",
    ).tag(config=True)
    local_idle = Float(
        DEFAULT.local_idle, min=0.1, help="Minutes after which that engine lets go of its weights."
    ).tag(config=True)
    secrets = List(
        Unicode(),
        help="Variables of the environment that hold secrets and don't look like it.",
    ).tag(config=True)
    allowed_models = List(
        Unicode(),
        None,
        allow_none=True,
        help="Models that may be asked, as provider:name with *; narrows an administrator's.",
    ).tag(config=True)
    allowed_hosts = List(
        Unicode(),
        None,
        allow_none=True,
        help="Hosts that requests may go to, with *; narrows an administrator's.",
    ).tag(config=True)
    tools = List(
        Unicode(),
        help="What models may run where a question gives no tools: functions of the notebook, "
        "kernel, mcp:NAME.",
    ).tag(config=True)
    approve = Enum(
        config.APPROVALS,
        DEFAULT.approve,
        help="Who decides whether a tool runs: ask you about each call, about those that do more "
        "than read (reads), or about none (all).",
    ).tag(config=True)
    max_steps = Integer(
        DEFAULT.max_steps, min=1, help="Tool calls after which an answer ends."
    ).tag(config=True)
    allowed_tools = List(
        Unicode(),
        None,
        allow_none=True,
        help="Tools that may run, by name with *: kernel.*, mcp:git.*; narrows an administrator's.",
    ).tag(config=True)
    allowed_servers = List(
        Unicode(),
        None,
        allow_none=True,
        help="MCP servers that may be used, with *: by name, command or host; narrows an "
        "administrator's.",
    ).tag(config=True)
    allowed_commands = List(
        Unicode(),
        None,
        allow_none=True,
        help="Programs that may be started as MCP servers, with *: alone, or with their arguments; "
        "narrows an administrator's.",
    ).tag(config=True)
    mcp = Dict(
        key_trait=Unicode(),
        help="MCP servers, in the shape of mcpServers: name → a dict with command, args, env and "
        "cwd, or with url and headers; timeout is in seconds. ${NAME} stands for a variable of the "
        "environment.",
    ).tag(config=True)
    keep = Bool(DEFAULT.keep, help="Whether conversations are kept on disk.").tag(config=True)

    def __init__(
        self,
        notebook: str | None = None,
        gateway: Callable[[], Awaitable[str]] | None = None,
        ask: Callable[[Any], Awaitable[Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._beside: dict[str, Any] = {
            "notebook": notebook,
            "gateway": gateway,
            "ask": ask,
        }  # what is no user's to set
        self.observe(lambda _: self.put_in_force(), names=_names())
        self.put_in_force()

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _names():
            keep_to_the_user("change %config IPyChat")
        super().__setattr__(name, value)

    @validate("proxy")
    def _registered(self, proposal: Any) -> Any:
        from ipychat import secrets

        if proposal["value"]:
            secrets.register_url(proposal["value"])
        return proposal["value"]

    @validate("endpoints")
    def _are_endpoints(self, proposal: Any) -> Any:
        from ipychat.catalog.registry import BUILT_IN, NAME
        from ipychat.providers.presets import PRESETS

        for name, given in proposal["value"].items():
            _endpoint(name, given)
            if not NAME.fullmatch(name):
                raise TraitError(f"An endpoint can't be called {name!r}.")
            if name in BUILT_IN or name in PRESETS:
                raise TraitError(
                    f"There is a provider {name} already; %config IPyChat.urls gives it an address."
                )
        return proposal["value"]

    @validate("mcp")
    def _are_servers(self, proposal: Any) -> Any:
        from ipychat.toolbox import servers

        for name, row in proposal["value"].items():
            if fault := servers.fault(name, row):
                raise TraitError(fault)
        return servers.hidden(proposal["value"])

    @validate("urls")
    def _are_addresses(self, proposal: Any) -> Any:
        for name, url in proposal["value"].items():
            if not _is_address(url):
                raise TraitError(f"The address of {name} is not a web address.")
        return proposal["value"]

    def put_in_force(self) -> None:
        """Put the traits' values in force."""
        values = {name: getattr(self, name) for name in _names()}
        values["endpoints"] = {n: _endpoint(n, given) for n, given in self.endpoints.items()}
        values["fallbacks"] = {n: tuple(others) for n, others in self.fallbacks.items()}
        values["secrets"] = tuple(self.secrets)
        folder = config.CASSETTE if self.cassette is True else self.cassette
        values["cassette"] = folder or None
        values["tools"] = tuple(self.tools)
        for name, given in values.items():
            if name.startswith("allowed_") and given is not None:
                values[name] = tuple(given)
        config.use(config.Config(**values, **self._beside))
        if cassette := config.cassette():
            from ipychat.store import files

            files.absolute(cassette)  # keeps its place, wherever the notebook goes


def keep_to_the_user(deed: str) -> None:
    """Raise UsageError if a model's code is running; `deed` is what it can't do."""
    if nested := sys.modules.get("ipychat.toolbox.nested"):  # else no such code has run
        nested.refuse(deed)


def _are_texts(given: Any) -> bool:
    return isinstance(given, dict) and all(
        isinstance(one, str) and one.isprintable() for pair in given.items() for one in pair
    )


_FIELDS: dict[str, Callable[[Any], bool]] = {
    "url": lambda given: isinstance(given, str) and _is_address(given),
    "protocol": lambda given: given in config.PROTOCOLS,
    "headers": _are_texts,
    "query": _are_texts,
    "key": lambda given: isinstance(given, str),
    "key_header": lambda given: isinstance(given, str) and bool(given.strip()),
    "key_command": lambda given: (
        isinstance(given, list | tuple) and bool(given) and all(isinstance(w, str) for w in given)
    ),
    "model": lambda given: isinstance(given, str),
}
"""The fields of an endpoint, and what may stand in each."""
_WANTED = {
    "url": "a web address",
    "protocol": f"one of {', '.join(config.PROTOCOLS)}",
    "headers": "a dict of texts",
    "query": "a dict of texts",
    "key": "the environment's name for the key",
    "key_header": "a header's name, and what stands before the key",
    "key_command": "a list of words: a command that prints the key",
    "model": "the name of the default model",
}


def _endpoint(name: str, given: Any) -> Endpoint:
    """Parse an endpoint. Raises TraitError that says what is wrong with it."""
    from ipychat import secrets
    from ipychat.config import Endpoint
    from ipychat.text import words

    fields = {"url": given} if isinstance(given, str) else given
    if not (isinstance(fields, dict) and "url" in fields):
        raise TraitError(f"The endpoint {name} is a root URL, or a dict with url and more.")
    for field, value in fields.items():
        if field not in _FIELDS:
            near = words.near(str(field), _FIELDS, 1)
            raise TraitError(f"The endpoint {name} has no field {field!r}.{near}")
        if not _FIELDS[field](value):
            raise TraitError(f"The {field} of the endpoint {name} is {_WANTED[field]}.")
    if fields.get("key") and fields.get("key_command"):
        raise TraitError(f"The endpoint {name} has a key or a key_command, not both.")
    headers = secrets.register_option("", dict(fields.get("headers", {})))
    return Endpoint(
        name,
        fields["url"].rstrip("/"),
        fields.get("key", ""),
        fields.get("model", ""),
        protocol=fields.get("protocol", ""),
        headers=tuple(headers.items()),
        query=tuple(fields.get("query", {}).items()),
        key_header=fields.get("key_header", Endpoint("", "").key_header),
        key_command=tuple(fields.get("key_command", ())),
    )


def _is_address(url: str) -> bool:
    """Whether `url` is a web address; a password in it is registered as a secret."""
    from urllib.parse import urlsplit

    from ipychat import secrets

    try:
        parts = urlsplit(secrets.register_url(url))
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _names() -> list[str]:
    return [name for name in config.Config._fields if name not in {"notebook", "gateway", "ask"}]
