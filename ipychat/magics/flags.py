"""The line of a magic: its flags, parsed once, and the prompt behind them as it was written."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ipychat.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from IPython.core.magic_arguments import MagicArgumentParser

EXPRESSION = r"(?s)\{\{.*?\}\}+"
HOLE = "\0"
QUOTES = ('"', "'")
HELP = {"-h", "--help"}
FLAG = r"(--[A-Za-z][\w-]*|-[A-Za-z])(?=[\s=]|$)"


def flag(*names: str, **how: Any) -> Callable[[Any], Any]:
    """Give a magic a flag, as argparse describes it; its help then lists the flags.

    The parser is made when it is first wanted: that costs milliseconds which loading must not.
    """
    return _declared((names, how))


def heading(title: str) -> Callable[[Any], Any]:
    """Give the flags below it a heading in the magic's help."""
    return _declared(((), {"title": title}))


def _declared(entry: tuple[tuple[str, ...], dict[str, Any]]) -> Callable[[Any], Any]:
    def declare(magic: Any) -> Any:
        if not hasattr(magic, "flags"):
            magic.flags = []
            magic.getdoc = lambda: parser_of(magic).format_help()  # what `%%chat?` asks for
        magic.flags.insert(0, entry)  # decorators run from the last to the first
        return magic

    return declare


def parser_of(magic: Any) -> MagicArgumentParser:
    """Return the parser of a magic's flags, made on first use."""
    function = getattr(magic, "__func__", magic)
    if not hasattr(function, "parser"):
        import argparse
        import inspect

        from IPython.core.magic_arguments import MagicArgumentParser

        text = inspect.cleandoc(function.__doc__ or "")
        name = f"%{function.__name__}"
        # its examples say more than a line with thirty flags
        parser = MagicArgumentParser(name, usage=argparse.SUPPRESS, description=text)
        group: Any = parser.add_argument_group("Flags")
        for names, how in getattr(function, "flags", ()):
            if names:
                group.add_argument(*names, **how)
            else:
                group = parser.add_argument_group(**how)
        function.parser = parser
    made: MagicArgumentParser = function.parser
    return made


def parse(magic: Any, line: str, expand: Callable[[str], str]) -> tuple[argparse.Namespace, str]:
    """Return the flags and the text behind the last of them, untouched.

    A flag's value may be quoted, may stand behind `=`, and its `{{expressions}}` are expanded.
    From the first word that is neither a flag nor a value all is text; `--` begins it too.
    Raises UsageError that names the flag.
    """
    parser = parser_of(magic)
    words, rest = _take_flags(parser, line.strip(), expand)
    if rest == "--" or rest.startswith("-- "):
        rest = rest[2:].lstrip()
    return _parsed(parser, words), rest


def parse_words(
    magic: Any, line: str, expand: Callable[[str], str]
) -> tuple[argparse.Namespace, list[str]]:
    """Return the flags and the other words, in any order; for magics that take no prompt."""
    parser = parser_of(magic)
    flags: list[str] = []
    others: list[str] = []
    rest = line.strip()
    while rest:
        words, rest = _take_flags(parser, rest, expand)
        flags += words
        if rest:
            other, rest = _value(rest, "")
            others.append(expand(other))
            rest = rest.lstrip()
    return _parsed(parser, flags), others


def _parsed(parser: MagicArgumentParser, words: list[str]) -> argparse.Namespace:
    try:
        return parser.parse_args(words)
    except Exception as error:  # noqa: BLE001 - IPython's parser raises its own UsageError
        raise UsageError(str(error)) from None


def _take_flags(
    parser: MagicArgumentParser, rest: str, expand: Callable[[str], str]
) -> tuple[list[str], str]:
    """Return the flags that `rest` begins with, as words for argparse, and the text behind them."""
    known = parser._option_string_actions  # noqa: SLF001 - argparse has no public way to ask
    taken: list[str] = []
    while match := re.match(FLAG, rest):
        flag = match[0]
        if flag not in known:
            from ipychat.text import words

            near = "" if flag in HELP else words.near(flag, known, 1)
            behind = "A prompt that begins like a flag stands behind --."
            hint = near or f" {parser.prog}? shows all flags. {behind}"
            raise UsageError(f"There is no flag {flag}.{hint}")
        rest = rest[match.end() :]
        taken.append(flag)
        if known[flag].nargs != 0:
            rest = rest.removeprefix("=").lstrip()
            value, rest = _value(rest, flag)
            taken[-1] = f"{flag}={expand(value)}" if flag.startswith("--") else flag
            if not flag.startswith("--"):
                taken.append(expand(value))
        rest = rest.lstrip()
    return taken, rest


def _value(text: str, flag: str) -> tuple[str, str]:
    """Cut a flag's value off the text behind it: quoted, with `{{…}}` in it, or up to a blank."""
    if not text:
        raise UsageError(f"The flag {flag} needs a value.")
    depth = 0
    quote = ""
    for at, sign in enumerate(text):
        if text.startswith("{{", at):
            depth += 1
        elif text.startswith("}}", at - 1) and at and depth:
            depth -= 1
        elif depth:
            continue
        elif quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        elif sign.isspace():
            return _unquoted(text[:at], flag), text[at:]
    if quote:
        raise UsageError(f"A quote is not closed in: {flag} {text}")
    return _unquoted(text, flag), ""


def _unquoted(value: str, flag: str) -> str:
    """Take the quotes away that are the shell's; what stands in `{{…}}` stays as it is."""
    import shlex

    expressions: list[str] = re.findall(EXPRESSION, value)
    try:
        bare = "".join(shlex.split(re.sub(EXPRESSION, HOLE, value)))
    except ValueError as error:
        raise UsageError(f"Can't read {flag} {value}: {error}.") from None
    for expression in expressions:
        bare = bare.replace(HOLE, expression, 1)
    return bare


def unquoted(line: str) -> str:
    """Return the name that a line consists of, quoted or not."""
    line = line.strip()
    return _unquoted(line, "") if line[:1] in QUOTES and line[:1] == line[-1:] else line


def parse_options(given: list[str]) -> dict[str, Any]:
    """Turn `NAME=VALUE` texts into options; a value that is JSON becomes what it stands for."""
    return dict(_parse_option(one) for one in given)


def _parse_option(text: str) -> tuple[str, Any]:
    import json

    name, equals, value = text.partition("=")
    if not (equals and name.isidentifier()):
        raise UsageError(f"--option wants NAME=VALUE, not {text!r}.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def at_least(least: float, kind: type[float] = float) -> Callable[[str], float]:
    """Return a parser for a flag's number of at least `least`, whole if `kind` is int."""

    def read(text: str) -> float:
        import argparse
        import math

        with contextlib.suppress(ValueError):
            value = kind(text)
            if value >= least and math.isfinite(value):
                return value
        what = "a whole number" if kind is int else "a number"
        raise argparse.ArgumentTypeError(f"wants {what} from {least:g} up, not {text!r}")

    return read


def flag_names(magic: Any) -> Iterator[str]:
    """Give every flag that the magic knows."""
    if hasattr(magic, "flags"):
        yield from parser_of(magic)._option_string_actions  # noqa: SLF001 - as above


def options_of(flags: argparse.Namespace) -> dict[str, Any]:
    """Return the provider options that the flags set."""
    return {
        "effort": flags.effort,
        "temperature": flags.temperature,
        "max_tokens": flags.max_tokens,
        "timeout": flags.timeout,
        "proxy": flags.proxy,
        "cached": flags.cached or None,
        "allow_secrets": flags.allow_secrets or None,
        "large": flags.large or None,
        "tools": [one for several in flags.tools for one in several.split(",") if one] or None,
        "approve": flags.approve,
        "max_steps": flags.max_steps,
        "max_cost": None if flags.each else flags.max_cost,  # of all rows together
        "extra": parse_options(flags.option) or None,
    }
