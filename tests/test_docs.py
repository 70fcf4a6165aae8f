"""The documentation: what it claims and a command can check is true; the site builds whole."""

import ast
import builtins
import functools
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
from markdown_it import MarkdownIt
from nbclient import NotebookClient
from traitlets.config import Config

import ipychat
from ipychat import errors, requirements
from ipychat.batch.results import Results
from ipychat.catalog import registry
from ipychat.chat.conversations import Conversation
from ipychat.magics import flags
from ipychat.magics.settings import IPyChat
from tests.kernels import reached_by_files

ROOT = Path(__file__).parents[1]
PACKAGE = Path(ipychat.__file__).parent
DECISIONS = ROOT / "docs" / "adr"
DOCUMENTS = [
    path
    for pattern in ("*.md", "docs/**/*.md", "notebooks/*.md", "notebooks/*.ipynb")
    for path in sorted(ROOT.glob(pattern))
    if DECISIONS not in path.parents  # they tell of their day
]
VALUES = {"reply": ipychat.Reply, "results": Results, "talk": Conversation}
"""What the examples call what."""
OTHERS_FLAGS = {"--cwd", "--yes"}
"""Of papermill, and what is no flag but a word of `%chat_cassette`."""
MADE_UP_VARIABLES = {"WORK_KEY", "MY_PIN", "AZURE_OPENAI_API_KEY", "LITELLM_KEY", "TEAM_TOKEN"}
MADE_UP_PROVIDERS = {"backwards", "parrot", "work"}
PROMPTS = {"chat", "chat_fix"}
"""Magics that take all behind their flags as it is written."""

spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
reference = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reference)

each_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT))
)


def text_of(document: Path) -> str:
    """A page's text, or what a notebook says between its cells; these run by themselves."""
    if document.suffix == ".ipynb":
        cells = nbformat.read(document, 4).cells
        return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return document.read_text()


@functools.cache
def tokens(document: Path):
    """What a document consists of, that within its paragraphs included."""
    outer = MarkdownIt("commonmark").enable("table").parse(text_of(document))
    return [*outer, *(inner for token in outer for inner in token.children or ())]


def code(document: Path, kinds=("fence", "code_block", "code_inline")) -> list[str]:
    """The lines of all code in a document, without the remarks behind them."""
    blocks = [token.content for token in tokens(document) if token.type in kinds]
    return [re.sub(r"\s{2,}#.*| …$", "", line) for block in blocks for line in block.splitlines()]


def found(document: Path, pattern: str) -> list[str]:
    return [one for line in code(document) for one in re.findall(pattern, line)]


@each_document
def test_python_compiles(document):
    for token in tokens(document):
        if token.type == "fence" and token.info == "python":
            compile(token.content, str(document), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@each_document
def test_magics_exist_and_take_these_flags(document):
    for kind, name, line in found(document, r"^(%%?)(chat\w*)\b\??(.*)"):
        magic = reference.all_magics()[name]
        if name in PROMPTS:
            _, prompt = flags.parse(magic, line, str)
            assert kind == "%" or not prompt, f"%%{name} has its prompt below, not {prompt!r}"
        elif hasattr(magic, "flags"):
            flags.parse_words(magic, line, str)


@each_document
def test_flags_belong_to_a_magic_or_a_command(document):
    known = set(re.findall(r"`(--?[\w-]+)`", reference.magics())) | OTHERS_FLAGS
    assert set(found(document, r"^(--[a-z-]+)")) <= known


@each_document
def test_commands_take_these_arguments(document):
    lines = "\n".join(code(document, ("fence", "code_block")))
    for module, line in re.findall(r"python -m ipychat\.(\w+) (.+)", lines):
        name = f"ipychat.{module}" if module == "audit" else f"ipychat.{module}.__main__"
        import_module(name).parser().parse_args(shlex.split(line))


@each_document
def test_names_of_the_package_exist(document):
    for name in found(document, r"\bipychat\.([a-zA-Z_][\w.]*\w)"):
        value = ipychat
        for part in name.split("."):
            if not hasattr(value, part):
                import_module(f"{value.__name__}.{part}")
            value = getattr(value, part)


@each_document
def test_values_have_what_is_said_of_them(document):
    for name, attribute in found(document, rf"\b({'|'.join(VALUES)})\.([a-z]\w*)"):
        assert hasattr(VALUES[name], attribute), f"{name}.{attribute}"


@each_document
def test_errors_exist(document):
    known = {*vars(errors), *vars(requirements), *vars(builtins)}
    assert set(found(document, r"\b([A-Z][A-Za-z]+Error)\b")) <= known


@each_document
def test_settings_are_traits(document):
    assert set(found(document, r"IPyChat\.(\w+)")) <= set(IPyChat.class_own_traits(config=True))


@each_document
def test_providers_of_models_exist(document):
    named = found(document, r"(?:--model |-m |model=\"|ask\(.*\")([\w-]+):\w")
    assert set(named) <= {*registry.names(), *MADE_UP_PROVIDERS}


@each_document
def test_variables_of_the_environment_are_in_the_table(document):
    named = found(document, r"(?<!\.)\b([A-Z][A-Z0-9]*_[A-Z0-9_]*[A-Z0-9])\b")
    assert set(named) <= reference.variables().keys() | MADE_UP_VARIABLES


@each_document
def test_extras_exist(document):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [one for some in found(document, r"\.\[([\w,]+)\]") for one in some.split(",")]
    assert set(named) <= project["optional-dependencies"].keys()


@each_document
def test_targets_of_make_exist(document):
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert set(found(document, r"^make (?:\w+=\S+ )?([a-z]+)")) <= set(targets)


@pytest.mark.parametrize(
    "document", [*DOCUMENTS, *DECISIONS.glob("*.md")], ids=lambda path: path.name
)
def test_links_lead_to_files_and_headings(document):
    for token in tokens(document):
        target = token.attrs.get("href") or token.attrs.get("src") or "https:"
        if not re.match(r"\w+:", target):
            path, _, anchor = unquote(target).partition("#")
            to = document.parent / path if path else document
            assert to.is_file(), target
            assert not anchor or anchor in headings(to), target


def headings(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", text_of(document), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.heavy
def test_the_table_has_every_variable_that_the_code_reads():
    read, unclear = set(), set()
    for path in PACKAGE.rglob("*.py"):
        name = "ipychat." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for argument in asked_of_the_environment(ast.parse(path.read_text())):
            try:
                read.add(eval(argument, vars(import_module(name.removesuffix(".__init__")))))
            except NameError:
                unclear.add(argument)
    assert unclear == {"variable", "found[1]"}, "those of providers and of the user's headers"
    assert "IPYCHAT_HOME" in read
    assert read <= reference.variables().keys()


def asked_of_the_environment(tree: ast.AST):
    """The arguments of `environ.get(…)`, `environ[…]` and `getenv(…)`."""
    for node in ast.walk(tree):
        match node:
            case (
                ast.Call(func=ast.Attribute(attr="get", value=of), args=[argument, *_])
                | ast.Subscript(value=of, slice=argument)
            ):
                if ast.unparse(of) == "os.environ":
                    yield ast.unparse(argument)
            case ast.Call(func=ast.Attribute(attr="getenv"), args=[argument, *_]):
                yield ast.unparse(argument)


def test_the_reference_is_what_the_code_says():
    for name, text in reference.pages().items():
        written = (ROOT / "docs" / "reference" / name).read_text()
        assert written == text, "python docs/reference.py writes it anew"


@each_document
def test_files_are_shown_as_they_are(document):
    text = text_of(document)
    assert reference.with_files(text) == text, "python docs/reference.py shows them anew"


# -- the site


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built without a single warning."""
    for package in ("sphinx", "myst_nb", "furo"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going"]
    build += ["-c", "docs", "-d", str(folder / "doctrees"), ".", str(folder / "pages")]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "pages"


@pytest.mark.slow("Sphinx runs over every page and notebook")
def test_the_site_has_every_page_and_notebook_in_its_contents(site):
    contents = (site / "docs" / "index.html").read_text()
    for path in DOCUMENTS:
        page = path.relative_to(ROOT).with_suffix(".html")
        assert f'href="{os.path.relpath(page, "docs")}' in contents or page.stem == "index"


@pytest.mark.slow("Sphinx runs over every page and notebook")
def test_a_notebook_is_shown_with_its_saved_outputs(site):
    page = (site / "notebooks" / "quickstart.html").read_text()
    assert "NotFoundError" in page or "ModelNotSupportedError" in page
    assert "desserts" in page


@pytest.mark.slow("Sphinx runs over every page and notebook")
def test_the_site_loads_nothing_from_elsewhere_and_its_links_lead_somewhere(site):
    for path in [*site.rglob("*.html"), *site.rglob("*.css")]:
        text = path.read_text()
        loads = r"<(?:script|img|iframe|source|link)\b[^>]*?\b(?:src|href)=\"([^\"#?]+)|url\(['\"]?([^'\")#?]+)|@import\s+['\"]([^'\"]+)"
        for target in filter(None, (one for some in re.findall(loads, text) for one in some)):
            assert target.startswith("data:") or (path.parent / unquote(target)).is_file(), (
                path,
                target,
            )
        for target in re.findall(r"<a\b[^>]*?\bhref=\"([^\"#?]+)", text):
            leads = re.match(r"\w+:", target) or (path.parent / unquote(target)).is_file()
            assert leads, (path, target)


# -- the tutorial


@pytest.mark.kernel
async def test_the_tutorial_runs_as_it_is_written(tmp_path, monkeypatch):
    for name in reference.variables():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("IPYCHAT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("IPYCHAT_SERVERS", "off")
    blocks = [one for one in tokens(ROOT / "docs" / "tutorial.md") if one.type == "fence"]
    cells = [nbformat.v4.new_code_cell(one.content) for one in blocks if one.info in {"", "python"}]
    notebook = nbformat.v4.new_notebook(cells=cells)
    with reached_by_files() as reached:
        client = NotebookClient(
            notebook,
            allow_errors=True,
            resources={"metadata": {"path": str(tmp_path)}},
            config=Config(KernelManager=reached),
        )
        await client.async_execute()
    failed = {
        cell.source: one.evalue
        for cell in cells
        for one in cell.outputs
        if one.output_type == "error"
    }
    assert list(failed) == ["sum(sales)\n"], failed
    assert all(cell.outputs or "=" in cell.source or "load_ext" in cell.source for cell in cells)
