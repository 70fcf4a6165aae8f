"""Schemas of values: the JSON Schema of a type, and reading a value from a text.

A form is a type that pydantic knows (a model, a dataclass, `bool`, `list[int]`, `Literal[…]`) or a
JSON Schema. Pydantic makes a type's schema and its values. `check` runs first: it knows the usual
keywords of a schema, reports mismatches in one wording for all forms, and also works in another
process, which doesn't have the user's class. jsonschema checks schemas with other keywords.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ipychat import _lazy, requirements

Json: TypeAlias = dict[str, Any]
VALUE = "value"
"""The property that holds a value that is not an object: services accept only objects."""
SHARED = {"$defs", "definitions"}
"""Definitions that a schema refers to, by a path from the outermost schema."""
FENCED = re.compile(r"```[\w-]*\n(.*?)```", re.DOTALL)
KINDS: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}
MAX_DEPTH = 100
"""Levels of JSON that is anybody's; deeper ones exhaust the stack of whoever walks them."""
ANNOTATIONS = {
    "$schema", "$id", "$defs", "definitions", "$comment", "title", "description", "default",
    "examples", "format", "deprecated", "readOnly", "writeOnly",
}  # fmt: skip
"""Keywords that describe and constrain nothing."""


@dataclass(frozen=True, slots=True)
class Schema:
    """The form of an answer. Without `make`, as in another process, values are plain JSON."""

    name: str
    json: Json
    wrapped: bool = False
    """Whether the value is wrapped in an object, under `VALUE`."""
    strict: bool = False
    """Whether the schema is of the restricted kind that services can enforce."""
    make: Callable[[Any], Any] | None = None
    """Converts JSON data to the value. Raises ValueError or TypeError."""

    @property
    def response_format(self) -> Json:
        """The `response_format` option that requests this form."""
        asked: Json = {"name": self.name, "schema": self.asked}
        return {
            "type": "json_schema",
            "json_schema": asked | ({"strict": True} if self.strict else {}),
        }

    @property
    def asked(self) -> Json:
        """The schema of the text that the model writes."""
        if not self.wrapped:
            return self.json
        shared = {key: one for key, one in self.json.items() if key in SHARED}
        inner = {key: one for key, one in self.json.items() if key not in SHARED}
        return _object({VALUE: inner}) | shared

    @property
    def instruction(self) -> str:
        """The same request in words, for services without such an option."""
        written = json.dumps(self.asked, ensure_ascii=False)
        return f"Answer with JSON alone that fits this JSON Schema:\n{written}"

    def parse(self, text: str) -> Any:
        """Return the value in an answer. Raises ValueError, which says what is wrong."""
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
                check(self.json, text)  # a bare word, if that is what was asked for
                return text
            raise ValueError("it is not JSON") from None
        if self.wrapped and isinstance(value, dict) and value.keys() == {VALUE}:
            return value[VALUE]
        return value


def read(text: str) -> Any:
    """Parse JSON that a model or a file wrote. Raises ValueError, for too many levels as well."""
    try:
        found = json.loads(text)
    except RecursionError:
        found, level = None, [None]
    else:
        level = [found]
        for _ in range(MAX_DEPTH):
            level = [one for value in level for one in _within(value)]
    if level:
        raise ValueError(f"it has more than {MAX_DEPTH} levels")
    return found


def _within(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


async def load(given: Any) -> None:
    """Import in a thread what this form needs: pydantic takes 0.1 s, jsonschema up to 1 s."""
    if not isinstance(given, Mapping):
        await _lazy.load("pydantic.type_adapter")
        return
    with contextlib.suppress(ImportError, ValueError):  # `parse_schema` reports what is wrong
        if _unknown_keywords(given, given):
            await _lazy.load("jsonschema")


def parse_schema(given: Any) -> Schema:
    """Parse a form that the user gave. Raises ValueError if it can't be one."""
    if isinstance(given, Schema):
        return given
    if isinstance(given, Mapping):
        return _given_as_json(json.loads(json.dumps(given)))
    adapter, schema = _adapted(given)
    is_model = callable(getattr(given, "model_json_schema", None))
    if not is_model:
        schema = _exact(schema, schema.get("$defs", {}))
    return Schema(
        _name(getattr(given, "__name__", "answer")),
        schema,
        wrapped="properties" not in schema and not is_model,
        strict=not is_model,
        make=_Made(adapter),
    )


def _given_as_json(schema: Json) -> Schema:
    unknown = _unknown_keywords(schema, schema)
    is_object = schema.get("type") == "object" or "properties" in schema
    name = _name(schema.get("title") or "answer")
    make = _CheckedInFull(schema, unknown) if unknown else None
    return Schema(name, schema, wrapped=not is_object, make=make)


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


def _adapted(kind: Any) -> tuple[Any, Json]:
    """Return pydantic's adapter for a type, and its schema."""
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticUserError

    requirements.check("pydantic")
    schema: Json = {}
    try:
        adapter = TypeAdapter(kind)
        schema = adapter.json_schema()
    except (PydanticUserError, NameError, RecursionError):
        adapter = None
    if not schema:  # `object` and `Any` have an empty schema
        said = getattr(kind, "__name__", None) or repr(kind)
        raise ValueError(
            f"{said} can't be the form of an answer.\nA form is a pydantic model, a dataclass, "
            "Literal[…], bool, int, float, str, a list of these, or a JSON Schema."
        )
    return adapter, schema


class _Made:
    """Creates values of a type."""

    def __init__(self, adapter: Any) -> None:
        self._adapter = adapter

    def __call__(self, value: Any) -> Any:
        return made(self._adapter, value)


def made(adapter: Any, value: Any) -> Any:
    """Return what a TypeAdapter makes of JSON data. Raises ValueError, without the input in it."""
    try:
        return adapter.validate_python(value)
    except ValueError as error:
        told: Callable[[], list[Json]] = getattr(error, "errors", list)
        said = [": ".join(filter(None, (_path(one["loc"]), one["msg"]))) for one in told()]
        raise ValueError("; ".join(said) or str(error)) from None


def _path(location: Iterable[Any]) -> str:
    return ".".join(map(str, location))


def _exact(schema: Any, definitions: Json, within: tuple[str, ...] = ()) -> Any:
    """Return the restricted form of a schema, which services can enforce.

    Every property is required, no other is allowed, and references are replaced by what they refer
    to. Titles, defaults and docstrings of classes are left out.
    """
    if isinstance(schema, list):
        return [_exact(one, definitions, within) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if reference := schema.get("$ref"):
        name = reference.removeprefix("#/$defs/")
        if name in within:
            raise ValueError(f"{name} refers to itself; a pydantic model can do that.")
        return _exact(definitions[name], definitions, (*within, name))
    # The type comes first: the order is part of the instruction, and so of the question's hash.
    ordered = sorted(schema.items(), key=lambda item: item[0] != "type")
    exact = {key: one for key, one in ordered if key not in LEFT_OUT and one != {}}
    if "const" in schema:
        exact["enum"] = [schema["const"]]
    for key in NESTED & exact.keys():
        exact[key] = _exact(exact[key], definitions, within)
    if properties := exact.get("properties"):
        exact.pop("description", None)
        inner = {name: _exact(one, definitions, within) for name, one in properties.items()}
        exact |= _object(inner)
    return exact


LEFT_OUT = {"title", "default", "$defs", "const"}
NESTED = {"items", "prefixItems", "additionalProperties", "anyOf", "oneOf", "allOf"}
"""Keywords that hold a schema or a list of schemas."""


# -- JSON Schema in full


class _CheckedInFull:
    """Checks a value with jsonschema, for schemas with keywords that `check` doesn't know."""

    def __init__(self, schema: Json, unknown: set[str]) -> None:
        try:
            import jsonschema  # type: ignore[import-untyped]  # has no hints
        except ImportError:
            raise ValueError(
                f"A schema with {', '.join(sorted(unknown))} can't be checked here: a pydantic "
                f"model can do that, or {requirements.install('schema')}"
            ) from None
        try:
            jsonschema.Draft202012Validator.check_schema(schema)
        except jsonschema.SchemaError as error:
            raise ValueError(f"This is not a valid JSON Schema: {error.message}.") from None
        self._validator = jsonschema.Draft202012Validator(schema)
        self._best_match = jsonschema.exceptions.best_match

    def __call__(self, value: Any) -> Any:
        if error := self._best_match(self._validator.iter_errors(value)):
            raise ValueError(f"{_path(error.absolute_path) or 'it'}: {error.message}")
        return value


# -- checking


def _check_type(given: Any, value: Any, _: Json) -> str | None:
    names = given if isinstance(given, list) else [given]
    if any(_is(name, value) for name in names):
        return None
    return f"is not of type {' or '.join(names)}"


def _is(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, KINDS.get(name, ()))


def _same(one: Any, other: Any) -> bool:
    """Whether two values are equal in JSON, where 1 is not true."""
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
    "enum": _rule(None, lambda given, v: any(_same(v, one) for one in given), "is not one of {}"),
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
    "required": _rule("object", lambda given, v: {*given} <= v.keys(), "needs all of {}"),
}
WITHIN = {"$ref", "anyOf", "allOf", "properties", "additionalProperties", "items"}
"""Keywords that hold schemas."""


def check(schema: Any, value: Any, at: str = "it", root: Json | None = None) -> None:
    """Raise ValueError, which says where, if `value` does not match."""
    root = schema if root is None else root
    if isinstance(schema, bool):
        if not schema:
            raise ValueError(f"{at} should not be there")
        return
    for keyword, rule in RULES.items():
        if keyword in schema and (fault := rule(schema[keyword], value, schema)):
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


def _referred(reference: str, root: Mapping[str, Any]) -> Any:
    found: Any = root
    for name in reference.removeprefix("#").strip("/").split("/"):
        found = found[name.replace("~1", "/").replace("~0", "~")] if name else found
    return found


def _unknown_keywords(schema: Any, root: Mapping[str, Any]) -> set[str]:
    """Return the keywords that `check` doesn't know. Raises ValueError for an invalid schema."""
    if isinstance(schema, bool):
        return set()
    if not isinstance(schema, Mapping):
        kind = type(schema).__name__
        raise ValueError(f"A JSON Schema is a dict, not {kind}.")  # noqa: TRY004 - one kind for all
    if "$ref" in schema:
        try:
            _referred(schema["$ref"], root)
        except (LookupError, TypeError, AttributeError):
            raise ValueError(f"The schema has no {schema['$ref']}.") from None
    lists = (*schema.get("anyOf", ()), *schema.get("allOf", ()))
    named = (*schema.get("properties", {}).values(), *schema.get("$defs", {}).values())
    single = (schema[name] for name in ("items", "additionalProperties") if name in schema)
    inner = (_unknown_keywords(one, root) for one in (*lists, *named, *single))
    return (schema.keys() - RULES.keys() - ANNOTATIONS - WITHIN).union(*inner)
