"""What a model could be given here, and whether it is ready."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from ipychat.text import tables
from ipychat.text.characters import harmless, shortened
from ipychat.toolbox.tool import MARK

GROUP = "ipychat.tools"
HEADS = ("name", "what it does", "from", "state")
MAX_ABOUT = 100
"""Characters of a description in the table."""


@dataclass(frozen=True, slots=True)
class Offer:
    """Something that a model could be given."""

    name: str
    """As `--tools` takes it."""
    about: str
    source: str
    state: str = "ready"
    """Whether it is ready, or what is missing."""

    def row(self) -> tuple[str, ...]:
        """Return the cells of its row in the table."""
        about = shortened(" ".join(harmless(self.about).split()), MAX_ABOUT)
        return (self.name, about, self.source, self.state)


class Offers(list[Offer]):
    """What a model could be given; a notebook shows it as a table."""

    def __repr__(self) -> str:
        return tables.plain([HEADS, *(one.row() for one in self)])

    def _repr_html_(self) -> str:
        return tables.html([one.row() for one in self], HEADS)


def offers(shell: Any) -> Offers:
    """List the notebook's functions, the kernel's tools, MCP servers and what packages offer.

    Nothing is started or imported for it.
    """
    return Offers([*_of_the_kernel(shell), *_functions(shell), *_servers(), *_of_packages()])


def functions(shell: Any) -> dict[str, Any]:
    """Return the functions that were defined in the notebook, or said to be tools.

    Each has the name by which models know it.
    """
    from ipychat.context import namespace

    known = namespace.of(shell) if shell else {}
    return {
        getattr(getattr(one, MARK, None), "name", None) or name: one
        for name, one in known.items()
        if inspect.isfunction(one) and (one.__module__ == "__main__" or hasattr(one, MARK))
    }


def packages() -> dict[str, EntryPoint]:
    """Return what installed packages offer, by name."""
    return {one.name: one for one in entry_points(group=GROUP)}


def _of_the_kernel(shell: Any) -> Iterator[Offer]:
    if shell is None:
        return
    from ipychat.toolbox import running

    for tool in running.tools(shell):
        yield Offer(tool.name, _first_line(tool.description), "the kernel", _state(tool.reads))


def _functions(shell: Any) -> Iterator[Offer]:
    for name, function in functions(shell).items():
        mark = getattr(function, MARK, None)
        reads = bool(mark and mark.reads)
        yield Offer(name, _first_line(inspect.getdoc(function)), "this notebook", _state(reads))


def _servers() -> Iterator[Offer]:
    from ipychat.toolbox import mcp

    for one in mcp.servers():
        state = one.fault or ("runs" if one.runs else "ready, starts on use")
        if not one.fault and not one.trusted:
            state = "asks before it starts: its row came with this folder"
        yield Offer(f"mcp:{one.name}", one.where, one.source, state)


def _of_packages() -> Iterator[Offer]:
    for name, one in packages().items():
        yield Offer(name, one.value, one.dist.name if one.dist else "a package")


def _state(reads: bool) -> str:  # noqa: FBT001 - said by its only callers
    return "ready, only reads" if reads else "ready"


def _first_line(text: str | None) -> str:
    return (text or "").partition("\n")[0]
