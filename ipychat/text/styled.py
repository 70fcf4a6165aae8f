"""Markdown as styled text for a terminal, while it streams.

What is written to a terminal can't be changed later. So words are held back until the emphasis, the
code or the link around them is closed, lines of code until they are complete, and tables until
their last row. Only styles are added; control characters never get through.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ipychat.secrets import mask
from ipychat.text import markup
from ipychat.text.characters import harmless

if TYPE_CHECKING:
    from markdown_it.token import Token

MAX_HELD = 300
"""Characters that are held back at most."""
MAX_MARKS = 60
"""Marks in held text; with more of them, it is written without styles."""
MAX_UNDECIDED = 100
"""Characters of a line after which its kind must be clear."""
MAX_ROWS = 200
"""Rows of a table; a longer one is written as it came."""
MAX_LEXED = 4_000
"""Characters of a code block; the lines after them are coloured one by one."""
RULE = 40
"""Columns of a thematic break."""

BOLD, DIM, ITALIC, UNDERLINED, STRUCK, CODE = "1", "2", "3", "4", "9", "36"
STYLES = {"strong_open": BOLD, "em_open": ITALIC, "s_open": STRUCK, "link_open": UNDERLINED}

PIECES = re.compile(r"[^\n]{0,200}\n|[^\n]{1,200}")
"""Lines, the long ones in parts: searching for marks takes quadratic time."""
FENCE = re.compile(r"\s*(`{3,}|~{3,})\s*([^\s`]*)")
LINE = re.compile(r"(\s*)(?:(#{1,6})\s+|([-*+])\s+(?:\[([ xX])\]\s+)?|(\d{1,9}[.)])\s+|(>)\s?)?")
ACROSS = re.compile(r" {0,3}(?:(?:-\s*){3,}|(?:\*\s*){3,}|(?:_\s*){3,})")
DELIMITER = re.compile(r"\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*")
UNDECIDED = re.compile(
    r"\s*(?:#{0,6}|[-*+_](?:[\s*_-]*|\s+\[(?:[ xX]\]?)?)|\d{0,9}[.)]?|>|`{1,}|~{1,})"
)
"""The beginning of a line whose kind is not clear yet."""
MARK = re.compile(r"[*_`~]+|\[")
CLOSED = re.compile(
    r"\\.|(`+)(?!`).+?(?<!`)\1(?!`)|(\*{1,3}|_{1,3}|~~)(?=\S).*?\S\2|\[[^\]]*\]\([^)]*\)|<[^<>\s]+>"
    r"|(?P<plain>(?<=\s)[*_~<&\[]+(?=\s)|(?<=\w)_+(?=\w)|[^\\`*_~\[<&]+|&\w+;)",
    re.DOTALL,
)
"""Constructs that are complete whatever follows; text can be cut between `plain` words."""


class Styled:
    """Styles one text: write what `take` returns, then what `rest` returns."""

    def __init__(self, width: int = 80) -> None:
        self._width = width
        self._line = ""
        """The current line, until it is known what it is."""
        self._begun = False
        """Whether the beginning of the current line has been written."""
        self._style = ""
        """The style of the current line, if it is a heading or a quotation."""
        self._held = ""
        """Text that is held back."""
        self._fence = self._language = ""
        self._code = ""
        self._rows: list[str] = []

    def take(self, text: str) -> str:
        """Return what can be written now."""
        return "".join(map(self._take, PIECES.findall(text)))

    def rest(self) -> str:
        """Return what is still held back; the text has ended."""
        line, self._line = self._line, ""
        if self._fence:
            return self._code_line(line) if line else ""
        if line and not self._begun:
            if _is_row(line):
                self._rows.append(line)
                return self._table()
            return self._table() + self._begin(line) + self._settle(final=True)
        return self._table() + self._settle(final=True)

    def _take(self, piece: str) -> str:
        is_whole = piece.endswith("\n")
        if self._begun:
            self._begun = not is_whole
            self._held += piece
            return self._settle()
        self._line += piece
        if not is_whole and (self._fence or _is_undecided(self._line)):
            return ""
        line, self._line = self._line, ""
        if self._fence:
            return self._code_line(line)
        if _is_row(line) and is_whole:
            self._rows.append(line)
            return self._settle(final=True) + (self._table() if len(self._rows) > MAX_ROWS else "")
        return self._table() + self._first(line, is_whole=is_whole)

    def _first(self, line: str, *, is_whole: bool) -> str:
        """Begin a line whose kind is known."""
        if is_whole and (opened := FENCE.match(line)):
            self._fence, self._language = opened.groups()
            self._code = ""
            return self._settle(final=True) + _in(DIM, line)
        if is_whole and ACROSS.fullmatch(line.rstrip("\n")):
            return self._settle(final=True) + _in(DIM, "─" * min(RULE, self._width)) + "\n"
        self._begun = not is_whole
        return self._begin(line) + self._settle()

    def _begin(self, line: str) -> str:
        """Return the beginning of a line, and hold back the rest of it."""
        found = LINE.match(line)
        assert found is not None  # noqa: S101 - it matches anything
        indent, hashes, bullet, task, number, quote = found.groups()
        is_text = found.end() == len(indent) and line.strip()
        # a paragraph goes on; all else ends it
        before = "" if is_text and not self._style else self._settle(final=True)
        self._style = ""
        written = indent
        if hashes:
            self._style = f"{BOLD};{UNDERLINED}" if len(hashes) == 1 else BOLD
        elif bullet:
            written += "• " if task is None else "☐ " if task == " " else "☑ "
        elif number:
            written += f"{number} "
        elif quote:
            self._style = DIM
            written += _in(DIM, "│ ")
        if before or not is_text:
            self._held += line[found.end() :]
            return before + written
        self._held += line
        return ""

    def _settle(self, *, final: bool = False) -> str:
        """Return held text up to the last blank before an open construct."""
        cut = len(self._held) if final else _settled(self._held)
        text, self._held = self._held[:cut], self._held[cut:]
        return _inline(text, self._style)

    def _code_line(self, line: str) -> str:
        mark = line.strip()
        if mark.startswith(self._fence) and not mark.strip(self._fence[0]):
            self._fence = ""
            return _in(DIM, line)
        before = self._code[-MAX_LEXED:] if len(self._code) <= MAX_LEXED else ""
        self._code += line
        return _coloured(before, line, self._language)

    def _table(self) -> str:
        rows, self._rows = self._rows, []
        if not 1 < len(rows) <= MAX_ROWS or not DELIMITER.fullmatch(rows[1]):
            return "".join(_inline(row, "") for row in rows)
        cells = [[_inline(cell, "") for cell in _cells(row)] for row in (rows[0], *rows[2:])]
        widths = [max(map(_width, column)) for column in _columns(cells)]
        if sum(widths) + 2 * len(widths) > self._width:
            return "".join(_inline(row, "") for row in rows)
        sides = [_side(cell) for cell in _cells(rows[1])]
        head, *others = (_row(row, widths, sides) for row in cells)
        line = _in(DIM, "  ".join("─" * width for width in widths))
        return "\n".join([_in(BOLD, head), line, *others]) + "\n"


# -- inline


def _settled(text: str) -> int:
    """Return the length of the part of a text that later text can't change."""
    at = cut = 0
    while (found := CLOSED.match(text, at)) and found.end() > at:
        at = found.end()
        if found["plain"]:
            begin = found.start()
            cut = max(cut, text.rfind(" ", begin, at) + 1, text.rfind("\n", begin, at) + 1)
    return len(text) if len(text) - at > MAX_HELD else cut


def _inline(text: str, style: str) -> str:
    """Style inline Markdown."""
    core = text.strip()
    if not core:
        return text
    if len(MARK.findall(core)) > MAX_MARKS:
        return _in(style, text)
    begin = text[: text.index(core)]
    return begin + "".join(_spans(markup.inline_tokens(core), style)) + text[len(begin + core) :]


def _spans(tokens: Iterable[Token], style: str) -> Iterator[str]:
    styles = [style] if style else []
    address = ""
    for token in tokens:
        kind = token.type
        if kind in {"softbreak", "hardbreak"}:
            yield "\n"
        elif kind == "code_inline":
            yield _in(";".join([*styles, CODE]), token.content)
        elif kind.endswith("_open"):
            styles.append(STYLES.get(kind, ""))
            address = str(token.attrs.get("href", "")) or address
        elif kind.endswith("_close"):
            styles.pop()
            if kind == "link_close" and token.info != "auto":
                yield _in(DIM, f" ({address})")
        elif kind == "math_inline":
            yield _in(";".join(styles), f"${token.content}$")
        elif kind == "image":
            yield _in(";".join(styles), f"[image: {token.content}]")
        else:
            yield _in(";".join(styles), token.content)


def _in(style: str, text: str) -> str:
    """Return text in a style, without control characters and secrets, which parsing may produce."""
    text = mask(harmless(text))
    style = style.strip(";")
    if not style or not text.strip():
        return text
    body = text.rstrip("\n")
    return f"\x1b[{style}m{body}\x1b[0m{text[len(body) :]}"


# -- code


def _coloured(before: str, line: str, language: str) -> str:
    """Colour a line of code that follows the code `before`."""
    import pygments  # type: ignore[import-untyped]  # has no hints
    from pygments.formatters import TerminalFormatter  # type: ignore[import-untyped]  # no hints

    line = mask(harmless(line))
    tokens = markup.code_tokens(before + line, language)
    if tokens is None:
        return line
    coloured: str = pygments.format(_behind(tokens, len(before)), TerminalFormatter())
    return coloured


def _behind(tokens: Iterable[tuple[Any, str]], skipped: int) -> Iterator[tuple[Any, str]]:
    for kind, text in tokens:
        if skipped < len(text):
            yield kind, text[skipped:]
        skipped = max(0, skipped - len(text))


# -- tables


def _is_undecided(line: str) -> bool:
    """Whether the rest of a line decides its kind."""
    if _is_row(line) or FENCE.match(line):
        return True
    return len(line) < MAX_UNDECIDED and UNDECIDED.fullmatch(line) is not None


def _is_row(line: str) -> bool:
    return line.lstrip().startswith("|")


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip().strip("|"))]


def _columns(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    most = max(map(len, rows))
    return [[row[at] if at < len(row) else "" for row in rows] for at in range(most)]


def _side(delimiter: str) -> str:
    return (
        {"::": "^", ":": ">"}.get(delimiter.replace("-", ""), "<") if delimiter[-1:] == ":" else "<"
    )


def _row(cells: Sequence[str], widths: Sequence[int], sides: Sequence[str]) -> str:
    written = []
    for at, width in enumerate(widths):
        cell = cells[at] if at < len(cells) else ""
        blank = width - _width(cell)
        left = {"<": 0, "^": blank // 2, ">": blank}[sides[at] if at < len(sides) else "<"]
        written.append(" " * left + cell + " " * (blank - left))
    return "  ".join(written).rstrip()


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    plain = re.sub(r"\x1b\[[\d;]*m", "", text)
    if plain.isascii():
        return len(plain)
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1
        for one in plain
    )
