"""The built-in helper, which answers if there is no key, no server and no weights.

It explains the last error, a name, the variables, and how to set up a model. It only looks things
up; it never evaluates, imports or guesses. To anything else it replies that it can't answer.
"""

from __future__ import annotations

import inspect
import linecache
import re
import sysconfig
from collections.abc import AsyncGenerator, Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, NamedTuple

from ipychat import secrets
from ipychat.context import cells, failures, namespace, values
from ipychat.context.failures import file_of
from ipychat.messages import Message, TextPart
from ipychat.providers.provider import FullProvider, Given, read_messages
from ipychat.text.fences import fenced

FIRST_LINE = "*This is ipychat's built-in helper, which is no AI model.*"
NO_NOTEBOOK = "There is no notebook here, so there is no error, name or variable to look at."
NO_ERROR = "There is no error to explain: no cell of this notebook has failed yet."
CANNOT = "The helper can't answer that: it only looks things up. This takes a model."
CAN = """\
It tells the last error (`explain the error`), what a name is (`help print`) and what is defined \
(`what variables`)."""
SETUP = """\
Either line sets up a model:

```python
%chat_login anthropic  # with a key; %chat_models lists the providers
%chat_setup local      # on this machine, with no account
```"""

MAX_VALUES = 6
VALUE_BUDGET = 200
"""Characters of each value shown with an error."""
MAX_NAMES = 50
MIN_SECRET = 6
"""Characters; a shorter secret can't be told from an ordinary word."""
MAX_DOC_LINES = 15
MAX_MESSAGE = 600
"""Characters of an error's message."""
CONTEXT_LINES = 2
"""Source lines shown before and after the failing one."""

_SECRET_VALUE = re.compile(
    rf"(\b\w*{secrets.NAMES}\w*\b[\"'\])]*\s*[:=!]=?\s*(?:\w+\s*=\s*)?)"
    r"(?:[rbfuRBFU]{0,2}(\"\"\"|\'\'\'|\"|')(?:\\.|(?!\2).)*(?:\2|$)|\d{4,}\w*)",
    re.MULTILINE,
)
"""A literal in source code that is a secret by its variable's name."""
_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^@\s/]+(?=@)")
_NAME = r"`?(?P<name>[^\W\d]\w*(?:\.[^\W\d]\w*)*)(?:\(\))?`?"
_KIND = r"(?:the |an? )?(?:function |class |method |module |variable |object )?"
QUESTIONS = {
    "error": (
        (
            r"(?:please )?(?:explain|fix|debug)(?: the| this| my| last)*"
            r"(?: \w*(?:error|exception|traceback))?"
        ),
        r"what went wrong",
        r"why did (?:it|this|my cell) fail",
        r"what does (?:the|this) \w*(?:error|exception) mean.{0,60}",
    ),
    "variables": (
        (
            r"(?:what|which|list|show)(?: me)?(?: the| my)*(?: variables| names)"
            r"(?: do i have| are there)?"
        ),
        r"what have i defined|variables|whos?",
    ),
    "setup": (
        r"set ?up|(?:api )?key|model",
        r"how (?:do|can) i (?:use|get|set up|add) (?:an?|my) (?:model|(?:api )?key)",
    ),
    "name": (
        rf"(?:what is|what's|what does|explain|describe) {_KIND}{_NAME}(?: do| mean| for)?",
        rf"how (?:do i|can i|to) use {_KIND}{_NAME}",
        (
            r"(?:show me the |the )?(?:help|docs?|documentation|signature)(?: of| for| on)? "
            rf"{_KIND}{_NAME}"
        ),
        rf"help\({_NAME}\)",
        rf"\?{{1,2}}{_NAME}",
        rf"{_NAME}\?{{1,2}}",
    ),
}
"""Question → method. A question in other words is not answered."""


class Helper(FullProvider):
    """`helper:notebook`. Not a model: it looks things up in the notebook."""

    takes_tools = False
    label = "Built-in helper (no AI model)"
    default_model = "notebook"
    models = ["notebook"]
    working = True
    sees_more = frozenset(models)

    @classmethod
    async def create_async_generator(
        cls,
        model: str,
        messages: Given,
        **options: Any,  # noqa: ARG003 - accepts all providers' options
    ) -> AsyncGenerator[str, None]:
        """Answer the last question, in Markdown."""
        cls.get_model(model)
        yield f"{FIRST_LINE}\n\n"
        yield secrets.mask(answer(_asked(read_messages(messages))))


def hide(text: str) -> str:
    """Mask values after names such as `api_key`, and passwords in addresses."""
    text = _SECRET_VALUE.sub(rf"\1{secrets.MASK}", text)
    return _PASSWORD.sub(rf"\1{secrets.MASK}", text)


# -- what is asked


def _asked(messages: tuple[Message, ...]) -> str:
    """Return the user's last message; if the conversation is one text, its last `User:` part."""
    content = next((m.content for m in reversed(messages) if m.role == "user"), "")
    if not isinstance(content, str):  # context comes before the question
        texts = [part.text for part in content if isinstance(part, TextPart)]
        content = texts[-1] if texts else ""
    content = content.strip()
    if content.endswith("\nAssistant:"):
        parts = re.split(r"^User: ", content.removesuffix("Assistant:"), flags=re.MULTILINE)
        content = parts[-1].strip()
    return content.rpartition("\n")[2].strip()


def answer(asked: str) -> str:
    """Return the answer without its first line."""
    from IPython.core.getipython import get_ipython

    notebook = Notebook(get_ipython())
    subject, name = _read(asked)
    match subject:
        case "setup":
            return SETUP
        case "error" | "variables" | "name" if not notebook:
            return NO_NOTEBOOK
        case "error":
            return notebook.explain()
        case "variables":
            return notebook.variables()
        case "name" if doc := notebook.document(name):
            return doc
    unknown = f"Nothing here is called `{name}`. " if name else ""
    return f"{unknown}{CANNOT} {CAN}\n\n{SETUP}"


def _read(asked: str) -> tuple[str, str]:
    """Return a question's subject and the name it mentions."""
    for subject, ways in QUESTIONS.items():
        ending = r"\W*" if subject != "name" else r"[^\w?]*\??"
        for how in ways:
            if found := re.fullmatch(f"(?:{how}){ending}", asked, re.IGNORECASE):
                return subject, found.groupdict().get("name", "")
    return "", ""


# -- what is at hand


class Place(NamedTuple):
    """A line of source."""

    file: str
    number: int
    function: str = "<module>"
    last: int = 0
    """The last line of its statement, if known."""
    text: str = ""
    """The line itself, if its file can't be read."""


class Notebook:
    """The notebook's state; falsy outside a notebook."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell

    def __bool__(self) -> bool:
        return self._shell is not None

    def names(self) -> dict[str, Any]:
        """Return the names that the user has defined."""
        return namespace.of(self._shell) if self else {}

    def explain(self) -> str:
        """Explain the last error: its message, its line, and the values there."""
        error = failures.last_error()
        if error is None:
            return NO_ERROR
        parts, names = self._place_of(error)
        caused = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if caused:
            parts.append(f"It was raised from:\n\n{_headline(caused)}")
        return self._hide("\n\n".join(filter(None, [_headline(error), *parts])), names)

    def _place_of(self, error: BaseException) -> tuple[list[str], Mapping[str, Any]]:
        """Return where an error was raised, the values used there, and all names visible there."""
        if isinstance(error, SyntaxError) and error.filename and error.lineno:
            place = Place(error.filename, error.lineno, text=error.text or "")
            return [self._where(place)], {}
        frames = failures.frames(error)
        first = next((n for n, each in enumerate(frames) if self._cell(file_of(each))), 0)
        own = [each for each in frames[first:] if self._is_own(file_of(each))] or frames[-1:]
        if not own:
            return [], {}
        frame, place = own[-1].tb_frame, _place(own[-1])
        names = namespace.visible({**frame.f_globals, **frame.f_locals}, self._shell.user_ns_hidden)
        parts = [self._where(place)]
        if own[-1] is not frames[-1]:
            deepest = _place(frames[-1])
            parts.append(
                f"From there it went on to `{deepest.file}`, line {deepest.number}, "
                f"in `{deepest.function}`, which raised it."
            )
        inside = (
            {}
            if frame.f_locals is frame.f_globals
            else namespace.visible(frame.f_locals, self._shell.user_ns_hidden)
        )
        mentioned = {name: names[name] for name in cells.names_in(_lines(place)) if name in names}
        return [*parts, _values({**mentioned, **inside})], names

    def _hide(self, text: str, names: Mapping[str, Any] | None = None) -> str:
        """Like `hide`, and mask the values of such names wherever they occur."""
        text = hide(secrets.mask(text))
        for name, value in {**self.names(), **(names or {})}.items():
            if secrets.is_name(name) and isinstance(value, str) and len(value) >= MIN_SECRET:
                text = text.replace(value, secrets.MASK)
        return text

    def _cell(self, file: str) -> str | None:
        number = failures.cell_number(self._shell, file)
        return f"Cell In[{number}]" if number else None

    def _is_own(self, file: str) -> bool:
        if self._cell(file):
            return True
        libraries = (sysconfig.get_path("stdlib"), str(Path(__file__).parents[1]))
        return not (
            file.startswith(("<", *libraries))
            or re.search(r"[/\\](?:site|dist)-packages[/\\]", file)
        )

    def _where(self, place: Place) -> str:
        cell = self._cell(place.file)
        inside = "" if place.function.startswith("<") else f", in `{place.function}`"
        head = f"{cell or f'`{place.file}`'}, line {place.number}{inside}:"
        lines = linecache.getlines(place.file) or [""] * (place.number - 1) + [place.text]
        first = max(1, place.number - CONTEXT_LINES)
        shown = [
            f"{'→' if n == place.number else ' '} {n:4} {line.rstrip()}"
            for n, line in enumerate(lines[first - 1 : place.number + CONTEXT_LINES], first)
            if line.strip() or n == place.number
        ]
        block = fenced("\n".join(shown), "text")
        return f"{head}\n\n{block}"

    def document(self, name: str) -> str | None:
        """Describe what a name is; None if it is not defined."""
        for value in namespace.look_up(name, self.names()) if self else ():
            return self._hide("\n\n".join(_document(name, value)))
        return None

    def variables(self) -> str:
        """List the variables in a table."""
        names = self.names()
        modules = [name for name, value in names.items() if isinstance(value, ModuleType)]
        others = [name for name in names if name not in modules]
        if not names:
            return "Nothing is defined in this notebook yet."
        rows = [_row(name, names[name]) for name in others[-MAX_NAMES:]]
        table = ["| name | type | what it is |", "|---|---|---|", *rows] if rows else []
        parts = ["\n".join(table)] if table else []
        if len(others) > MAX_NAMES:
            parts.append(f"… and {len(others) - MAX_NAMES} that were defined before these.")
        if modules:
            parts.append(f"Modules: {', '.join(f'`{name}`' for name in modules)}.")
        return self._hide("\n\n".join(parts))


# -- errors


def _headline(error: BaseException) -> str:
    kind = type(error).__name__
    if kind == "_IncompleteInputError":  # Python 3.13's own subclass of SyntaxError
        kind = SyntaxError.__name__
    try:
        text = error.msg if isinstance(error, SyntaxError) else str(error)
    except Exception:  # noqa: BLE001 - an error's own text is the user's code
        text = ""
    text = secrets.mask(text)[:MAX_MESSAGE]
    return fenced(f"{kind}: {text}" if text else kind, "text")


def _place(trace: TracebackType) -> Place:
    code = trace.tb_frame.f_code
    position = next(islice(code.co_positions(), trace.tb_lasti // 2, None), (None,) * 4)
    return Place(file_of(trace), trace.tb_lineno, code.co_name, position[1] or trace.tb_lineno)


def _lines(place: Place) -> str:
    """The source of the failing statement, as far as known."""
    last = max(place.number, min(place.last, place.number + 10))
    lines = linecache.getlines(place.file)[place.number - 1 : last]
    return "".join(lines).strip() or place.text.strip()


def _values(names: Mapping[str, Any]) -> str:
    shown: list[str] = []
    for name, value in names.items():
        if (
            isinstance(value, ModuleType | type)
            or inspect.isroutine(value)
            or len(shown) >= MAX_VALUES
        ):
            continue
        if secrets.is_name(name):
            shown.append(f"{name}: not shown: its name is that of a secret")
        else:
            shown.append(values.summarise(name, value, VALUE_BUDGET))
    return "The values there:\n\n" + fenced("\n".join(shown), "text") if shown else ""


# -- names


def _document(name: str, value: Any) -> Iterator[str]:
    kind = type(value).__name__
    is_code = isinstance(value, type) or inspect.isroutine(value)
    if is_code:
        yield f"`{name}`: {'class' if isinstance(value, type) else kind}"
        if signature := _signature(value):
            yield fenced(f"{name}{signature}", "text")
    elif isinstance(value, ModuleType | property):
        yield f"`{name}`: {kind}"
    elif secrets.is_name(name.rpartition(".")[2]):
        yield f"`{name}`: {kind}; its value is not shown: its name is that of a secret."
    else:
        yield fenced(values.summarise(name, value, 600), "text")
        if type(value).__module__ == "builtins" or not type(value).__doc__:
            return
        yield f"Its class is `{kind}`:"
        value = type(value)
    doc = inspect.getdoc(value) or ""
    lines = doc.strip().splitlines()
    if lines:
        more = ["…"] if len(lines) > MAX_DOC_LINES else []
        yield fenced("\n".join([*lines[:MAX_DOC_LINES], *more]).replace("\n\n…", "\n…"), "text")
    else:
        yield "It has no documentation."


class _Shown:
    """A short stand-in for a default value."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __repr__(self) -> str:
        return values.summarise("", self._value, 60).partition("\n")[0].partition(" = ")[2] or "…"


def _signature(value: Any) -> str:
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):  # not every builtin has a signature
        return ""
    parameters = [
        each if each.default is each.empty else each.replace(default=_Shown(each.default))
        for each in signature.parameters.values()
    ]
    return str(signature.replace(parameters=parameters))


def _row(name: str, value: Any) -> str:
    kind = type(value).__name__
    if secrets.is_name(name):
        told = "not shown"
    elif isinstance(value, type) or inspect.isroutine(value):
        told = f"{value.__name__}{_signature(value)}"
    else:
        first = values.summarise(name, value, 120).partition("\n")[0]
        told = first.removeprefix(f"{name}: ").removeprefix(kind).lstrip(" ,=")
    told = told[:100].replace("\\", "\\\\").replace("|", "\\|").replace("`", "'")
    return f"| `{name}` | {kind} | {f'`{told}`' if told else ''} |"
