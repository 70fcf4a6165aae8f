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
ROWS = [
    ["_lazy", "characters", "presets", "requirements", "secrets"],
    ["markup", "shapes"],
    ["errors"],
    ["messages", "config", "store.files", "waiting"],
    ["policy", "firewall"],
    ["wire"],
    ["store.credentials", "store.transcripts", "store.answers"],
    ["provider", "ledger", "replay"],
    ["providers"],
    ["cards", "registry"],
    ["local"],
    ["catalog", "login"],
    ["route"],
    ["answer"],
    ["turns"],
    ["conversations", "context", "batch"],
    ["kernel"],
    ["gateway"],
    ["display"],
    ["race"],
    ["settings", "audit"],
    ["magics"],
    [""],  # the package itself, whose names are found on use
]
ROW_OF = {room: number for number, row in enumerate(ROWS) for room in row}
FOLDERS_OF_ONE_SERVICE_A_FILE = {"providers"}
"""Where siblings share private modules only."""


def room(module: str) -> str:
    """The room of the house that a module, named without the package, belongs to."""
    while module not in ROW_OF and "." in module:
        module = module.rpartition(".")[0]
    return module


@functools.cache
def modules() -> dict[str, Path]:
    names = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def imports(path: Path) -> set[str]:
    """The modules of the package that a file imports, wherever in it; those for types aside."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {
                name if name.removeprefix("ipychat.") in modules() else node.module
                for name in names
            }
    return {
        name.removeprefix("ipychat").lstrip(".")
        for name in found
        if name.split(".")[0] == "ipychat"
    }


@pytest.mark.parametrize("module", [name for name in modules() if name])
def test_a_module_imports_only_from_rows_above_its_own(module):
    mine = room(module)
    assert mine in ROW_OF or mine == "store", f"{module} has no place in the house"
    for other in imports(modules()[module]):
        theirs = room(other)
        if theirs == mine:
            if mine in FOLDERS_OF_ONE_SERVICE_A_FILE:
                assert other.rpartition(".")[2].startswith("_") or other == mine, (module, other)
            continue
        assert ROW_OF[theirs] < ROW_OF[mine], f"{module} imports {other}"


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
    assert rooms <= {
        "", "_lazy", "characters", "config", "errors", "kernel", "magics", "secrets", "settings",
        "waiting",
    }  # fmt: skip


@pytest.mark.heavy
def test_looking_at_what_is_offered_does_not_import_the_http_client():
    loaded = in_a_new_interpreter(
        "import sys, json; from ipychat import catalog; catalog.offers();"
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
