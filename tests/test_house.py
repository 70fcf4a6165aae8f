"""The house: who may import whom, what loading costs, which names are public."""

import ast
import functools
import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import ipychat
from ipychat import magics, providers

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
    ("local", "what runs on this machine: servers, the engine and its weights, programs and their end",
     "downloading unasked"),
    ("context", "what of the notebook goes along: values, cells, failures, files, the repository",
     "sending"),
    ("helper", "what answers where there is no model: little, and true", "guessing"),
    ("catalog", "names → one route: who, where, with which key, at what price; receipts, firewall",
     "asking"),
    ("toolbox", "what a model may run: schemas of functions, the kernel's own tools, MCP servers, results",
     "deciding for the user"),
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
REMEMBERED = {
    "_lazy": {"_loaded": "modules whose import has ended"},
    "requirements": {"_checked": "packages whose version was checked"},
    "secrets": {
        "_known": "the known secrets, each with its name",
        "_in_bytes": "the same in other encodings",
        "_in_urls": "the same in the base64 of `data:` URLs",
        "_looked_at": "variables of the environment that were looked at",
    },
    "config": {"_current": "the settings in force"},
    "store.credentials": {
        "_logins": "locks of the logins that run, by loop",
        "_unsaved": "credentials that the disk did not take",
        "_from_keyring": "keys that the system's keyring gave",
    },
    "store.files": {"_held": "locks that this process holds"},
    "store.ledger": {
        "_kept": "what was spent, where nothing is kept on disk",
        "_unsaved": "lines that are not written yet",
        "_saving": "the lock of whoever writes them",
        "_timer": "when they will be written",
    },
    "store.replay": {
        "_stood_for": "what each name has stood for",
        "_unsaved": "cassettes whose names are not written yet",
        "_told": "names of which the user was told that they stood for several models",
        "_asked": "hashes of what was asked, by cassette",
    },
    "wire.certificates": {"_made": "TLS contexts, which take 10 ms each to make"},
    "wire.http": {"_clients": "sessions and their connections, by loop"},
    "wire.limits": {"_seen": "rate limits that services told, by host"},
    "toolbox.decisions": {"_until_the_end": "what the user always allows until the kernel ends"},
    "wire.policy": {"_own": "addresses of ipychat's own servers"},
    "providers._keyed": {"_printed": "keys that the user's commands have printed"},
    "providers.ollama": {"_sizes": "contexts of models that are loaded there"},
    "local.children": {"_children": "programs that may still run, to be ended with ours"},
    "local.engine": {
        "_engines": "engines that run, or start",
        "_processes": "their processes, to be ended with ours",
        "_lock": "the lock of whoever starts one",
    },
    "local.servers": {
        "_last": "servers that were found, and when",
        "_search": "the search that runs",
    },
    "catalog.lists": {"_not_before": "when a list that failed is asked for again"},
    "catalog.offers": {"_index": "bare names → who offers them"},
    "catalog.registry": {
        "_registered": "providers that the user registered",
        "_found": "addresses of servers that were found",
    },
    "toolbox.mcp": {"_running": "MCP servers that run, or start, by loop"},
    "toolbox.nested": {"_run": "the run whose code is running, by context"},
    "toolbox.running": {"_turns": "whose code runs now, by loop"},
    "chat.conversations": {"_live": "the conversations, by notebook and name"},
    "chat.journal": {"_left": "records that wait for a lock"},
    "chat.waiting": {"_waiting": "tasks that wait for an answer"},
    "batch.cluster": {"_held": "on a worker of a cluster: the secret options of its runs"},
    "kernel.blocking": {"_finishing": "what still ends on the loop"},
    "kernel.run": {
        "_in_front": "answers that hold their cell",
        "_before": "the handler of interrupts that was there before ours",
    },
    "gateway.replies": {"_reading": "bytes of requests that are being read"},
    "gateway.server": {"_running": "the gateway, by loop"},
    "display.cards": {
        "_pages": "the pages that could show a card",
        "_waiting": "calls that wait for the user",
    },
    "display.cell": {"_loaded": "lexers that are imported"},
    "display.dock": {"_docks": "the sides that are open, by page"},
    "display.panel": {"_open": "the panels", "_numbers": "the number of the next one"},
    "magics": {"_loaded": "what loading put into which shell"},
}
"""All that a process remembers of what happened, by module. Caches of pure functions are not here."""
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


@pytest.mark.parametrize("home", magics.CLASSES)
def test_every_magic_stands_in_the_table_by_which_it_is_imported(home):
    module, _, name = home.partition(".")
    found = getattr(import_module(f"ipychat.magics.{module}"), name).magics
    assert set(found["line"]) == set(magics.CLASSES[home])
    assert set(found["cell"]) == magics.CELL_MAGICS & set(magics.CLASSES[home])


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


def remembered(module: str) -> set[str]:
    """The module's names whose values change: those in small letters that are no function."""
    names = set()
    for node in ast.parse(modules()[module].read_text()).body:
        match node:
            case ast.AnnAssign(target=ast.Name(name)) | ast.Assign(targets=[ast.Name(name)]):
                names.add(name)
    return {name for name in names if name.islower() and not name.startswith("__")}


def test_what_a_process_remembers_stands_in_one_table():
    found = {module: names for module in modules() if (names := remembered(module))}
    found["secrets"].discard("log")  # the logger
    assert found == {module: set(names) for module, names in REMEMBERED.items()}


def test_that_table_is_the_one_in_contributing():
    rows = "".join(
        f"| `{module}` | {'; '.join(names.values())} |\n" for module, names in REMEMBERED.items()
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
    assert rooms <= {"", "_lazy", "chat", "config", "errors", "kernel", "magics", "secrets", "text",
                     "toolbox"}  # fmt: skip
    few = ("ipychat.chat.", "ipychat.text.", "ipychat.toolbox.")
    assert {name for name in loaded if name.startswith(few)} <= {
        "ipychat.chat.waiting", "ipychat.text.characters", "ipychat.text.words",
        "ipychat.toolbox.nested"
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
