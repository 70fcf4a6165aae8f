"""What form an answer is to have: asked for in JSON Schema, read out of a text, and checked.

A form is a pydantic model, a dataclass, a type such as `bool`, `list[int]` or `Literal["a", "b"]`,
or a JSON Schema. The keywords of a schema that can't be checked are refused; pydantic knows more.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import json
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from ipychat.errors import FormatError, UsageError

Json: TypeAlias = dict[str, Any]
VALUE = "value"
"""Under this name stands what is no object itself: services ask for objects only."""
FENCED = re.compile(r"```[\w-]*\n(.*?)```", re.DOTALL)
SIMPLE = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
KINDS: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}
SAYINGS = {
    "$schema", "$id", "$defs", "definitions", "$comment", "title", "description", "default",
    "examples", "format", "deprecated", "readOnly", "writeOnly",
}  # fmt: skip
"""Keywords that say something and demand nothing."""


@dataclass(frozen=True, slots=True)
class Schema:
    """The form of an answer. Of another process `make` may be left out: it reads plain JSON."""

    name: str
    json: Json
    wrapped: bool = False
    """Whether the answer stands in an object under `VALUE`."""
    strict: bool = False
    """Whether the schema keeps to what services can hold a model to."""
    make: Callable[[Any], Any] | None = None
    """Makes the value of what JSON carries. Raises ValueError or TypeError."""

    @property
    def response_format(self) -> Json:
        """The option that asks for it."""
        asked: Json = {"name": self.name, "schema": self.asked}
        return {
            "type": "json_schema",
            "json_schema": asked | ({"strict": True} if self.strict else {}),
        }

    @property
    def asked(self) -> Json:
        """The schema of what the model writes."""
        return _object({VALUE: self.json}) if self.wrapped else self.json

    @property
    def instruction(self) -> str:
        """The same in words, for services that know no such option."""
        written = json.dumps(self.asked, ensure_ascii=False)
        return f"Answer with JSON alone that fits this JSON Schema:\n{written}"

    def parse(self, text: str) -> Any:
        """Return the value that an answer holds. Raises ValueError that says what is wrong."""
        value = self._found(text)
        check(self.json, value)
        if self.make is None:
            return value
        try:
            return self.make(value)
        except (ValueError, TypeError) as error:
            raise ValueError(str(error)) from None

    def _found(self, text: str) -> Any:
        text = text.strip()
        if fenced := FENCED.search(text):
            text = fenced[1].strip()
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            with contextlib.suppress(ValueError):
                check(self.json, text)  # a bare word, where one was asked for
                return text
            raise ValueError("it is no JSON") from None
        if self.wrapped and isinstance(value, dict) and value.keys() == {VALUE}:
            return value[VALUE]
        return value


def value_in(text: str, schema: Schema | None) -> Any:
    """Parse an answer's value; its text if no schema was given. Raises ValueError."""
    return schema.parse(text) if schema else text


def misfit(fault: ValueError) -> FormatError:
    """Return the error of an answer that does not fit its form."""
    return FormatError(f"The answer does not fit: {fault}.")


def parse_schema(given: Any) -> Schema | None:
    """Read what a user gives as a form; None where nothing is. Raises UsageError."""
    if given is None or isinstance(given, Schema):
        return given
    if isinstance(given, Mapping):
        schema = json.loads(json.dumps(given))
        _check_keywords(schema)
        is_object = schema.get("type") == "object" or "properties" in schema
        return Schema(_name(schema.get("title") or "answer"), schema, wrapped=not is_object)
    if callable(getattr(given, "model_json_schema", None)):
        return Schema(_name(given.__name__), given.model_json_schema(), make=_Pydantic(given))
    schema = _schema_of(given, ())
    wrapped = not dataclasses.is_dataclass(given)
    name = _name(getattr(given, "__name__", "answer"))
    return Schema(name, schema, wrapped, strict=True, make=lambda value: _made(given, value))


class _Pydantic:
    """Makes a pydantic model; says what is wrong without the input, which may be long."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __call__(self, value: Any) -> Any:
        try:
            return self._model.model_validate(value)
        except ValueError as error:
            told: Callable[[], list[Json]] = getattr(error, "errors", list)
            said = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in told()]
            raise ValueError("; ".join(said) or str(error)) from None


def _name(given: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", given)[:60] or "answer"


def _object(properties: Json) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": [*properties],
        "additionalProperties": False,
    }


# -- types


def _schema_of(kind: Any, within: tuple[Any, ...]) -> Json:
    """Return the schema of a type. Raises UsageError for one that has none."""
    arguments = get_args(kind)
    if kind in within:
        raise UsageError(f"{kind.__name__} holds itself; a pydantic model can do that.")
    if isinstance(kind, type) and kind in SIMPLE:
        return {"type": SIMPLE[kind]}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        within = (*within, kind)
        fields = (one for one in dataclasses.fields(kind) if one.init)
        return _object({one.name: _schema_of(hints[one.name], within) for one in fields})
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _one_of([one.value for one in kind])
    match get_origin(kind):
        case origin if origin is Literal:
            return _one_of(arguments)
        case origin if origin is list or kind is list:
            return {"type": "array"} | (
                {"items": _schema_of(arguments[0], within)} if arguments else {}
            )
        case types.UnionType | typing.Union:
            return {"anyOf": [_schema_of(one, within) for one in arguments]}
        case origin if origin is dict and arguments[0] is str:
            return {"type": "object", "additionalProperties": _schema_of(arguments[1], within)}
    said = getattr(kind, "__name__", None) or repr(kind)
    raise UsageError(
        f"{said} is no form that an answer can have.\nA form is a pydantic model, a dataclass, "
        "Literal[…], bool, int, float, str, a list of these, or a JSON Schema."
    )


def _one_of(options: Any) -> Json:
    kinds = sorted({SIMPLE.get(type(one), "") for one in options})
    if "" in kinds:
        raise UsageError("The options of an answer are texts, numbers, True, False or None.")
    return {"type": kinds[0] if len(kinds) == 1 else kinds, "enum": [*options]}


def _made(kind: Any, value: Any) -> Any:
    """Return a value of `kind` of what JSON carries, which has been checked."""
    arguments = get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        return kind(**{name: _made(hints[name], one) for name, one in value.items()})
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind(value)
    if kind is float:
        return float(value)
    if isinstance(value, list) and arguments:
        return [_made(arguments[0], one) for one in value]
    if get_origin(kind) in {types.UnionType, Union}:
        for one in arguments:
            with contextlib.suppress(ValueError):
                check(_schema_of(one, ()), value)
                return _made(one, value)
    if isinstance(value, dict) and arguments:
        return {name: _made(arguments[1], one) for name, one in value.items()}
    return value


# -- checking


def _check_type(given: Any, value: Any, _: Json) -> str | None:
    names = given if isinstance(given, list) else [given]
    if any(_is(name, value) for name in names):
        return None
    return f"is no {' or '.join(names)}"


def _is(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, KINDS.get(name, ()))


def _same(one: Any, other: Any) -> bool:
    """Whether two values are the same to JSON, to which 1 is not true."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


Rule: TypeAlias = Callable[[Any, Any, Json], "str | None"]


def _rule(kinds: str | None, fits: Callable[[Any, Any], bool], said: str) -> Rule:
    """Return a function that checks values of one kind and describes a mismatch."""

    def rule(given: Any, value: Any, _: Json) -> str | None:
        concerned = kinds is None or _is(kinds, value)
        return None if not concerned or fits(given, value) else said.format(given)

    return rule


RULES: dict[str, Rule] = {
    "type": _check_type,
    "enum": _rule(None, lambda given, v: any(_same(v, one) for one in given), "is none of {}"),
    "const": _rule(None, lambda given, v: _same(v, given), "is not {!r}"),
    "minimum": _rule("number", lambda given, v: v >= given, "is less than {}"),
    "maximum": _rule("number", lambda given, v: v <= given, "is more than {}"),
    "exclusiveMinimum": _rule("number", lambda given, v: v > given, "is not more than {}"),
    "exclusiveMaximum": _rule("number", lambda given, v: v < given, "is not less than {}"),
    "minLength": _rule("string", lambda given, v: len(v) >= given, "is shorter than {}"),
    "maxLength": _rule("string", lambda given, v: len(v) <= given, "is longer than {}"),
    "pattern": _rule("string", lambda given, v: bool(re.search(given, v)), "does not match {}"),
    "minItems": _rule("array", lambda given, v: len(v) >= given, "has fewer than {} items"),
    "maxItems": _rule("array", lambda given, v: len(v) <= given, "has more than {} items"),
    "required": _rule("object", lambda given, v: {*given} <= v.keys(), "wants all of {}"),
}
WITHIN = {"$ref", "anyOf", "allOf", "properties", "additionalProperties", "items"}
"""Keywords that hold schemas."""


def check(schema: Any, value: Any, at: str = "it", root: Json | None = None) -> None:
    """Raise ValueError, which says where, if `value` does not fit."""
    root = schema if root is None else root
    if isinstance(schema, bool):
        if not schema:
            raise ValueError(f"{at} should not be there")
        return
    for keyword, given in schema.items():
        if (rule := RULES.get(keyword)) and (fault := rule(given, value, schema)):
            raise ValueError(f"{at} {fault}")
    if "$ref" in schema:
        check(_referred(schema["$ref"], root), value, at, root)
    for one in schema.get("allOf", ()):
        check(one, value, at, root)
    if options := schema.get("anyOf"):
        _check_any(options, value, at, root)
    if isinstance(value, dict):
        _check_properties(schema, value, at, root)
    if isinstance(value, list) and "items" in schema:
        for number, one in enumerate(value):
            check(schema["items"], one, f"{at}[{number}]", root)


def _check_any(options: list[Any], value: Any, at: str, root: Json) -> None:
    faults = []
    for one in options:
        try:
            return check(one, value, at, root)
        except ValueError as error:
            faults.append(str(error))
    raise ValueError("; ".join(faults))


def _check_properties(schema: Json, value: Json, at: str, root: Json) -> None:
    known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    for name, one in value.items():
        check(known.get(name, others), one, name if at == "it" else f"{at}.{name}", root)


def _referred(reference: str, root: Json) -> Any:
    found: Any = root
    for name in reference.removeprefix("#").strip("/").split("/"):
        found = found[name.replace("~1", "/").replace("~0", "~")] if name else found
    return found


def _check_keywords(schema: Any, root: Any = None) -> None:
    """Raise UsageError for a schema that can't be checked."""
    root = schema if root is None else root
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        raise UsageError(f"A JSON Schema is a dict, not {type(schema).__name__}.")
    if unknown := schema.keys() - RULES.keys() - SAYINGS - WITHIN:
        raise UsageError(
            f"A schema with {', '.join(sorted(unknown))} can't be checked here: "
            "a pydantic model can do that."
        )
    if "$ref" in schema:
        try:
            _referred(schema["$ref"], root)
        except (LookupError, TypeError, AttributeError):
            raise UsageError(f"The schema has no {schema['$ref']}.") from None
    lists = (*schema.get("anyOf", ()), *schema.get("allOf", ()))
    named = (*schema.get("properties", {}).values(), *schema.get("$defs", {}).values())
    single = (schema[name] for name in ("items", "additionalProperties") if name in schema)
    for inner in (*lists, *named, *single):
        _check_keywords(inner, root)
