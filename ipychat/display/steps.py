"""What a model did: each step in a line, as HTML, and as the front end's extension draws it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

from ipychat.messages import ImagePart, Step, ToolCall
from ipychat.text import schemas, shapes
from ipychat.text.characters import harmless, shortened, spelled

CODE = "code"
"""The argument that is shown as code."""
MAX_LINE = 200
"""Characters of the arguments in a line."""
MAX_SHOWN = 10_000
"""Characters of a result, and of the arguments, that a cell shows; the reply has all of them."""
WHO = {
    "once": "you allowed it",
    "always": "always allowed",
    "edited": "you changed it",
    "refused": "refused",
    "unasked": "unasked",
}
_PRE = "white-space:pre-wrap;overflow-wrap:anywhere;margin:.2em 0;max-height:24em;overflow-y:auto"
_BOX = "border-left:2px solid var(--jp-border-color1,#bbb);padding-left:.6em;margin:.4em 0"
_SUMMARY = "color:var(--jp-ui-font-color2,#767676);font-size:.85em;cursor:pointer"


def waiting(call: ToolCall, most: int = MAX_SHOWN) -> str:
    """Say in a line what the model asks for."""
    return f"Asks for the tool {_shown(call.name)}({_shown(call.arguments, most)})"


def line(step: Step) -> str:
    """Say in a line what became of a call."""
    took = f"{step.seconds:.1f} s" if step.seconds >= 0.05 else ""
    said = [
        _call(step),
        "failed" if step.error and step.decision != "refused" else "",
        took,
        _who(step),
    ]
    return " · ".join(filter(None, said))


def plain(step: Step) -> str:
    """Say what became of a call, and what it returned."""
    text = _text(step)
    return "\n".join([f"[{line(step)}]", *(f"  {one}" for one in text.splitlines())])


def html(step: Step) -> str:
    """Show a step, folded, as safe HTML."""
    _, code, rest = _arguments(step)
    shown = [_pre(code), _pre(rest), _pre(_text(step)), *map(_picture, _pictures(step))]
    return (
        f'<details class="ipychat-step" style="{_BOX}"{" open" if _pictures(step) else ""}>'
        f'<summary style="{_SUMMARY}">{escape(line(step))}</summary>'
        f"{''.join(shown)}</details>"
    )


def part(step: Step) -> dict[str, Any]:
    """Write a step as the front end's extension draws it."""
    name, code, rest = _arguments(step)
    known = {
        "tool": name,
        "code": code,
        "arguments": rest,
        "pictures": _pictures(step),
        "state": "refused" if step.decision == "refused" else "failed" if step.error else "done",
        "decision": step.decision,
        "said": _who(step),
        "seconds": round(step.seconds, 1),
    }
    return {"type": "step", "text": _text(step), **{n: one for n, one in known.items() if one}}


def _call(step: Step) -> str:
    name, code, rest = _arguments(step)
    first = code.strip().partition("\n")[0] + (" …" if "\n" in code.strip() else "")
    return f"{name}({_short(first or rest)})"


def _arguments(step: Step) -> tuple[str, str, str]:
    """Return the tool's name, its code, and its other arguments, as they are shown."""
    name, code, rest = _read(step)
    return _shown(name), _shown(code), _shown(rest)


def _read(step: Step) -> tuple[str, str, str]:
    name = step.tool or step.call.name
    try:
        given = schemas.read(step.arguments or "{}")
    except ValueError:
        given = None
    if not isinstance(given, dict):
        return name, "", step.arguments
    code, rest = parted(given)
    return name, code, listed(rest)


def parted(arguments: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the code among the arguments of a call, and the others."""
    rest = dict(arguments)
    if not isinstance(rest.get(CODE), str):
        return "", rest
    return rest.pop(CODE), rest


def listed(arguments: Mapping[str, Any]) -> str:
    """Write arguments as in a call."""
    return ", ".join(
        f"{name}={json.dumps(one, ensure_ascii=False)}" for name, one in arguments.items()
    )


def _who(step: Step) -> str:
    reason = _shown(step.reason).partition("\n")[0]
    if step.decision == "refused":
        return f"refused: {reason}" if reason else "not run"
    return (
        f"{WHO[step.decision]}: {reason}"
        if step.decision == "unasked" and reason
        else WHO[step.decision]
    )


def _pictures(step: Step) -> list[str]:
    """Return the pictures of a result, whose bytes were checked when it came."""
    return [
        one.url
        for one in step.result
        if isinstance(one, ImagePart) and one.url.startswith("data:image/")
    ]


def _picture(url: str) -> str:
    return f'<p><img alt="" style="max-width:100%" src="{escape(url)}"></p>'


def _pre(text: str) -> str:
    return f'<pre style="{_PRE}">{escape(text)}</pre>' if text else ""


def _text(step: Step) -> str:
    text = shapes.mask(harmless(step.text))
    if len(text) <= MAX_SHOWN:
        return text
    return f"{text[:MAX_SHOWN]}\n… {len(text) - MAX_SHOWN:,} more characters: the reply's .steps"


def _short(text: str) -> str:
    return shortened(" ".join(text.split()), MAX_LINE)


def _shown(text: str, most: int = MAX_SHOWN) -> str:
    return spelled(shortened(shapes.mask(text), most))
