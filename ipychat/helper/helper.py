"""The built-in helper: what answers where there is no key, no server and no weights.

It tells the last error, what a name is, the variables at hand and how to set up a model. It looks
things up, and never evaluates, imports or guesses; to anything else it says that it can't answer.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import inspect
import linecache
import re
import sys
import sysconfig
from collections.abc import AsyncGenerator, Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, NamedTuple

from ipychat import secrets
from ipychat.context import failures, values
from ipychat.context.failures import file_of
from ipychat.helper import advice
from ipychat.helper.advice import Failure
from ipychat.messages import Message, TextPart
from ipychat.providers.provider import FullProvider, Messages, read_messages

FIRST_LINE = "*This is ipychat's built-in helper, which is no AI model.*"
NO_NOTEBOOK = "There is no notebook here, so there is no error, name or variable to look at."
NO_ERROR = "There is no error to explain: no cell of this notebook has failed yet."
CANNOT = "The helper can't answer that: it takes a model, and it only looks things up."
CAN = """\
It tells the last error (`explain the error`), what a name is (`help print`) and what is defined \
(`what variables`)."""
SETUP = """\
Either line gives a model:

```python
%chat_login anthropic  # with a key; %chat_models lists the providers
%chat_setup local      # on this machine, with no account
```"""

MOST_VALUES = 6
VALUE_BUDGET = 200
"""Characters of each value beside an error."""
MOST_NAMES = 50
SHORTEST_SECRET = 6
"""Characters; a shorter one can't be told from an ordinary word."""
DOC_LINES = 15
MESSAGE = 600
"""Characters of an error's message."""
AROUND = 2
"""Lines of source before and after the one that failed."""

NAMES_OF_SECRETS = (
    r"(?:\w*_)?(?:api)?_?(?:key|token|password|passwd|pwd|passphrase|secret|credential)s?(?:_\w*)?"
)
_secret_name = re.compile(rf"(?i:{NAMES_OF_SECRETS})|\w+(?:Key|Token|Password|Secret)")
_secret_value = re.compile(
    rf"(\b(?:(?i:{NAMES_OF_SECRETS})|\w+(?:Key|Token|Password|Secret))\b[\"'\])]*\s*[:=!]=?\s*(?:\w+\s*=\s*)?)"
    r"(?:[rbfuRBFU]{0,2}(\"\"\"|'''|\"|')(?:\\.|(?!\2).)*(?:\2|$)|\d{4,}\w*)",
    re.MULTILINE,
)
_url_password = re.compile(r"(://[^/\s:@]*:)[^@\s/]+(?=@)")


class Helper(FullProvider):
    """`helper:notebook`. No model: what can be looked up, and nothing else."""

    label = "Built-in helper (no AI model)"
    default_model = "notebook"
    models = ["notebook"]
    working = True
    sees_more = frozenset(models)

    @classmethod
    async def create_async_generator(
        cls,
        model: str,
        messages: Messages,
        **options: Any,  # noqa: ARG003 - whatever others are asked with
    ) -> AsyncGenerator[str, None]:
        """Answer the last question, as Markdown."""
        cls.get_model(model)
        yield f"{FIRST_LINE}\n\n"
        yield secrets.mask(answer(_asked(read_messages(messages))))


def is_secret(name: str) -> bool:
    """Whether the value of that name should not be shown."""
    return bool(_secret_name.fullmatch(name))


def hide(text: str) -> str:
    """Take out what stands behind names such as `api_key`, and the passwords in addresses."""
    text = _secret_value.sub(rf"\1{secrets.MASK}", text)
    return _url_password.sub(rf"\1{secrets.MASK}", text)


# -- what is asked


def _words_of(text: str) -> set[str]:
    return set(re.findall(r"[\w'.]*\w", text.replace("\u2019", "'").lower()))


_WORDS = _words_of(
    """a about again an all and any are at available be can cell code could current currently did do
    does don't explain exist for from get getting give got had hand happened happening happens has
    have hello help here hi how i i'm in into is isn't it it's its just keep last latest list me
    mean means my name notebook now of on our out please previous raised recent run running same
    say says show so tell that the there these this to up us use using values want was we went were
    what what's where which why with work would you your"""
)
_ERROR = _words_of(
    """broke broken crash crashed debug error errors exception exceptions fail failed failing fails
    failure fix fixed stacktrace traceback wrong"""
)
_VARIABLES = _words_of("defined namespace variable variables vars names who whos")
_SETUP = _words_of(
    """account ai api configure connect install key keys llm login model models ollama openai
    provider providers server service set setup"""
)
_KIND = r"(?:the |an? )?(?:function |class |method |module |variable |object )?"
_NAME = r"`?(?P<name>[^\W\d]\w*(?:\.[^\W\d]\w*)*)(?:\(\))?`?"
_DOC = r"(?:help|docs?|documentation|docstring|signature|parameters|arguments)"
_PLEASE = r"(?:(?:please|show|give|tell|me|what is|what's|the) )*"
_ABOUT_A_NAME = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?:what is|what's|what are|what does) {_KIND}{_NAME}(?: do| mean| for| used for)?\W*",
        rf"how (?:do i|can i|do you|to) use {_KIND}{_NAME}\W*",
        rf"{_PLEASE}{_DOC}(?: of| for| on| about| with)? {_KIND}{_NAME}\W*",
        rf"help\({_NAME}\)",
        rf"(?:explain|describe) {_KIND}{_NAME}\W*",
        rf"\?{{1,2}}{_NAME}|{_NAME.replace('?P<name>', '?P<other>')}\?{{1,2}}",
    )
]
_TRACEBACK = re.compile(
    r'Traceback \(most recent call last\)|^[ \t]*(?:File ".+"|Cell In\[\d+\]), line \d+',
    re.MULTILINE,
)
_LAST_LINE = re.compile(
    r"^(?:[\w.]{1,200}\.)?"
    r"(\w{0,100}(?:Error|Exception|Interrupt|Iteration|Warning|Exit)\w*)(?:: (.*))?$",
    re.MULTILINE,
)


def _asked(messages: tuple[Message, ...]) -> str:
    """What the user wrote last; of a conversation in one text, its last `User:` part."""
    content = next((m.content for m in reversed(messages) if m.role == "user"), "")
    if isinstance(content, str):
        return _last_part(content)
    texts = [part.text for part in content if isinstance(part, TextPart)]
    # what goes along stands before the question, unless an error was attached on purpose
    return _last_part(texts[-1] if texts else "")


def _last_part(text: str) -> str:
    text = text.strip()
    if not text.endswith("\nAssistant:"):
        return text
    return re.split(r"^User: ", text.removesuffix("Assistant:"), flags=re.MULTILINE)[-1].strip()


def answer(asked: str) -> str:
    """Return what can truly be said, without the first line."""
    from IPython.core.getipython import get_ipython

    notebook = Notebook(get_ipython())
    if _TRACEBACK.search(asked) and (pasted := _pasted(asked)):
        return notebook.explain(pasted)
    for text in dict.fromkeys([asked, asked.rpartition("\n")[2]]):
        told = _told(notebook, text.strip())
        if told:
            return told
    words = _words_of(asked)
    if len(words) <= MOST_WORDS and not _ERROR.isdisjoint(words) and notebook.error():
        about = "If you mean the last error, this is what it knows of that:"
        return f"{CANNOT} `setup` tells how to get one. {about}\n\n{notebook.explain()}"
    name = _name_in(asked)
    unknown = f"Nothing at hand is called `{name}`. " if name else ""
    return f"{unknown}{CANNOT} {CAN}\n\n{SETUP}"


MOST_WORDS = 15
"""A longer question that mentions an error is hardly about the last one."""


def _told(notebook: Notebook, asked: str) -> str | None:
    """What is asked for in so many words; nothing for a question that has any other in it."""
    name = _name_in(asked)
    if name and name.lower() not in _ERROR and (doc := notebook.document(name)):
        return doc
    if _is_about(_VARIABLES, asked):
        return notebook.variables()
    if _is_about(_ERROR, asked):
        return notebook.explain()
    if _is_about(_SETUP, asked):
        return SETUP
    if name and name.lower() not in _WORDS and not notebook:
        return NO_NOTEBOOK
    return None


def _is_about(subject: set[str], text: str) -> bool:
    """Whether a text is of the subject's words and the helper's few others, no more."""
    words = _words_of(text)
    of_errors = {word for word in words if word.endswith(("error", "exception"))}
    if subject is _ERROR:
        subject = subject | of_errors
    return bool(words & subject) and words <= subject | _WORDS


def _name_in(text: str) -> str | None:
    for pattern in _ABOUT_A_NAME:
        if found := pattern.fullmatch(text):
            return found["name"] or found.groupdict().get("other")
    return None


def _pasted(text: str) -> Failure | None:
    """The error that a text with a traceback ends with."""
    found = list(_LAST_LINE.finditer(text))
    if not found:
        return None
    before = [line.strip() for line in text[: found[-1].start()].splitlines()]
    code = [line for line in before if line.strip("^~ ") and not line.startswith(("File ", "```"))]
    return Failure(found[-1][1], found[-1][2] or "", line=code[-1] if code else "")


# -- what is at hand


class Place(NamedTuple):
    """A line of source."""

    file: str
    number: int
    function: str = "<module>"
    last: int = 0
    """The last line of its statement, where that is known."""
    text: str = ""
    """The line, where its file can't be read."""


class Notebook:
    """What can be looked up; falsy where there is no notebook."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell

    def __bool__(self) -> bool:
        return self._shell is not None

    def names(self) -> dict[str, Any]:
        """Return what the user has defined."""
        return self._visible(self._shell.user_ns) if self else {}

    def error(self) -> BaseException | None:
        """Return the last error of a cell."""
        return failures.last_error() if self else None

    def explain(self, pasted: Failure | None = None) -> str:
        """Tell the last error, or one that the user has only the text of."""
        error = self.error()
        if pasted:
            same = error and (type(error).__name__, _message(error).partition("\n")[0])
            if error is None or same != (pasted.kind, pasted.message):
                about = "This is said from the text alone; its values are not at hand."
                return self._hide(
                    "\n\n".join([_headline(pasted), *_source_of(pasted), _look(pasted), about])
                )
        if error is None:
            return NO_ERROR if self else NO_NOTEBOOK
        failure, parts = self._failure(error)
        caused = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if caused:
            parts.append(f"It came up from:\n\n{_headline(_as_failure(caused))}")
        text = "\n\n".join(filter(None, [_headline(failure), *parts, _look(failure)]))
        return self._hide(text, failure.names)

    def _failure(self, error: BaseException) -> tuple[Failure, list[str]]:
        """What is known of an error, and where it stands with the values there."""
        if isinstance(error, SyntaxError) and error.filename and error.lineno:
            place = Place(error.filename, error.lineno, text=error.text or "")
            line = _lines(place)
            return _as_failure(error, line=line), [self._where(place)]
        frames = failures.frames(error)
        first = next((n for n, each in enumerate(frames) if self._cell(file_of(each))), 0)
        own = [each for each in frames[first:] if self._is_own(file_of(each))] or frames[-1:]
        if not own:
            return _as_failure(error), []
        frame, place = own[-1].tb_frame, _place(own[-1])
        names = self._visible({**frame.f_globals, **frame.f_locals})
        failure = _as_failure(error, line=_lines(place), names=names)
        parts = [self._where(place)]
        if own[-1] is not frames[-1]:
            deepest = _place(frames[-1])
            parts.append(
                f"From there it went on to `{deepest.file}`, line {deepest.number}, "
                f"in `{deepest.function}`, which raised it."
            )
        inside = {} if frame.f_locals is frame.f_globals else self._visible(frame.f_locals)
        return failure, [*parts, _values({**failure.mentioned(), **inside})]

    def _hide(self, text: str, names: Mapping[str, Any] | None = None) -> str:
        """As `hide`, and wherever else the values of such names come up."""
        text = hide(secrets.mask(text))
        for name, value in {**self.names(), **(names or {})}.items():
            if is_secret(name) and isinstance(value, str) and len(value) >= SHORTEST_SECRET:
                text = text.replace(value, secrets.MASK)
        return text

    def _visible(self, names: Mapping[str, Any]) -> dict[str, Any]:
        hidden = self._shell.user_ns_hidden
        return {
            name: value
            for name, value in list(names.items())
            if isinstance(name, str)
            and not name.startswith("_")
            and not (name in hidden and hidden[name] is value)
        }

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
        first = max(1, place.number - AROUND)
        shown = [
            f"{'→' if n == place.number else ' '} {n:4} {line.rstrip()}"
            for n, line in enumerate(lines[first - 1 : place.number + AROUND], first)
            if line.strip() or n == place.number
        ]
        return f"{head}\n\n{_fenced(chr(10).join(shown))}"

    def document(self, name: str) -> str | None:
        """Tell what a name is; None if nothing at hand is called that."""
        for value in self._look_up(name.split(".")) if self else ():
            return self._hide("\n\n".join(_document(name, value)))
        return None

    def _look_up(self, path: list[str]) -> Iterator[Any]:
        roots = self.names(), vars(builtins)
        starts = [(names[path[0]], path[1:]) for names in roots if path[0] in names]
        splits = [(".".join(path[:end]), path[end:]) for end in range(len(path), 0, -1)]
        starts += [(sys.modules[name], rest) for name, rest in splits if name in sys.modules]
        for value, rest in starts:
            with contextlib.suppress(AttributeError, TypeError):
                yield functools.reduce(_attribute, rest, value)

    def variables(self) -> str:
        """Tell what is defined, as a table."""
        names = self.names()
        modules = [name for name, value in names.items() if isinstance(value, ModuleType)]
        others = [name for name in names if name not in modules]
        if not names:
            return "Nothing is defined in this notebook yet." if self else NO_NOTEBOOK
        rows = [_row(name, names[name]) for name in others[-MOST_NAMES:]]
        table = ["| name | type | what it is |", "|---|---|---|", *rows] if rows else []
        parts = ["\n".join(table)] if table else []
        if len(others) > MOST_NAMES:
            parts.append(f"… and {len(others) - MOST_NAMES} that were defined before these.")
        if modules:
            parts.append(f"Modules: {', '.join(f'`{name}`' for name in modules)}.")
        return self._hide("\n\n".join(parts))


# -- errors


def _as_failure(
    error: BaseException, line: str = "", names: Mapping[str, Any] | None = None
) -> Failure:
    kind = type(error).__name__
    if kind == "_IncompleteInputError":  # what Python 3.13 has below SyntaxError, for itself
        kind = SyntaxError.__name__
    return Failure(kind, _message(error), error, line, names or {})


def _message(error: BaseException) -> str:
    try:
        text = error.msg if isinstance(error, SyntaxError) else str(error)
    except Exception:  # noqa: BLE001 - an error's own text is the user's code
        text = ""
    return secrets.mask(text)[:MESSAGE]


def _headline(failure: Failure) -> str:
    return _fenced(f"{failure.kind}: {failure.message}" if failure.message else failure.kind)


def _source_of(failure: Failure) -> list[str]:
    return [_fenced(f"→ {failure.line}")] if failure.line else []


def _look(failure: Failure) -> str:
    found = advice.advise(failure)
    if not found:
        return f"The helper has no advice for `{failure.kind}`."
    return "What to look at:\n\n" + "\n".join(f"- {each}" for each in found)


def _place(trace: TracebackType) -> Place:
    code = trace.tb_frame.f_code
    position = next(islice(code.co_positions(), trace.tb_lasti // 2, None), (None,) * 4)
    return Place(file_of(trace), trace.tb_lineno, code.co_name, position[1] or trace.tb_lineno)


def _lines(place: Place) -> str:
    """The source of its statement, as far as it is known."""
    last = max(place.number, min(place.last, place.number + 10))
    lines = linecache.getlines(place.file)[place.number - 1 : last]
    return "".join(lines).strip() or place.text.strip()


def _values(names: Mapping[str, Any]) -> str:
    shown: list[str] = []
    for name, value in names.items():
        if (
            isinstance(value, ModuleType | type)
            or inspect.isroutine(value)
            or len(shown) >= MOST_VALUES
        ):
            continue
        if is_secret(name):
            shown.append(f"{name}: not shown, for its name is a secret's")
        else:
            shown.append(values.summarise(name, value, VALUE_BUDGET))
    return f"The values there:\n\n{_fenced(chr(10).join(shown))}" if shown else ""


# -- names


def _attribute(value: Any, name: str) -> Any:
    """What stands under that name, without a property or a `__getattr__` being run."""
    held = inspect.getattr_static(value, name)
    return held.__func__ if isinstance(held, staticmethod | classmethod) else held


def _document(name: str, value: Any) -> Iterator[str]:
    kind = type(value).__name__
    is_code = isinstance(value, type) or inspect.isroutine(value)
    if is_code:
        yield f"`{name}`: {'class' if isinstance(value, type) else kind}"
        if signature := _signature(value):
            yield _fenced(f"{name}{signature}")
    elif isinstance(value, ModuleType | property):
        yield f"`{name}`: {kind}"
    elif is_secret(name.rpartition(".")[2]):
        yield f"`{name}`: {kind}; its value is not shown, for its name is a secret's."
    else:
        yield _fenced(values.summarise(name, value, 600))
        if type(value).__module__ == "builtins" or not type(value).__doc__:
            return
        yield f"Its class is `{kind}`:"
        value = type(value)
    doc = inspect.getdoc(value) or ""
    lines = doc.strip().splitlines()
    if lines:
        more = ["…"] if len(lines) > DOC_LINES else []
        yield _fenced("\n".join([*lines[:DOC_LINES], *more]).replace("\n\n…", "\n…"))
    else:
        yield "It has no documentation."


class _Shown:
    """A default value whose text is short."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __repr__(self) -> str:
        return values.summarise("", self._value, 60).partition("\n")[0].partition(" = ")[2] or "…"


def _signature(value: Any) -> str:
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):  # not all that is built in has one
        return ""
    parameters = [
        each if each.default is each.empty else each.replace(default=_Shown(each.default))
        for each in signature.parameters.values()
    ]
    return str(signature.replace(parameters=parameters))


def _row(name: str, value: Any) -> str:
    kind = type(value).__name__
    if is_secret(name):
        told = "not shown"
    elif isinstance(value, type) or inspect.isroutine(value):
        told = f"{value.__name__}{_signature(value)}"
    else:
        first = values.summarise(name, value, 120).partition("\n")[0]
        told = first.removeprefix(f"{name}: ").removeprefix(kind).lstrip(" ,=")
    told = told[:100].replace("\\", "\\\\").replace("|", "\\|").replace("`", "'")
    return f"| `{name}` | {kind} | {f'`{told}`' if told else ''} |"


def _fenced(text: str) -> str:
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}text\n{text}\n{fence}"
