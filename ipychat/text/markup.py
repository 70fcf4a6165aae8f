r"""Markdown → safe HTML, and where a growing Markdown text is finished. Pure; imported on use.

JupyterLab trusts what a cell has just shown: scripts in it run. So a model's answer is rendered
with HTML off, through an allow-list of tags and attributes that knows no image, and with links to
`http`, `https` and `mailto` only. Whatever is refused stays visible as text.

Mathematics (`$…$`, `$$…$$`, `\(…\)`, `\[…\]`) is left to the front end, which typesets what stands
between dollars in the text. Display mathematics on lines of its own ends at a blank line at the
latest, as in LaTeX, on GitHub and in Jupyter's own cells, so an unclosed `$$` spoils one paragraph
only. TeX that makes links or loads things is shown as code, and a dollar that is only a dollar is
kept apart from its neighbours.

A text is cut only where a blank line ends everything above it. `_Outline` follows the top-level
blocks for this, line by line in linear time; where it would have to know what stands inside a list
or a quote it doesn't cut.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from html import escape
from itertools import groupby, islice, pairwise
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ipychat import requirements
from ipychat.text.characters import whole

if TYPE_CHECKING:
    import nh3
    from markdown_it import MarkdownIt
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

MAX_COLOURED = 30_000
"""Characters of a code block; a longer one stays plain."""
MAX_COLOURING = 0.3
"""Seconds of CPU time. Some lexers take quadratic time for some texts; those stay plain."""
MAX_PARAGRAPH = 30_000
"""Characters of a paragraph. A longer one, as no one writes it, is shown as it stands."""
MAX_BRACKETS = 2_000
"""Opening brackets of one: looking for a link at each takes quadratic time."""


class _Pattern:
    """A regular expression that is compiled when it is first used: all of them take 3 ms."""

    match: Callable[..., re.Match[str] | None]
    search: Callable[..., re.Match[str] | None]
    finditer: Callable[..., Iterator[re.Match[str]]]
    sub: Callable[..., str]

    def __init__(self, source: str, flags: int = 0) -> None:
        self._source = source
        self._flags = flags

    def __getattr__(self, name: str) -> Any:
        if name not in self.__annotations__:
            raise AttributeError(name)
        compiled = re.compile(self._source, self._flags)
        for method in self.__annotations__:
            setattr(self, method, getattr(compiled, method))
        return getattr(compiled, name)


def to_html(markdown: str, *, final: bool = False) -> str:
    """Render `markdown` as sanitised HTML; code is coloured only when this is the final text."""
    env = {"final": final}
    return _clean(_renderer().render(whole(markdown), env), coloured="coloured" in env)


def code_html(code: str, language: str) -> str:
    """Render one block of code, coloured if its language is known, as sanitised HTML."""
    coloured = _coloured(whole(code), language)
    return _clean(coloured or _plain(whole(code)), coloured=bool(coloured))


def code_blocks(markdown: str) -> list[tuple[str, str]]:
    """List the language and code of each fenced block, without the code's last line end."""
    return [
        (_language(token.info), token.content.removesuffix("\n"))
        for token in _block_parser().parse(markdown)
        if token.type == "fence"
    ]


def with_closed_fence(markdown: str) -> str:
    """Return `markdown` with its last fence closed, so that it can't take in what comes below."""
    if "```" not in markdown and "~~~" not in markdown:
        return markdown
    tokens = _block_parser().parse(f"{markdown}\n\n{_PROBE}")
    last = tokens[-1]
    return f"{markdown}\n{last.markup}" if last.type == "fence" and last.level == 0 else markdown


def has_link_definitions(markdown: str) -> bool:
    """Tell whether a `[label]: address` may be there, which changes text far from it."""
    return _LINK_DEFINITION.search(markdown) is not None


_PROBE = "end"

# A label may span lines, and a definition may stand in lists and quotes.
_LINK_DEFINITION = _Pattern(
    r"^[ \t>*+\-0-9.)]*\[(?:[^\[\]\\]|\\.){1,999}\]:", re.MULTILINE | re.DOTALL
)


# -- rendering

_HEADINGS = {f"h{level}" for level in range(1, 7)}
_BLOCK_TAGS = {"blockquote", "hr", "li", "ol", "p", "pre", "ul"}
_TABLE_TAGS = {"table", "tbody", "td", "th", "thead", "tr"}
_INLINE_TAGS = {"a", "br", "code", "em", "s", "span", "strong"}
_TAGS = _HEADINGS | _BLOCK_TAGS | _TABLE_TAGS | _INLINE_TAGS
_ALIGNMENTS = {"style": {f"text-align:{side}" for side in ("left", "center", "right")}}
_LINK = _Pattern(r"(?:https?://|mailto:)[^\s\\]", re.IGNORECASE)
_LANGUAGE = _Pattern(r"[ \t{.]*([^\s{},:=]*)")
# Macros that make links, load files, or set attributes and styles freely.
_UNSAFE_TEX = _Pattern(
    r"\\(?:href|url|style|class|cssId|data|html|require|includegraphics|bbox|fcolorbox|mmlToken|unicode)"
)
# What a front end would take for mathematics in text: its delimiters and its environments.
_MATHS_IN_TEXT = _Pattern(r"\$|\\(?=[()\[\]]|begin|(?:eq)?ref)")


@cache
def _renderer() -> MarkdownIt:
    """Make the parser that renders (about 30 ms, most of it importing)."""
    requirements.check("markdown-it-py")
    from markdown_it import MarkdownIt

    class SafeMarkdown(MarkdownIt):
        def validateLink(self, url: str) -> bool:  # noqa: N802 - overrides the library's
            return _LINK.match(url) is not None

    parser = _with_maths(SafeMarkdown("js-default"))
    rules: dict[str, Callable[..., str]] = {
        "text": _render_text,
        "image": _render_image,
        "link_open": _render_link_open,
        "link_close": _render_link_close,
        "fence": _render_fence,
        "math_inline": _render_maths,
        "math_block": _render_maths,
    }
    for name, rule in rules.items():
        parser.add_render_rule(name, rule)
    return parser


@cache
def _block_parser() -> MarkdownIt:
    """Make the parser that only finds the blocks."""
    requirements.check("markdown-it-py")
    from markdown_it import MarkdownIt

    return _with_maths(MarkdownIt("js-default")).disable(["inline", "text_join"])


def _with_maths(parser: MarkdownIt) -> MarkdownIt:
    parser.block.ruler.before("fence", "math_block", _parse_display_maths)
    parser.inline.ruler.before("escape", "math_inline", _parse_inline_maths)
    parser.inline.ruler.before("text", "crowded", _take_crowded)
    return parser


def _take_crowded(state: StateInline, silent: bool) -> bool:  # noqa: FBT001 - markdown-it's
    """Take all of a paragraph as it stands, if looking for marks in it would take too long."""
    if state.pos or silent:
        return False
    if state.posMax <= MAX_PARAGRAPH and state.src.count("[") <= MAX_BRACKETS:
        return False
    state.pending += state.src
    state.pos = state.posMax
    return True


def _clean(html: str, *, coloured: bool) -> str:
    return _cleaner(coloured=coloured).clean(html)


@cache
def _cleaner(*, coloured: bool) -> nh3.Cleaner:
    requirements.check("nh3")
    import nh3

    values = {"th": _ALIGNMENTS, "td": _ALIGNMENTS}
    if coloured:
        from pygments.token import STANDARD_TYPES  # type: ignore[import-untyped]  # has no hints

        values |= {"pre": {"class": {"highlight"}}}
        values |= {"span": {"class": {name for name in STANDARD_TYPES.values() if name}}}
    return nh3.Cleaner(
        tags=_TAGS,
        attributes={"a": {"href", "title"}, "ol": {"start"}},
        tag_attribute_values=values,
        url_schemes={"http", "https", "mailto"},
        url_relative="deny",
        link_rel="noopener noreferrer",
    )


# Render rules: markdown-it binds them to its renderer, so the first argument is that one.


def _render_text(_: Any, tokens: Sequence[Token], i: int, *_rest: Any) -> str:
    return _escape_text(tokens[i].content)


def _escape_text(text: str) -> str:
    html = escape(text, quote=False)
    if "$" in html or "\\" in html:
        # Typesetters don't look for mathematics across elements.
        return _MATHS_IN_TEXT.sub(r"<span>\g<0></span>", html)
    return html


def _render_image(self: Any, tokens: Sequence[Token], i: int, options: Any, env: Any) -> str:
    """Show an image as its description and address: loading it would tell who reads this."""
    token = tokens[i]
    alt = _escape_text(self.renderInlineAsText(token.children or [], options, env))
    address = escape(str(token.attrs["src"]))
    shown = f"<code>{address}</code>"
    if not env.get("in_link"):
        shown = f'<a href="{address}">{_escape_text(str(token.attrs["src"]))}</a>'
    return f"{alt} ({shown})" if alt.strip() else shown


def _render_link_open(self: Any, tokens: Any, i: int, options: Any, env: Any) -> str:
    env["in_link"] = True
    return str(self.renderToken(tokens, i, options, env))


def _render_link_close(_self: Any, _tokens: Any, _i: int, _options: Any, env: Any) -> str:
    env["in_link"] = False
    return "</a>"


def _render_fence(_: Any, tokens: Sequence[Token], i: int, _options: Any, env: Any) -> str:
    token = tokens[i]
    if env["final"] and (html := _coloured(token.content, _language(token.info))):
        env["coloured"] = True
        return html
    return _plain(token.content)


def _render_maths(_: Any, tokens: Sequence[Token], i: int, *_rest: Any) -> str:
    token = tokens[i]
    if _UNSAFE_TEX.search(token.content) or (token.markup == "$" and "$" in token.content):
        html = f"<code>{escape(token.content, quote=False)}</code>"
    else:
        html = f"{token.markup}{escape(token.content, quote=False)}{token.markup}"
    return f"<p>{html}</p>\n" if token.block else html


# -- code


def _language(info: str) -> str:
    """Return the language that a fence's info string begins with."""
    match = _LANGUAGE.match(info)
    return match[1] if match else ""


def _plain(code: str) -> str:
    return f"<pre><code>{escape(code, quote=False)}</code></pre>\n"


def _coloured(code: str, language: str) -> str:
    """Return `code` as spans that JupyterLab styles in both themes, or nothing."""
    if (tokens := code_tokens(code, language)) is None:
        return ""
    return f'<pre class="highlight"><code>{_spans(tokens)}</code></pre>\n'


def code_tokens(code: str, language: str) -> list[tuple[Any, str]] | None:
    """Return pygments' tokens of `code`; None where it can't colour it, or takes too long."""
    if not language or len(code) > MAX_COLOURED or (lexer := _lexer(language.lower())) is None:
        return None
    tokens = []
    end = time.thread_time() + MAX_COLOURING
    try:
        for token in lexer.get_tokens(code):
            tokens.append(token)
            if time.thread_time() > end:
                return None
    except Exception:  # noqa: BLE001 - five hundred lexers; an answer is worth more than its colours
        return None
    return tokens


def _spans(tokens: Iterable[tuple[Any, str]]) -> str:
    """Write tokens as spans: neighbours of one class together, those without colour bare."""
    written: list[str] = []
    for kind, run in groupby(tokens, lambda token: _token_class(token[0])):
        text = escape("".join(text for _, text in run), quote=False)
        written.append(f'<span class="{kind}">{text}</span>' if kind else text)
    return "".join(written)


@cache
def _token_class(token: Any) -> str:
    """Return pygments' short name of a kind of token; nothing for names and blanks."""
    from pygments.token import STANDARD_TYPES, Name, Text, Whitespace

    while token not in STANDARD_TYPES:
        token = token.parent
    return "" if token in {Name, Text, Whitespace} else STANDARD_TYPES[token]


@cache
def _lexer_names() -> dict[str, str]:
    from pygments.lexers import get_all_lexers  # type: ignore[import-untyped]  # has no hints

    # Without plug-ins: looking for them reads the metadata of every installed package.
    return {alias: name for name, aliases, *_ in get_all_lexers(plugins=False) for alias in aliases}


@cache
def _lexer(language: str) -> Any:
    from pygments.lexers import find_lexer_class

    if (name := _lexer_names().get(language)) is None:
        return None
    return find_lexer_class(name)(stripnl=False, ensurenl=False)


# -- mathematics

_CLOSERS = {
    "$$": _Pattern(r"\$\$"),
    r"\[": _Pattern(r"(?<!\\)(?:\\\\)*\\\]"),  # an escaped backslash before ] closes nothing
}
_INLINE = _Pattern(
    r"""
      \$\$ (?P<display> (?: [^$\\] | \\. | \$(?!\$) )+ ) \$\$
    | (?<![0-9]) \$ (?![\s$]) (?P<inline> (?: [^$\\] | \\. )+ ) (?<!\s) \$ (?![0-9])
    | \\\[ (?P<square> (?: [^\\] | \\[^\[\]] )+ ) \\\]
    | \\\( (?P<round> (?: [^\\] | \\[^()] )+ ) \\\)
    """,
    re.DOTALL | re.VERBOSE,
)
_LOOKS_LIKE_TEX = _Pattern(r"[\\^_={}+<>]")
_MARKUP = {"display": "$$", "inline": "$", "square": "$$", "round": "$"}


def _parse_inline_maths(state: StateInline, silent: bool) -> bool:  # noqa: FBT001 - markdown-it's
    match = _INLINE.match(state.src, state.pos, state.posMax)
    if match is None or match.lastgroup is None:
        return False
    if match.lastgroup == "square" and not _LOOKS_LIKE_TEX.search(match["square"]):
        return False  # escaped brackets around words
    if not silent:
        token = state.push("math_inline", "math", 0)
        token.content = match[match.lastgroup]
        token.markup = _MARKUP[match.lastgroup]
    state.pos = match.end()
    return True


def _display_maths(lines: Iterable[str]) -> int:
    """Count the lines of the display mathematics that `lines` begin with; 0 if they don't.

    The lines are those up to a blank one. The closing mark ends its line, else it is inline
    mathematics of a paragraph. Only lines up to the next mark are looked at, so that trying it at
    every line takes linear time.
    """
    opener = ""
    for number, line in enumerate(lines, 1):
        rest = line
        if number == 1:
            opener, rest = line[:2], line[2:]
            if opener not in _CLOSERS:
                return 0
        elif opener == r"\[" and line.startswith(opener):
            return 0
        if close := _CLOSERS[opener].search(rest):
            whole = not rest[close.end() :].strip(" \t") and (number > 1 or close.start() > 0)
            return number if whole else 0
    return 0


def _parse_display_maths(
    state: StateBlock,
    line: int,
    end: int,
    silent: bool,  # noqa: FBT001 - markdown-it's
) -> bool:
    begin = state.bMarks[line] + state.tShift[line]
    if state.is_code_block(line) or state.src[begin : begin + 2] not in _CLOSERS:
        return False

    def lines() -> Iterator[str]:
        for number in range(line, end):
            if state.isEmpty(number) or state.sCount[number] < state.blkIndent:
                return
            yield state.src[state.bMarks[number] + state.tShift[number] : state.eMarks[number]]

    count = _display_maths(lines())
    if count and not silent:
        token = state.push("math_block", "math", 0)
        token.content = "\n".join(islice(lines(), count)).rstrip(" \t")[2:-2]
        token.markup = "$$"
        token.map = [line, line + count]
        state.line = line + count
    return count > 0


# -- where a text is finished


def blocks(markdown: str) -> list[str]:
    """Cut `markdown` where rendering the parts gives what rendering the whole gives."""
    edges = [0, *_cuts(markdown), len(markdown)]
    if len(edges) > 2 and not markdown[edges[-2] :].strip(" \t\r\n"):
        del edges[-2]
    return [markdown[a:b] for a, b in pairwise(edges) if a < b]


def safe_cut(markdown: str, soft: int = 0) -> int:
    """Return how much of a growing `markdown` is finished, whatever follows; 0 if nothing is.

    A single paragraph of over `soft` characters is cut at a space; it will look like two until the
    whole is rendered.
    """
    cut = 0
    for cut in _cuts(markdown):  # noqa: B007 - the last one is wanted
        pass
    if not cut and soft and len(markdown) > soft:
        return _soft_cut(markdown)
    return cut


_LINE = _Pattern(r"([ \t]*)([^\r\n]*)(\r\n?|\n|\Z)")
_FENCE = _Pattern(r"(`{3,})[^`]*\Z|(~{3,})")
_HEADING = _Pattern(r"#{1,6}(?:[ \t]|\Z)")
_RULE = _Pattern(r"([-*_])[ \t]*(?:\1[ \t]*){2,}\Z")
_MARKER = _Pattern(r"([-+*]|([0-9]{1,9})[.)])(?=[ \t]|\Z)([ \t]*)(.?)", re.DOTALL)
_MARKER_BEGUN = _Pattern(r"[0-9]{1,9}\Z")

_State: TypeAlias = Literal["fresh", "text", "list", "unsure", "murky", "fence", "lost"]


class _Line:
    """A line: its indentation in columns, the rest, and where it stands."""

    __slots__ = ("begin", "body", "end", "indent", "whole")

    def __init__(self, match: re.Match[str]) -> None:
        blank = match[1]
        self.indent = len(blank.expandtabs(4)) if "\t" in blank else len(blank)
        self.body = match[2]
        self.begin, self.end = match.span()
        self.whole = bool(match[3])


def _cuts(text: str) -> Iterator[int]:
    """Yield each offset up to which all is finished, once for a run of blank lines."""
    lines = [_Line(match) for match in _LINE.finditer(text)]
    outline = _Outline(lines)
    begun = False
    pending = 0
    for number, line in enumerate(lines):
        if not line.body:
            if line.whole and begun and outline.blank():
                pending = line.end
            continue
        fresh = outline.line(number)
        if begun and fresh:
            pending = line.begin
        if pending:
            yield pending
        pending = 0
        begun = True
        if outline.state == "lost":
            return
    if pending:
        yield pending


class _Outline:
    """The top-level blocks of a text, as far as they decide where it may be cut.

    Its states, which `line` and `blank` go through:

    - `fresh`: nothing is open, any block may begin;
    - `text`: a paragraph, table or quote, or something after it; no list, and no fence;
    - `list`: inside a list whose newest item's content begins at column `content`;
    - `unsure`: inside a list or inside `text`, depending on what stands inside the list;
    - `murky`: the same, and perhaps in mathematics, where a fence would be none;
    - `fence`: inside code;
    - `lost`: a fence that may or may not belong to a list; no more cuts.
    """

    def __init__(self, lines: Sequence[_Line]) -> None:
        self.state: _State = "fresh"
        self.lines = lines
        self.after_blank = True
        self.in_code = False  # indented code, which goes on after blank lines
        self.content: float = 0
        self.empty_item = False
        self.closing_fence = re.compile("")
        self.maths_until = 0

    def blank(self) -> bool:
        """Go past a blank line; tell whether everything above it is finished."""
        if self.empty_item and not self.after_blank:
            self.content = float("inf")  # an item that begins with a blank line has ended
        self.empty_item = False
        self.after_blank = True
        if self.state == "text":
            self.state = "fresh"
        elif self.state == "murky":
            self.state = "unsure"
        return self.state == "fresh" and not self.in_code

    def line(self, number: int) -> bool:
        """Go past a line that is not blank; tell whether everything above it is finished."""
        line = self.lines[number]
        fresh = self.after_blank and self._is_fresh(line)
        if fresh:
            self.state = "fresh"
        self.in_code = False
        match self.state:
            case "fresh" | "text":
                self._go_on_at_the_top(number, line)
            case "list":
                self._go_on_in_a_list(number, line)
            case "unsure":
                self._go_on_unsure(line)
            case "murky":
                if line.indent < 4 and _FENCE.match(line.body):
                    self.state = "lost"
            case "fence":
                if line.indent < 4 and self.closing_fence.match(line.body):
                    self.state = "fresh"
        self.after_blank = False
        return fresh

    def _is_fresh(self, line: _Line) -> bool:
        match self.state:
            case "fresh":
                return not (self.in_code and line.indent >= 4)
            case "list" | "unsure":
                return line.indent == 0 and not (
                    _MARKER.match(line.body) or (not line.whole and _MARKER_BEGUN.match(line.body))
                )
        return False

    def _go_on_at_the_top(self, number: int, line: _Line) -> None:
        if number < self.maths_until:
            return
        self.in_code = line.indent >= 4
        if self.in_code or self._is_a_block_of_its_own(line):
            return
        body = line.body
        if marker := _MARKER.match(body):
            # In a paragraph only 1. and bullets with text begin a list; elsewhere all do.
            interrupts = marker[4] and (marker[2] is None or int(marker[2]) == 1)
            self._begin_item(line, marker, sure=self.state == "fresh" or bool(interrupts))
        elif body[:2] not in _CLOSERS:
            self.state = "text"
        elif self.state == "text":
            self.state = "murky"
        elif count := _display_maths(self._until_blank(number)):
            self.maths_until = number + count
        else:
            self.state = "text"

    def _go_on_in_a_list(self, number: int, line: _Line) -> None:
        if line.indent >= self.content:
            self.empty_item = False
        elif line.indent >= 4:
            self.state = "fresh" if self.after_blank else "unsure"
            self.in_code = self.after_blank
        elif _RULE.match(line.body):
            self.state = "fresh"
        elif self._is_a_block_of_its_own(line):
            pass
        elif marker := _MARKER.match(line.body):
            self._begin_item(line, marker, sure=True)
        elif self.after_blank:
            self.state = "fresh"
            self._go_on_at_the_top(number, line)
        else:
            self.state = "murky" if line.body[:2] in _CLOSERS else "unsure"

    def _go_on_unsure(self, line: _Line) -> None:
        body = line.body
        if line.indent >= 4:
            return
        if body[:2] in _CLOSERS:
            self.state = "murky"
        elif line.indent:
            if _FENCE.match(body):
                self.state = "lost"
        elif self._is_a_block_of_its_own(line):
            pass
        elif marker := _MARKER.match(body):
            interrupts = marker[4] and (marker[2] is None or int(marker[2]) == 1)
            self._begin_item(line, marker, sure=self.after_blank or bool(interrupts))

    def _is_a_block_of_its_own(self, line: _Line) -> bool:
        """Take a line that is what it is wherever it stands: a fence, heading, rule or quote."""
        body = line.body
        if fence := _FENCE.match(body):
            marks = fence[1] or fence[2]
            self.closing_fence = re.compile(rf"{marks[0]}{{{len(marks)},}}[ \t]*\Z")
            self.state = "fence"
        elif _HEADING.match(body):
            self.state = "fresh"
        elif _RULE.match(body):
            # Under text, hyphens may be a heading's underline or a table's second line.
            self.state = "text" if body[0] == "-" and self.state != "fresh" else "fresh"
        elif body[0] == ">":
            self.state = "text"
        else:
            return False
        return True

    def _begin_item(self, line: _Line, marker: re.Match[str], *, sure: bool) -> None:
        if not sure:
            self.state = "unsure"
            return
        self.state = "list"
        begin = line.indent + len(marker[1])
        column = begin
        for character in marker[3]:
            column += 4 - column % 4 if character == "\t" else 1
        self.empty_item = not marker[4]
        self.content = column if marker[4] and column - begin <= 4 else begin + 1

    def _until_blank(self, number: int) -> Iterator[str]:
        while number < len(self.lines) and (body := self.lines[number].body):
            yield body
            number += 1


# Every line begins with a letter, the first perhaps with an opening mark: no block can begin here.
_PLAIN_PARAGRAPH = _Pattern(r"""[*"'(`_]{0,2}(?:[^\W\d_][^\r\n]*(?:\r\n?|\n|\Z))+\Z""")
_INLINE_MARK = _Pattern(
    r"""
      \\[()\[\]] | \\. | \]\( | [\[\])]
    | `+ | ~~ | \$+
    | (?<!\s)\*+ | \*+(?!\s)  # not 2 * 3
    | (?<![^\W_])_+ | _+(?![^\W_])  # not snake_case
    | [ ](?=[^\W\d_])
    """,
    re.DOTALL | re.VERBOSE,
)


def _soft_cut(text: str) -> int:
    """Return the last place in a paragraph where a space stands outside every mark."""
    if not _PLAIN_PARAGRAPH.match(text):
        return 0
    cut = 0
    open_marks: set[str] = set()
    brackets = 0
    in_address = False
    for match in _INLINE_MARK.finditer(text, 0, len(text) - 20):
        mark = match[0]
        if mark == " ":
            if not (open_marks or brackets or in_address):
                cut = match.end()
        elif mark in {"[", r"\(", r"\["}:
            brackets += 1
        elif mark in {"]", "](", r"\)", r"\]"}:
            brackets = max(0, brackets - 1)
            in_address = in_address or mark == "]("
        elif mark == ")":
            in_address = False
        elif mark[0] != "\\":
            open_marks ^= {mark}
    return cut
