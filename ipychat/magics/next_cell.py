"""The code in an answer that becomes the next cell: its Python, else its shell commands.

Never guesses: code in other languages, output and prose stay in the answer.
"""

from __future__ import annotations

import ast
import re
import warnings
from typing import TYPE_CHECKING, Any

from ipychat.catalog import registry, routes
from ipychat.text import markup
from ipychat.text.characters import harmless

if TYPE_CHECKING:
    from ipychat.messages import Reply

PYTHON = {"python", "py", "python3", "ipython", "ipython3"}
SHELLS = {"bash", "sh", "shell", "zsh", "console"}
COMMAND = re.compile(r"^\$ (.*)$", re.MULTILINE)
"""A command in a copied session, whose other lines are output."""
MAX_CODE = 100_000
"""Characters of code that are parsed, which holds the loop."""


def offer(reply: Reply, shell: Any) -> str:
    """Put the answer's code into the next cell; return what the user should know about it."""
    if not _is_of_a_model(reply):
        return "No cell was added: the built-in helper writes no code."
    code = find(reply.text, shell)
    if code is None:
        return "No cell was added: the answer has no Python code that parses."
    shell.set_next_input(harmless(code), replace=False)
    if harmless(code) != code:
        return "The code contained control characters; the next cell has it without them."
    return ""


def find(answer: str, shell: Any) -> str | None:
    """Return the last Python block that parses as a cell, else the last shell block.

    A block without a language counts as Python if no block is marked as Python.
    """
    blocks = [(language.lower(), code.strip("\n")) for language, code in markup.code_blocks(answer)]
    for languages in (PYTHON, {""}):
        for language, code in reversed(blocks):
            if language in languages and code.strip() and parses(code, shell):
                return code
    scripts = [code for language, code in blocks if language in SHELLS and code.strip()]
    return _bash(scripts[-1]) if scripts else None


def parses(code: str, shell: Any) -> bool:
    """Whether `code` is a valid cell after IPython's transformations."""
    if len(code) > MAX_CODE:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its own warnings come when the cell runs
            flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
            compile(shell.transform_cell(code), "<answer>", "exec", flags)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _bash(script: str) -> str:
    if script.startswith(("%", "!")):
        return script
    commands = COMMAND.findall(script)
    return "\n".join(["%%bash", *(commands or [script])])


def _is_of_a_model(reply: Reply) -> bool:
    """Whether a model wrote the answer, and not the helper."""
    who = routes.of(reply.request).behind or reply.model
    return who.provider != registry.HELPER
