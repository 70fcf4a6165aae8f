"""What a question's model may run, and on which terms: read once from what the caller gave."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ipychat import config
from ipychat.errors import UsageError
from ipychat.messages import ToolCall
from ipychat.text import words
from ipychat.toolbox import decisions, offers
from ipychat.toolbox.decisions import Approve
from ipychat.toolbox.tool import MARK, MCP, Json, Tool, check_names

KERNEL = "kernel"
WEB = "web"
NONE = "none"
TERMS = ("approve", "max_steps", "max_cost")
"""Options that say how tools run."""


@dataclass(frozen=True, slots=True)
class Given:
    """The tools of a question, and the limits within which they run."""

    tools: tuple[Tool, ...]
    own: tuple[Json, ...] = ()
    """Tools that the caller runs: a call of one ends the answer."""
    approve: Approve = "ask"
    max_steps: int = 20
    max_cost: float | None = None
    only_reads: bool = False
    """Whether nothing else may run, as in a race."""
    web: bool = False
    """Whether the service may search the web itself."""

    def find(self, wire_name: str) -> Tool | None:
        """Return the tool of that name."""
        return next((one for one in self.tools if one.wire_name == wire_name), None)

    def is_own(self, wire_name: str) -> bool:
        """Whether the caller runs the tool of that name."""
        return any(_name_of(one) == wire_name for one in self.own)

    def to_option(self, web: Mapping[str, Any] | None) -> list[Json]:
        """Return the tools as providers take them; `web` is the service's own search."""
        searches = [dict(web)] if self.web and web else []
        return [*(one.to_dict() for one in self.tools), *self.own, *searches]


def _name_of(own: Json) -> str:
    function = own.get("function")
    return str(function.get("name", "") if isinstance(function, Mapping) else own.get("name", ""))


EVERY = "in every row"
GIVEN = "given"
"""The option in which `take` puts what it has read."""


async def take(options: Mapping[str, Any], *, only_reads: bool = False) -> dict[str, Any]:
    """Return the options of a question with its tools read, and the terms that belong to them."""
    taken = dict(options)
    terms = {name: taken.pop(name, None) for name in TERMS}
    tools = taken.get("tools")
    if isinstance(tools, list | tuple) and tools and all(isinstance(o, Mapping) for o in tools):
        return taken  # the caller runs them
    given = await read(taken.pop("tools", None), **terms)
    return taken if given is None else {**taken, GIVEN: replace(given, only_reads=only_reads)}


async def read(
    tools: Any,
    *,
    approve: Any = None,
    max_steps: Any = None,
    max_cost: float | None = None,
) -> Given | None:
    """Read what was given; None: nothing that is run here."""
    settings = config.current()
    listed = [*_listed(settings.tools if tools is None else tools)]
    own = tuple(dict(one) for one in listed if isinstance(one, Mapping))
    named = [one for one in listed if not isinstance(one, Mapping)]
    if not named or NONE in named:
        return None
    found: dict[str, Tool] = {}
    for one in named:
        if one == WEB:
            continue
        for tool in await _tools_of(one):
            before = found.setdefault(tool.name, tool)
            if before is not tool and not (isinstance(one, str) and before.hash == tool.hash):
                check_names([before, tool])
    steps = settings.max_steps if max_steps is None else max_steps
    if not isinstance(steps, int) or steps < 1:
        raise UsageError(f"max_steps is a whole number from 1 up, not {steps!r}.")
    check_names([*found.values()])
    return Given(
        tuple(found.values()),
        own,
        decisions.check(settings.approve if approve is None else approve),
        steps,
        max_cost,
        web=WEB in named,
    )


def _listed(tools: Any) -> Iterable[Any]:
    match tools:
        case str():
            return filter(None, (one.strip() for one in tools.split(",")))
        case Mapping():
            return (tools,)
        case Iterable():
            return tools
    if callable(tools) or isinstance(tools, Tool):
        return (tools,)
    raise UsageError(f"tools is a list of functions and names, not {type(tools).__name__}.")


async def _tools_of(given: Any) -> list[Tool]:
    from ipychat.toolbox import functions, recorded

    match given:
        case Tool():
            return [given]
        case str() if given.startswith(MCP):
            return await recorded.tools(given)
        case str() if given.partition(".")[0] == KERNEL:
            return _kernel(given)
        case str():
            return [await functions.load(one, name) for name, one in _named(given)]
    return [await functions.load(given)]


def _named(name: str) -> list[tuple[str | None, Any]]:
    """Return the functions of that name: the notebook's, or what a package offers."""
    from ipychat.toolbox import functions

    shell = notebook()
    known = shell.user_ns if shell else {}
    if name not in known:  # perhaps what `@ipychat.tool(name=…)` calls one
        known = {**known, **offers.functions(shell)}
    if name not in known and (offered := offers.packages().get(name)):
        return [(None, one) for one in _functions(offered.load())]
    return [(name, functions.find(name, known))]


def _kernel(name: str) -> list[Tool]:
    """Return the tools of the kernel, or the one that is named."""
    from ipychat.toolbox import running

    if (shell := notebook()) is None:
        raise UsageError("The tools of the kernel need a notebook or IPython.")
    known = {one.name: one for one in running.tools(shell)}
    if name == KERNEL:
        return [*known.values()]
    if name not in known:
        raise UsageError(f"The kernel has no tool {name}.{words.near(name, known)}")
    return [known[name]]


def notebook() -> Any:
    """Return the running IPython, if there is one."""
    ipython = sys.modules.get("IPython")
    return ipython and ipython.get_ipython()


def missing(names: Iterable[str]) -> set[str]:
    """Return which of the names the notebook doesn't know."""
    shell = notebook()
    return {*names} - (shell.user_ns.keys() if shell else {*()})


def _functions(offered: Any) -> list[Any]:
    """Return what an entry point offers: functions, or one that returns a list of them."""
    if isinstance(offered, list | tuple):
        return [*offered]
    returned = getattr(offered, "__annotations__", {}).get("return", "")
    if not hasattr(offered, MARK) and "list" in str(returned).lower():
        return [*offered()]
    return [offered]


def tools() -> offers.Offers:
    """List what a model could be given here."""
    return offers.offers(notebook())


async def decided(given: Given) -> Given:
    """Ask about each tool once, for a run of many questions; a call is then asked about no more."""
    if callable(given.approve):
        return given
    allowed: dict[str, str | bool] = {}
    for tool in given.tools:
        call = ToolCall("", tool.wire_name, "{}")
        asked = replace(tool, ask=True) if callable(tool.ask) else tool
        asks = f"May the model run {tool.name} in every row, with any arguments?"
        said = {EVERY: "whatever the model chooses"}
        pending = decisions.Pending(asked, call, said, asks=asks)
        verdict = await decisions.decide(pending, given.approve, config.current().ask)
        refused = verdict.decision == "refused"
        allowed[tool.wire_name] = verdict.reason if refused else True
    return replace(given, approve=lambda call: allowed[call.name])
