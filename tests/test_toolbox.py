"""Tools that a model may be given: functions of the notebook, and what the kernel can be asked."""

import asyncio
import base64
import dataclasses
import enum
import inspect
import json
import threading
from typing import Annotated, Literal

import pydantic
import pytest
from IPython.core.interactiveshell import InteractiveShell

from ipychat import errors
from ipychat.messages import ImagePart, TextPart
from ipychat.text import schemas
from ipychat.toolbox import functions, kernel, results
from ipychat.toolbox.tool import Tool, check_names

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Point(pydantic.BaseModel):
    x: float
    y: float = 0


@dataclasses.dataclass
class Size:
    width: int
    height: int


def draw(
    name: str, colour: Colour, at: Point, size: Size, *, kind: Literal["line", "bar"] = "line",
    times: Annotated[int, pydantic.Field(gt=0, description="how often")] = 1,
) -> str:  # fmt: skip
    """Draw something."""
    return f"{name} {colour} {at} {size} {kind} {times}"


async def made(function, **how) -> Tool:
    return await functions.load(function, **how)


async def called(tool: Tool, **arguments):
    return await tool.run(tool.read(arguments))


async def test_a_functions_signature_and_docstring_are_its_definition():
    tool = await made(draw)
    assert (tool.name, tool.wire_name, tool.description) == ("draw", "draw", "Draw something.")
    properties = tool.schema["properties"]
    assert properties["name"] == {"type": "string"}
    assert properties["kind"] == {"enum": ["line", "bar"], "type": "string", "default": "line"}
    assert properties["times"] == {
        "default": 1, "description": "how often", "exclusiveMinimum": 0, "type": "integer"
    }  # fmt: skip
    assert tool.schema["required"] == ["name", "colour", "at", "size"]
    assert tool.schema["additionalProperties"] is False
    json.dumps(tool.to_dict())


async def test_arguments_become_values_of_the_types_that_it_names():
    tool = await made(draw)
    said = await called(
        tool, name="a", colour="red", at={"x": 1}, size={"width": 2, "height": 3}, times=4
    )
    assert said == "a Colour.RED x=1.0 y=0 Size(width=2, height=3) line 4"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "name: Field required"),
        ({"name": "a", "colour": "green"}, "colour: Input should be 'red' or 'blue'"),
        (
            {"name": "a", "colour": "red", "at": {"x": "far"}},
            r"at\.x: Input should be a valid number",
        ),
        ({"nmae": "a"}, "nmae: Extra inputs are not permitted"),
    ],
)
async def test_arguments_that_do_not_fit_are_told_without_their_values(arguments, said):
    tool = await made(draw)
    with pytest.raises(ValueError, match=said) as caught:
        tool.read(arguments | {"secret": "hunter2"})
    assert "hunter2" not in str(caught.value)


async def test_a_function_without_types_takes_anything():
    def anything(value, other=None):
        return value, other

    tool = await made(anything)
    assert await called(tool, value=[1]) == ([1], None)


async def test_a_parameter_may_be_called_like_a_method_of_pydantics_models():
    def odd(
        json: str, schema: int, copy: bool, model_config: str, _hidden: int = 0, class_: str = ""
    ):
        return json, schema, copy, model_config, _hidden, class_

    tool = await made(odd)
    said = await called(
        tool, json="a", schema=1, copy=True, model_config="b", _hidden=3, class_="c"
    )
    assert said == ("a", 1, True, "b", 3, "c")


async def test_async_functions_are_awaited_and_threads_are_used_where_the_user_says_so():
    async def waits():
        await asyncio.sleep(0)
        return threading.current_thread()

    @functions.tool(thread=True)
    def works():
        return threading.current_thread()

    def blocks():
        return threading.current_thread()

    here = threading.current_thread()
    waiting, working, blocking = await made(waits), await made(works), await made(blocks)
    assert await called(waiting) is here
    assert await called(working) is not here
    assert await called(blocking) is here
    assert (waiting.beside, working.beside, blocking.beside) == (True, True, False)


async def test_the_decorator_says_more_and_leaves_the_function_as_it_is():
    @functions.tool(
        name="look", reads=True, ask=lambda arguments: arguments["path"].startswith("/")
    )
    def look_at(path: str) -> str:
        return path

    assert look_at("here") == "here"
    tool = await made(look_at)
    assert (tool.name, tool.reads) == ("look", True)
    assert tool.is_asked({"path": "/etc"}, unless_reading=True)
    assert not tool.is_asked({"path": "here"}, unless_reading=False)


@pytest.mark.parametrize(("reads", "unless_reading", "asked"), [
    (True, True, False), (True, False, True), (False, True, True), (False, False, True),
])  # fmt: skip
async def test_only_what_reads_runs_unasked_and_only_if_the_user_said_so(
    reads, unless_reading, asked
):
    @functions.tool(reads=reads)
    def act():
        pass

    assert (await made(act)).is_asked({}, unless_reading=unless_reading) is asked


def takes_all(*args):
    pass


def takes_any(**options):
    pass


def takes_by_place(value, /):
    pass


def takes_a_lock(lock: threading.Thread):
    pass


def names_nothing(value: "Missing"):  # noqa: F821 - which is the test
    pass


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (takes_all, r"none for \*args"),
        (takes_any, r"none for \*\*options"),
        (takes_by_place, "none for value"),
        (takes_a_lock, "JSON carries no threading.Thread, which its parameter lock takes"),
        (names_nothing, "its types name Missing, which is not defined"),
        (dict.fromkeys, "none for iterable"),
        (print, r"none for \*args"),
        (max, "Python knows no signature"),
        (3, "A tool is a function, not int"),
    ],
)
async def test_what_a_model_cannot_call_is_told_in_a_sentence(function, said):
    with pytest.raises(errors.UsageError, match=said) as caught:
        await made(function)
    assert len(str(caught.value).splitlines()) <= 2


async def test_names_on_the_wire_are_short_enough_and_told_apart():
    def act():
        """Act."""

    one = dataclasses.replace(await made(act), name="mcp:files.read file")
    assert one.wire_name == "files__read_file"
    long = dataclasses.replace(one, name="mcp:files." + "x" * 80)
    other = dataclasses.replace(one, name="mcp:files." + "x" * 81)
    assert len(long.wire_name) == 64
    assert long.wire_name != other.wire_name
    check_names([one, long, other])
    with pytest.raises(errors.UsageError, match="Two tools are called act\\."):
        check_names([await made(act), await made(act)])


async def test_a_definition_that_changes_has_another_hash():
    def act(value: int):
        """Act."""

    tool = await made(act)
    assert tool.hash == (await made(act)).hash
    assert tool.hash != dataclasses.replace(tool, description="Act otherwise.").hash
    assert tool.hash != dataclasses.replace(tool, schema={"type": "object"}).hash


def test_a_name_that_is_none_gets_a_near_miss():
    assert functions.find("draw", {"draw": draw}) is draw
    with pytest.raises(errors.UsageError, match=r"No function named drwa\. Did you mean draw\?"):
        functions.find("drwa", {"draw": draw})


# -- the kernel's own


class Tricky:
    def __init__(self):
        self.plain = 1
        self.ran = []

    @property
    def computed(self):
        self.ran.append("property")

    def __getattr__(self, name):
        self.ran.append(name)
        raise AttributeError(name)

    def method(self, value: int) -> None:
        """Do something."""


@pytest.fixture
def shell():
    one = InteractiveShell()
    one.run_cell("data = list(range(5))", store_history=True)
    one.run_cell("sum(data)", store_history=True)
    one.user_ns["tricky"] = Tricky()
    one.user_ns["api_key"] = "not to be told"
    one.run_cell("pass", store_history=True)  # stands for the cell that asks
    return one


def tools_of(shell) -> dict[str, Tool]:
    return {tool.name: tool for tool in kernel.Reading(shell).tools()}


async def test_all_of_them_only_read(shell):
    tools = tools_of(shell)
    assert [*tools] == [
        f"kernel.{name}" for name in ["variables", "inspect", "documentation", "cells", "output"]
    ]
    assert all(tool.reads and tool.beside and tool.description for tool in tools.values())
    assert tools["kernel.inspect"].wire_name == "kernel__inspect"
    check_names([*tools.values()])


async def test_variables_are_listed_and_secrets_stay(shell):
    said = await called(tools_of(shell)["kernel.variables"])
    assert "data: list, 5 items" in said
    assert "api_key: str, not shown" in said
    assert "not to be told" not in said


async def test_a_look_at_a_name_runs_nothing(shell):
    look, tricky = tools_of(shell)["kernel.inspect"], shell.user_ns["tricky"]
    assert "int = 1" in await called(look, name="tricky.plain")
    assert "only running code" in await called(look, name="tricky.computed")
    for name in ("tricky.missing", "tricky.method()", "data[0]", "__import__('os').system('x')"):
        with pytest.raises(ValueError, match="No variable named"):
            await called(look, name=name)
    assert tricky.ran == []


async def test_documentation_is_the_signature_and_the_docstring(shell):
    said = await called(tools_of(shell)["kernel.documentation"], name="tricky.method")
    assert said == "tricky.method(self, value: int) -> None\n\nDo something."


async def test_cells_and_outputs_are_told(shell):
    tools = tools_of(shell)
    assert "sum(data)" in await called(tools["kernel.cells"], n=2)
    assert "Out[2]: int = 10" in await called(tools["kernel.output"], n=2)
    with pytest.raises(ValueError, match=r"Cell 7 showed no value\. Cells that did: 2"):
        await called(tools["kernel.output"], n=7)


@pytest.mark.parametrize("arguments", [{}, {"name": 3}, {"name": "a", "other": 1}])
async def test_their_arguments_are_checked(shell, arguments):
    with pytest.raises(ValueError, match=r"name|other"):
        tools_of(shell)["kernel.inspect"].read(arguments)


# -- results


class Figure:
    def _repr_png_(self):
        return base64.b64encode(PNG).decode()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "It returned nothing."),
        ("text", "text"),
        ("", "It returned an empty text."),
        ({"a": [1, True, None]}, '{"a": [1, true, null]}'),
        ((1, 2), "[1, 2]"),
        ("a\x1b[31mred\u202e", "a[31mred"),
    ],
)
def test_a_result_is_told_as_text(value, said):
    assert results.parts_of(value) == (TextPart(said),)


@pytest.mark.parametrize("value", [PNG, Figure(), (ImagePart.of_bytes(PNG, "image/png"),)])
def test_pictures_are_pictures(value):
    [part] = results.parts_of(value)
    assert part.url.startswith("data:image/png;base64,iVBOR")


def test_what_only_says_that_it_is_a_picture_is_none():
    class Liar:
        def _repr_png_(self):
            return b"<svg onload=alert(1)>"

    [part] = results.parts_of(Liar())
    assert isinstance(part, TextPart)
    assert "svg" not in part.text


def test_a_long_result_is_cut_and_says_so():
    [part] = results.parts_of("a" * 100_000 + "b" * 100_000)
    assert len(part.text) < results.MAX_RESULT + 100
    assert "150,000 characters are left out here" in part.text
    assert part.text.startswith("aaa")
    assert part.text.endswith("bbb")


def test_loading_them_imports_no_pydantic_before_a_function_is_given():
    source = inspect.getsource(functions) + inspect.getsource(schemas)
    assert "\nimport pydantic" not in source
    assert "\nfrom pydantic" not in source
