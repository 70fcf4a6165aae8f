"""The cells that ran, with their outputs, as text; and the names that a cell uses."""

from __future__ import annotations

import ast
import builtins
import keyword
import re
from collections.abc import Sequence
from typing import Any

from ipychat.context import values
from ipychat.context._text import BUDGET, cut, parse
from ipychat.text.fences import fenced

PYTHON_CELLS = {"time", "timeit", "capture", "prun", "memit"}
"""Cell magics whose body is Python of this kernel; the body of any other may be prose."""


def cells_text(cells: Sequence[tuple[str, str | None]]) -> str:
    """Write cells as Markdown: each source, and the first `BUDGET` characters of its output."""
    blocks = []
    for source, output in cells:
        blocks.append(f"Cell:\n{fenced(source, 'python')}")
        if output:
            blocks.append(f"Its output:\n{fenced(cut(output, BUDGET))}")
    return "\n\n".join(blocks)


def last(shell: Any, count: int) -> list[tuple[str, str | None]]:
    """Return source and output of the last cells that ran, except the running one."""
    sources, outputs = shell.user_ns["In"][1:-1], shell.user_ns["Out"]
    first = max(0, len(sources) - count)
    return [
        (source, values.summarise(f"Out[{number}]", outputs[number]) if number in outputs else None)
        for number, source in enumerate(sources[first:], first + 1)
    ]


def names_in(source: str) -> list[str]:
    """The names that a cell uses, in order of appearance, without builtins and magics."""
    first, _, body = source.lstrip().partition("\n")
    if first.startswith("%%"):
        source = body if first[2:].partition(" ")[0] in PYTHON_CELLS else ""
    tree = parse(_as_python(source), "exec")
    if tree is None:  # not valid Python: take its words, except those after a dot
        names = re.findall(r"(?<![\w.])[^\W\d]\w*", source)
    else:
        nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
        nodes.sort(key=lambda node: (node.lineno, node.col_offset))
        names = [node.id for node in nodes]
    known = {*dir(builtins), *keyword.kwlist, "get_ipython"}
    return [name for name in dict.fromkeys(names) if name not in known]


def _as_python(source: str) -> str:
    from IPython.core.inputtransformer2 import TransformerManager

    try:
        return str(TransformerManager().transform_cell(source))  # type: ignore[no-untyped-call] # IPython has no types
    except (SyntaxError, IndexError):  # a magic's assignment that ends in an open string
        return source
