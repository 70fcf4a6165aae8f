"""Functions of the notebook as tools: the signature and the docstring are the definition."""

from __future__ import annotations

import contextvars
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import CodeType
from typing import Any, NotRequired, TypeVar, overload

from ipychat.errors import UsageError
from ipychat.text import schemas, words
from ipychat.text.characters import harmless
from ipychat.toolbox.tool import MARK, Json, Tool
from ipychat.wire import aside

F = TypeVar("F", bound=Callable[..., Any])

NAME = r"[\w-]+"
"""Names of functions: those of the kernel and of servers have dots and colons."""
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
NAMED_SCHEMAS = {"properties", "$defs"}
"""Keywords whose keys are names of the user's, not keywords."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What `tool` says of a function."""

    name: str | None = None
    reads: bool = False
    thread: bool = False
    ask: bool | Callable[[Json], bool] | None = None


@overload
def tool(function: F, /) -> F: ...


@overload
def tool(
    *,
    name: str | None = None,
    reads: bool = False,
    thread: bool = False,
    ask: bool | Callable[[Json], bool] | None = None,
) -> Callable[[F], F]: ...


def tool(function: Any = None, /, **said: Any) -> Any:
    """Say how a model may use a function; any function can be given to one without this.

    `name` is what it is called there. `reads` says that it changes nothing, `thread` that it may
    run in a thread beside others. `ask` says whether the user is asked before it runs: a bool, or a
    function of the arguments.
    """

    def mark(function: F) -> F:
        setattr(function, MARK, Mark(**said))
        return function

    return mark if function is None else mark(function)


async def load(function: Callable[..., Any], name: str | None = None) -> Tool:
    """Return a function as a tool. Raises UsageError if a model can't call it."""
    await schemas.load(function)
    return _made(function, name)


def _made(function: Any, name: str | None) -> Tool:
    mark = getattr(function, MARK, Mark())
    name = mark.name or name or getattr(function, "__name__", "")
    if not callable(function) or not name:
        raise UsageError(f"A tool is a function, not {type(function).__name__}.")
    if not re.fullmatch(NAME, name):
        raise UsageError(
            f"No tool can be called {harmless(name)!r}: a name has letters, digits, _ and -.\n"
            "Give it one: @ipychat.tool(name=…)."
        )
    parameters = _parameters(function, name)
    adapter, schema = _adapter(parameters, name)
    is_async = inspect.iscoroutinefunction(function)

    def read(arguments: Json) -> Mapping[str, Any]:
        checked: Mapping[str, Any] = schemas.made(adapter, arguments)
        return checked

    async def run(arguments: Mapping[str, Any]) -> Any:
        if mark.thread and not is_async:
            work = partial(contextvars.copy_context().run, _called, function, arguments)
            return await aside.run(work)  # one that never ends holds neither others nor the exit
        with aside.interruptible():  # as where a cell runs it
            value = function(**arguments)
        return await value if inspect.isawaitable(value) else value

    made = Tool(name, inspect.getdoc(function) or "", schema, read, run)
    beside = is_async or mark.thread
    return replace(made, reads=mark.reads, beside=beside, ask=mark.ask, code=_code(function))


def _code(function: Any) -> str:
    """Return what a function does, without the place where it stands; not what it calls."""
    told = []
    while function is not None:  # one that is decorated, and then what was
        told.append(_instructions(getattr(function, "__code__", None)))
        function = getattr(function, "__wrapped__", None)
    return "\n".join(told)


def _instructions(value: Any) -> str:
    match value:
        case CodeType():
            names = value.co_names, value.co_varnames, value.co_freevars
            return f"{value.co_code.hex()} {names} {_instructions(value.co_consts)}"
        case tuple():
            return f"({', '.join(map(_instructions, value))})"
        case frozenset():  # in another order in each process
            return f"{{{', '.join(sorted(map(_instructions, value)))}}}"
    return repr(value)


def _called(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    try:
        return function(**arguments)
    except StopIteration as error:  # no future takes it: whoever waits would wait for ever
        raise RuntimeError("it raised StopIteration") from error


def _parameters(function: Any, name: str) -> dict[str, inspect.Parameter]:
    """Return the parameters, with their types resolved."""
    try:
        signature = inspect.signature(function, eval_str=True)
    except NameError as error:
        raise UsageError(
            f"{name} can't be a tool: its types name {error.name}, which is not defined."
        ) from None
    except (TypeError, ValueError):
        raise UsageError(
            f"{name} can't be a tool: Python knows no signature of it.\n"
            "Wrap it in a function of your own, whose parameters have types."
        ) from None
    for parameter in signature.parameters.values():
        if parameter.kind not in NAMED:
            raise UsageError(
                f"{name} can't be a tool: a model passes arguments by name, and has none for "
                f"{str(parameter).partition(':')[0]}."
            )
    return dict(signature.parameters)


def _adapter(parameters: Mapping[str, inspect.Parameter], name: str) -> tuple[Any, Json]:
    """Return pydantic's adapter of a call's arguments, and their schema."""
    from pydantic import ConfigDict, TypeAdapter, with_config
    from pydantic.errors import PydanticUserError
    from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

    fields: dict[str, Any] = {}
    for parameter in parameters.values():
        empty = parameter.annotation is parameter.empty
        kind = Any if empty else parameter.annotation
        try:
            TypeAdapter(kind)
        except PydanticUserError:
            written = inspect.formatannotation(parameter.annotation)
            raise UsageError(
                f"{name} can't be a tool: JSON carries no {written}, which its parameter "
                f"{parameter.name} takes."
            ) from None
        fields[parameter.name] = kind if parameter.default is parameter.empty else NotRequired[kind]
    form: Any = TypedDict("Arguments", fields)  # type: ignore[misc]  # known at run time alone
    adapter: Any = TypeAdapter(with_config(ConfigDict(extra="forbid"))(form))
    schema = _untitled(adapter.json_schema())
    for parameter in parameters.values():
        if parameter.default is not parameter.empty and _is_plain(parameter.default):
            schema["properties"][parameter.name].setdefault("default", parameter.default)
    return adapter, {"type": "object", "properties": {}, **schema}


def _is_plain(value: Any) -> bool:
    return value is None or type(value) in {bool, int, float, str}


def _untitled(schema: Any) -> Any:
    """Return a schema without pydantic's titles, which say the names again."""
    if isinstance(schema, list):
        return [_untitled(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    untitled = {key: _untitled(one) for key, one in schema.items() if key not in NAMED_SCHEMAS}
    if isinstance(untitled.get("title"), str):
        del untitled["title"]
    for key in NAMED_SCHEMAS & schema.keys():
        untitled[key] = {name: _untitled(one) for name, one in schema[key].items()}
    return untitled


def find(name: str, names: Mapping[str, Any]) -> Any:
    """Return the notebook's function of that name. Raises UsageError, with near misses."""
    if name in names:
        return names[name]
    functions = [one for one, value in names.items() if inspect.isroutine(value)]
    raise UsageError(f"No function named {name}.{words.near(name, functions)}")
