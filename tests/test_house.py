"""The house: who may import whom, what loading costs, which names are public."""

import ast
import functools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ipychat
from ipychat import providers

PACKAGE = Path(ipychat.__file__).parent
NAMED = r"ipychat(\.\w+)+(:\w+)?"
SHARED = {"providers", "providers.provider", "providers.presets"}
ROOMS = [
    ("_lazy, requirements", "what is imported on use, and its lowest versions", "knowing of rooms"),
    ("secrets, text", "what becomes of text: safe characters, HTML, tables, values of a schema, near misses; "
     "what is known to be secret, and what only looks so", "knowing what it is about"),
    ("errors, messages, config", "the error tree; frozen values; every setting", "I/O"),
    ("store", "files, credentials, transcripts, kept answers, replay, ledger", "the network"),
    ("wire", "bytes: HTTP, event streams, NDJSON, rate limits, work off the loop, allowed hosts",
     "meaning"),
    ("providers", "the contract, presets, one file a protocol",
     "the notebook, conversations, names of models that a user wrote"),
    ("local", "what runs on this machine: servers, the engine and its weights",
     "downloading unasked"),
    ("context", "what of the notebook goes along: values, cells, failures, files, the repository",
     "sending"),
    ("helper", "what answers where there is no model: little, and true", "guessing"),
    ("catalog", "names → one route: who, where, with which key, at what price; receipts, firewall",
     "asking"),
    ("chat", "a question and its answer: turns, conversations, records, races", "HTML"),
    ("batch", "many prompts: rows, pace, budget, workers", "a second way to ask"),
    ("kernel", "the notebook's loop: native await, interrupt, stop, background",
     "knowing of models"),
    ("gateway", "the services' server side over any model", "trusting a client"),
    ("audit", "a command: secrets in notebooks and files", "reading what it need not"),
    ("display", "events → what a cell, a panel or a terminal shows", "deciding what is sent"),
    ("magics", "flags, settings, completion", "deciding what is sent"),
    ("", "the public names, found on use", "anything else"),
]  # fmt: skip
"""From the ground up: a room imports only from rows above its own. CONTRIBUTING.md shows it."""
ROW_OF = {room: number for number, (rooms, *_) in enumerate(ROOMS) for room in rooms.split(", ")}


def room(module: str) -> str:
    """The room of the house that a module, named without the package, belongs to."""
    return module.partition(".")[0]


@functools.cache
def modules() -> dict[str, Path]:
    names = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


@functools.cache
def imports(module: str) -> set[str]:
    """The modules of the package that one names: wherever in it, for types, and in strings."""
    found = set()
    for node in ast.walk(ast.parse(modules()[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: imports are absolute"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {
                name if name.removeprefix("ipychat.") in modules() else node.module
                for name in names
            }
        elif isinstance(node, ast.Constant) and re.fullmatch(NAMED, str(node.value)):
            name = node.value.partition(":")[0]
            found |= {name} if name.removeprefix("ipychat.") in modules() else set()
    ours = (name for name in found if name.split(".")[0] == "ipychat")
    return {name.removeprefix("ipychat").lstrip(".") for name in ours} - {module}


def circle(module: str) -> list[str]:
    """The way from a module back to itself by what it names; empty where there is none."""
    ways = [[module]]
    seen = set()
    for way in ways:
        for other in imports(way[-1]):
            if other == module:
                return [*way, module]
            if other not in seen:
                seen.add(other)
                ways.append([*way, other])
    return []


@pytest.mark.parametrize("module", [name for name in modules() if name])
def test_a_module_imports_only_from_rows_above_its_own(module):
    mine = room(module)
    assert mine in ROW_OF, f"{module} has no place in the house"
    for other in imports(module):
        theirs = room(other)
        assert theirs == mine or ROW_OF[theirs] <= ROW_OF[mine], f"{module} names {other}"


def test_no_module_leads_back_to_itself():
    assert [way for way in map(circle, filter(None, modules())) if way] == []


def test_services_share_private_modules_only():
    for module in modules():
        if re.fullmatch(r"providers\.[a-z]\w+", module) and module not in SHARED:
            others = {one for one in imports(module) if room(one) == "providers"} - SHARED
            assert all(one.startswith("providers._") for one in others), (module, others)


def test_at_most_eight_modules_stand_loose():
    assert len([*PACKAGE.glob("*.py")]) <= 8


def test_the_map_is_the_one_in_contributing():
    rows = "".join(
        f"| {', '.join(f'`{one}`' for one in rooms.split(', ')) if rooms else '`__init__`'} "
        f"| {holds} | {refuses} |\n"
        for rooms, holds, refuses in ROOMS
    )
    assert rows in (PACKAGE.parent / "CONTRIBUTING.md").read_text()


def in_a_new_interpreter(code: str):
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    return json.loads(run.stdout)


@pytest.mark.heavy
def test_importing_the_package_imports_nothing_heavy():
    loaded = in_a_new_interpreter(
        "import IPython, sys, json; before = set(sys.modules); import ipychat;"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    assert loaded == ["ipychat", "ipychat._lazy"]


@pytest.mark.heavy
def test_loading_the_extension_imports_the_magics_and_no_more():
    loaded = in_a_new_interpreter(
        "import sys, json; from IPython.core.interactiveshell import InteractiveShell;"
        "InteractiveShell.instance().run_line_magic('load_ext', 'ipychat');"
        "print(json.dumps([one for one in sys.modules if one.startswith('ipychat')]))"
    )
    rooms = {name.partition(".")[2].partition(".")[0] for name in loaded}
    assert rooms <= {"", "_lazy", "chat", "config", "errors", "kernel", "magics", "secrets", "text"}
    assert {name for name in loaded if name.startswith(("ipychat.chat.", "ipychat.text."))} <= {
        "ipychat.chat.waiting", "ipychat.text.characters", "ipychat.text.words"
    }  # fmt: skip


@pytest.mark.heavy
def test_looking_at_what_is_offered_does_not_import_the_http_client():
    loaded = in_a_new_interpreter(
        "import sys, json; from ipychat.catalog import offers; offers.offers();"
        "print(json.dumps(sorted(sys.modules)))"
    )
    assert {"aiohttp", "bs4", "ipywidgets", "filelock", "markdown_it"}.isdisjoint(loaded)


@pytest.mark.parametrize("package", [ipychat, providers])
def test_the_public_names_can_all_be_imported_and_are_the_ones_type_checkers_see(package):
    for name in package.__all__:
        assert getattr(package, name) is not None
    source = Path(package.__file__).read_text()
    block = source.split("if TYPE_CHECKING:")[1].split("_HOMES = ")[0]
    assert set(re.findall(r"as (\w+)", block)) == set(package.__all__)
    assert set(package.__all__) <= set(dir(package))


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        ipychat.nonsense  # noqa: B018 - looking it up is the test


def test_every_module_says_what_it_holds():
    for name, path in modules().items():
        assert ast.get_docstring(ast.parse(path.read_text())), name


def test_the_error_tree_in_the_docstring_is_the_one_in_the_code():
    from ipychat import errors

    drawn = re.findall(r"^[\s│├└─]*(\w+Error)\b", errors.__doc__, re.MULTILINE)
    defined = [
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.ChatError)
    ]
    assert drawn == defined
