"""The reference, read off the code: `python docs/reference.py` writes `docs/reference/` anew.

It also puts each file that a page shows below its name, `<!-- path -->`, as it is now. A test
compares all of it with what is there.
"""

import argparse
import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import ipychat
from ipychat import errors, messages, secrets
from ipychat.catalog import registry, resolve
from ipychat.magics import CLASSES, flags
from ipychat.magics.settings import IPyChat

DOCS = Path(__file__).parent
ROOT = DOCS.parent
MADE = "<!-- made by docs/reference.py, from the code -->"
SHOWN = r"<!-- (?P<path>[\w./-]+) -->\n```(?P<language>\w+)\n.*?^```$"
"""A file that a page shows as it is."""

COMMANDS = ("gateway.__main__", "local.__main__", "audit")
RETURNED = (
    *(
        "chat.conversations.Conversation",
        "chat.race.Comparison",
        "chat.race.Result",
        "batch.results.Results",
    ),
    *("batch.results.Row", "catalog.offers.Models", "catalog.offers.Offer", "messages.ModelId"),
    *("display.panel.Panel", "display.picker.ModelPicker"),
)
"""What the public functions give back."""
WIDTH = 100
"""Characters of a line of code, as everywhere in the project."""
INNER = {"begin", "question", "adopt", "changed", "to_record", "of_record", "row"}
"""Methods that are there for other modules."""

VARIABLES = {
    "IPYCHAT_MODEL": "who answers where no model is named",
    "IPYCHAT_SERVERS": "`off`: servers on this machine are not looked for",
    "IPYCHAT_HOME": "the folder for all that is kept on disk; else `ipychat` in your platform's folder for user data",
    "IPYCHAT_REPLAY": "`off`, `auto`, `refresh` or `replay`: [whether answers that are kept are looked up](../replay.md)",
    "IPYCHAT_CASSETTE": "the folder beside the notebook where its answers are kept; `1` and `true`: `__chat__`",
    "IPYCHAT_GATEWAY_KEY": "the path of [a gateway](../gateway.md) that other machines can reach",
    "HF_ENDPOINT": "a mirror to fetch weights from",
    "XDG_DATA_HOME": "on Linux the folder for user data, where `IPYCHAT_HOME` says no other",
    "JPY_SESSION_NAME": "the notebook's path, which Jupyter sets: whose conversations these are",
    "JUPYTERHUB_*": "where JupyterHub sets any, a server on the machine is asked only by name",
    "HTTP_PROXY": "the proxy for requests to `http:`; never for this machine",
    "HTTPS_PROXY": "the same for `https:`",
    "ALL_PROXY": "the same for both; `socks5://…` needs the extra `socks`",
    "NO_PROXY": "hosts that are reached without a proxy",
    "SSL_CERT_FILE": "a file of certificates to trust, as OpenSSL reads it",
    "SSL_CERT_DIR": "a folder of them",
    "REQUESTS_CA_BUNDLE": "a file or folder of certificates to trust, where neither of these is set",
    "CURL_CA_BUNDLE": "the same, where that is not set",
    "NO_COLOR": "where it is set, a terminal shows answers without styles",
    "TERM": "where it is `dumb`, the same",
}
"""What of the environment is read, but for the providers' own, which the code lists itself."""


def pages() -> dict[str, str]:
    """Return the text of each page of the reference, by its name."""
    return {
        "magics.md": magics(),
        "settings.md": settings(),
        "python.md": python(),
        "errors.md": tree_of_errors(),
        "providers.md": providers(),
        "environment.md": environment(),
    }


def page(title: str, *sections: str) -> str:
    return "\n\n".join(filter(None, [f"# {title}", MADE, *sections])) + "\n"


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table of Markdown; in code, a bar stands by itself."""
    rows = [[" ".join(cell.split()).replace("|", r"\|") for cell in row] for row in rows]
    lines = [list(heads), ["---"] * len(list(heads)), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def prose(text: str | None) -> str:
    """Return a docstring, which is Markdown, without its indentation."""
    return inspect.cleandoc(text or "")


def plain(text: str | None) -> str:
    """Return a help text, which is no Markdown, as such."""
    return re.sub(r"(`[^`]*`)|([*_<[])", lambda at: at[1] or "\\" + at[2], text or "")


def code(text: object) -> str:
    return f"`{text}`" if str(text) else ""


# -- magics, commands, settings


def all_magics() -> dict[str, Any]:
    """Return every magic by its name, as the classes have them."""
    found = {}
    for home in CLASSES:
        module, _, name = home.partition(".")
        cls = getattr(import_module(f"ipychat.magics.{module}"), name)
        found |= {one: getattr(cls, one) for one in vars(cls) if one in cls.magics["line"]}
    return found


def magics() -> str:
    shown = []
    for name, magic in all_magics().items():
        shown += [f"## `%%{name}`, `%{name}`" if name == "chat" else f"## `%{name}`"]
        shown += [prose(magic.__doc__)]
        if hasattr(magic, "flags"):
            shown += [arguments(flags.parser_of(magic))]
    for module in COMMANDS:
        parser = import_module(f"ipychat.{module}").parser()
        shown += [f"## `{parser.prog}`", parser.description, arguments(parser)]
    return page(
        "Magics and commands",
        "A value may be quoted, and stand behind `=`; `{{expressions}}` in it are replaced by their values. "
        "In a notebook, `%%chat?` and `%chat_models?` show the same.",
        *shown,
    )


def arguments(parser: argparse.ArgumentParser) -> str:
    """Return a table of each group of flags; argparse's own groups are all one."""
    own = [group for group in parser._action_groups[2:] if group._group_actions]
    if len(own) < 2:
        return table(["flag", "value", "what"], described(parser._actions))
    heads = ["flag", "value", "what"]
    tables = (f"{one.title}:\n\n{table(heads, described(one._group_actions))}" for one in own)
    return "\n\n".join(tables)


def described(actions: list[argparse.Action]) -> Iterator[tuple[str, str, str]]:
    for action in actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in action._choices_actions:
                yield code(one.dest), "", plain(one.help)
        elif not isinstance(action, argparse._HelpAction):
            names = ", ".join(map(code, action.option_strings or [action.dest]))
            value = action.metavar or "|".join(action.choices or [action.dest.upper()])
            wants = action.nargs != 0 and action.option_strings
            yield names, code(value if wants else ""), plain(action.help)


def settings() -> str:
    rows = (
        (code(f"IPyChat.{name}"), code(repr(trait.default())), plain(trait.help))
        for name, trait in IPyChat.class_own_traits(config=True).items()
    )
    return page(
        "Settings",
        '`%config IPyChat` lists them, `%config IPyChat.model = "anthropic"` sets one for the notebook; '
        "`c.IPyChat.model = …` in IPython's configuration file sets it for all. A flag of a cell comes first.",
        table(["setting", "default", "what"], rows),
    )


# -- Python


def python() -> str:
    shown: dict[str, list[str]] = {"Functions": [], "Values": [], "Events": [], "Modules": []}
    events = get_args(messages.Event)
    for name in ipychat.__all__:
        value = getattr(ipychat, name)
        if inspect.ismodule(value):
            listed = ", ".join(map(code, getattr(value, "__all__", ())))
            shown["Modules"] += [f"### `ipychat.{name}`", prose(value.__doc__), listed]
        elif not inspect.isclass(value):
            shown["Functions"] += [function(value, "ipychat.")]
        elif value is not errors.ChatError:  # it has a page of its own
            shown["Events" if value in events else "Values"] += [in_class(value, "ipychat.")]
    shown["What they return"] = [in_class(found(name)) for name in RETURNED]
    shown["Events"].insert(
        0,
        "What `ipychat.events` gives, and what a provider may yield. `FinishReason` comes once and last.",
    )
    return page(
        "Python",
        "`ipychat.ChatError` and all below it are in [Errors](errors.md).",
        *(part for title, parts in shown.items() for part in (f"## {title}", *parts)),
    )


def found(name: str) -> Any:
    module, _, cls = name.rpartition(".")
    return getattr(import_module(f"ipychat.{module}"), cls)


def tree(value: Any) -> Any:
    """Return the syntax tree of a function or class."""
    return ast.parse(textwrap.dedent(inspect.getsource(value))).body[0]


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Return what a function takes, as it is written."""
    given = re.split(r", (?![^\[(]*[\])])", ast.unparse(node.args))
    return [re.sub(r"(?<=[\w\]])=", " = ", one).replace("'", '"') for one in given if one]


def returned(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return f" -> {ast.unparse(node.returns)}" if node.returns else ""


def function(value: Any, before: str) -> str:
    node = tree(value)
    given, kind = parameters(node), "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    called = f"{kind} {node.name}({', '.join(given)}){returned(node)}: ..."
    if len(called) > WIDTH:
        lines = "".join(f"    {one},\n" for one in given)
        called = f"{kind} {node.name}(\n{lines}){returned(node)}: ..."
    return f"### `{before}{node.name}`\n\n```python\n{called}\n```\n\n{prose(value.__doc__)}"


def method(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """Return how a method is called, without what it is called on."""
    given = [one for one in parameters(node) if one not in {"self", "cls"}]
    waits = "await " * isinstance(node, ast.AsyncFunctionDef)
    return f"{waits}{node.name}({', '.join(given)}){returned(node)}"


def in_class(cls: type, before: str = "") -> str:
    """Return what a class is, and all of it that has a meaning to its user."""
    rows = [(code(name), code(kind), what) for name, kind, what in members(tree(cls))]
    shown = [f"### `{before}{cls.__name__}`", prose(cls.__doc__)]
    return "\n\n".join([*shown, *([table(["name", "type", "what"], rows)] if rows else [])])


def members(node: ast.ClassDef) -> Iterator[tuple[str, str, str]]:
    """Give the fields with the text below each, the properties, and the methods."""
    inits = [one.body for one in node.body if getattr(one, "name", "") == "__init__"]
    for body in (node.body, *inits):
        yield from said_in(body)


def said_in(body: list[ast.stmt]) -> Iterator[tuple[str, str, str]]:
    for one, below in zip(body, [*body[1:], None], strict=True):
        match one:
            case ast.AnnAssign(target=ast.Name(id=name)) if name[0] != "_":
                yield name, ast.unparse(one.annotation), text_of(below)
            case ast.Assign(targets=[ast.Name(id=name) | ast.Attribute(attr=name)]):
                if name[0] != "_" and text_of(below):
                    yield name, "", text_of(below)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                if name[0] == "_" or name in INNER:
                    continue
                decorated = {ast.unparse(by) for by in one.decorator_list}
                said = ast.get_docstring(one) or ""
                if "property" in decorated:
                    yield name, returned(one).removeprefix(" -> "), said
                elif not any(by.endswith(".setter") for by in decorated):
                    yield method(one), "", said


def text_of(node: ast.AST | None) -> str:
    match node:
        case ast.Expr(value=ast.Constant(value=str(text))):
            return text
    return ""


def tree_of_errors() -> str:
    _, drawn, rest = re.split(r"\n\n(?=    ChatError)|\n\n(?=\S)", errors.__doc__ or "")
    rows = [
        (code(name), prose(cls.__doc__), code(cls.__base__.__name__))
        for name, cls in vars(errors).items()
        if inspect.isclass(cls) and issubclass(cls, errors.ChatError)
    ]
    return page(
        "Errors",
        f"```text\n{textwrap.dedent(drawn)}\n```",
        prose(rest),
        "All are in `ipychat.errors`; `except ipychat.ChatError` catches every one of them.",
        table(["error", "what", "below"], rows),
        "## What they carry",
        in_class(errors.ChatError, "ipychat."),
        in_class(errors.ServiceError, "ipychat.errors."),
    )


# -- providers and the environment


def all_providers() -> dict[str, Any]:
    """Return every provider of the package: first those whose keys count, in their order."""
    names = dict.fromkeys(
        [*resolve.PROVIDER_OF_KEY.values(), *registry.PRESETS, *registry.BUILT_IN]
    )
    return {name: registry.load(name) for name in names}


def providers() -> str:
    rows = []
    for name, cls in all_providers().items():
        keys = " or ".join(map(code, getattr(cls, "key_variables", ())))
        urls = " or ".join(map(code, cls.url_variables))
        rows.append((code(name), keys, code(cls.default_model), code(cls.base_url), urls))
    return page(
        "Providers",
        "[Providers, keys and limits](../providers.md) tells how they are used. Where no model is named, the "
        "first one answers whose key is in the environment, in this order. `%config IPyChat.urls` gives each of them "
        "another address, `%chat_models` lists the models.",
        table(["provider", "key", "default model", "address", "another address"], rows),
        "RobocodersAPI, AutonomousAI and Koala are offline at their addresses: in a notebook, "
        "[the gateway](../gateway.md) answers for them.",
    )


def variables() -> dict[str, str]:
    """Return every variable of the environment that is read, and what it says."""
    known = dict(VARIABLES)
    for cls in all_providers().values():
        known |= dict.fromkeys(getattr(cls, "key_variables", ()), f"the key of {cls.label}")
        known |= dict.fromkeys(
            cls.url_variables, f"where {cls.label} is, in place of its own address"
        )
    return known


def environment() -> str:
    rows = ((code(name), what) for name, what in variables().items())
    return page(
        "Environment",
        "A key goes to the address that the environment gives its service, else to the service's own, "
        "and nowhere else.",
        table(["variable", "what"], rows),
        "The usual proxy variables may be written in small letters, too. Besides, the values of variables whose "
        f"names look like a secret's, of {secrets.MIN_LENGTH} characters or more, are "
        "[masked](../privacy.md#secrets) in what is sent, shown and kept.",
    )


# -- writing


def with_files(text: str) -> str:
    """Return a page's text with each file that it shows as that is now."""

    def shown(at: re.Match[str]) -> str:
        content = (ROOT / at["path"]).read_text()
        return f"<!-- {at['path']} -->\n```{at['language']}\n{content}```"

    return re.sub(SHOWN, shown, text, flags=re.DOTALL | re.MULTILINE)


def main() -> None:
    """Write all that has changed."""
    for name, text in pages().items():
        (DOCS / "reference" / name).write_text(text)
    for path in DOCS.glob("*.md"):
        path.write_text(with_files(path.read_text()))


if __name__ == "__main__":
    sys.exit(main())
