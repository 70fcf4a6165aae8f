r"""Render Markdown as safe HTML, and find where a growing Markdown text is finished. Pure.

JupyterLab trusts fresh output: scripts in it run. So a model's answer is rendered with HTML
disabled, through an allow-list of tags and attributes with links to `http`, `https` and
`mailto` only, and with no pictures but those that stand in the text. Whatever is rejected stays
visible as text. `ui/src/answer/markdown.ts` has the same rules for the page.

Mathematics (`$…$`, `$$…$$`, `\(…\)`, `\[…\]`) is left to the front end, which typesets whatever
stands between dollar signs in text. Display mathematics ends at a blank line at the latest, as in
LaTeX, on GitHub and in Jupyter's own cells, so an unclosed `$$` spoils one paragraph only. TeX that
creates links or loads files is shown as code, and a literal dollar sign is kept apart from its
neighbours.

A text is cut only at a blank line between two of its top-level blocks, as markdown-it finds them:
they can be rendered separately, and nothing that follows changes those above.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from html import escape
from itertools import groupby, islice, pairwise
from typing import TYPE_CHECKING, Any

from ipychat import requirements
from ipychat.text.characters import whole

if TYPE_CHECKING:
    import nh3
    from markdown_it import MarkdownIt
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_core import StateCore
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

MAX_COLOURED = 30_000
"""Characters of a code block; a longer one is not coloured."""
MAX_COLOURING = 0.3
"""Seconds of CPU time. Some lexers take quadratic time on some texts; those are not coloured."""
MAX_PARAGRAPH = 30_000
"""Characters of a paragraph. A longer one is shown verbatim; nobody writes paragraphs like that."""
MAX_BRACKETS = 2_000
"""Opening brackets in a paragraph: looking for a link at each takes quadratic time."""


class _Pattern:
    """A regular expression compiled on first use: compiling all of them takes 3 ms."""

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
    """Render `markdown` as sanitised HTML; colour the code only if this is the final text."""
    env = {"final": final}
    return _clean(_renderer().render(whole(markdown), env), coloured="coloured" in env)


def inline_tokens(markdown: str) -> list[Token]:
    """Return the tokens of what stands in one paragraph."""
    [paragraph] = _renderer().parseInline(markdown)
    return paragraph.children or []


def code_html(code: str, language: str) -> str:
    """Render a code block as sanitised HTML, coloured if its language is known."""
    coloured = _coloured(whole(code), language)
    return _clean(coloured or _plain(whole(code)), coloured=bool(coloured))


def code_blocks(markdown: str) -> list[tuple[str, str]]:
    """List the language and code of each fenced block, without the code's trailing newline."""
    return [
        (_language(token.info), token.content.removesuffix("\n"))
        for token in _block_parser().parse(markdown)
        if token.type == "fence"
    ]


def with_closed_fence(markdown: str) -> str:
    """Return `markdown` with its last fence closed, so that text appended to it is not code."""
    if "```" not in markdown and "~~~" not in markdown:
        return markdown
    tokens = _block_parser().parse(f"{markdown}\n\n{_PROBE}")
    last = tokens[-1]
    return f"{markdown}\n{last.markup}" if last.type == "fence" and last.level == 0 else markdown


def has_link_definitions(markdown: str) -> bool:
    """Tell whether there may be a `[label]: address`, which changes links anywhere in the text."""
    return _LINK_DEFINITION.search(markdown) is not None


_PROBE = "end"

# A label may span lines, and a definition may stand inside a list or quote.
_LINK_DEFINITION = _Pattern(
    r"^[ \t>*+\-0-9.)]*\[(?:[^\[\]\\]|\\.){1,999}\]:", re.MULTILINE | re.DOTALL
)


# -- rendering

_HEADINGS = {f"h{level}" for level in range(1, 7)}
_BLOCK_TAGS = {"blockquote", "hr", "li", "ol", "p", "pre", "ul"}
_TABLE_TAGS = {"table", "tbody", "td", "th", "thead", "tr"}
_INLINE_TAGS = {"a", "br", "code", "em", "s", "span", "strong", "sup"}
_TAGS = _HEADINGS | _BLOCK_TAGS | _TABLE_TAGS | _INLINE_TAGS
_ALIGNMENTS = {"style": {f"text-align:{side}" for side in ("left", "center", "right")}}
_LINK = _Pattern(r"(?:https?://|mailto:)[^\s\\]", re.IGNORECASE)
_PICTURE = _Pattern(r"data:image/(?:png|jpeg|gif|webp);base64,[\w+/=]+\Z", re.IGNORECASE)
_PICTURES = _Pattern(r"\(data:image/[^)\s]*\)")
_BREAK = _Pattern(r"<br ?/?>", re.IGNORECASE)
_TASK = _Pattern(r"\[([ xX])\][ \t]")
_NOTE = _Pattern(r"\[\^([^\]\s\[]{1,40})\]:[ \t]+")
_NOTED = _Pattern(r"\[\^([^\]\s\[]{1,40})\]")
_BOX = (
    "padding:.6em .8em;border:1px solid var(--jp-border-color2,#8885);border-radius:6px;"
    "overflow-x:auto"
)
_LANGUAGE = _Pattern(r"[ \t{.]*([^\s{},:=]*)")
# Macros that create links, load files, or set arbitrary attributes and styles.
_UNSAFE_TEX = _Pattern(
    r"\\(?:href|url|style|class|cssId|data|html|require|includegraphics|bbox|fcolorbox|mmlToken|unicode)"
)
# What a front end would typeset in text: the delimiters and environments of mathematics.
_MATHS_IN_TEXT = _Pattern(r"\$|\\(?=[()\[\]]|begin|(?:eq)?ref)")


@cache
def _renderer() -> MarkdownIt:
    """Create the parser that renders (about 30 ms, most of it imports)."""
    requirements.check("markdown-it-py")
    from markdown_it import MarkdownIt

    class SafeMarkdown(MarkdownIt):
        def validateLink(self, url: str) -> bool:  # noqa: N802 - overrides the library's
            return bool(_LINK.match(url) or _PICTURE.match(url))

    parser = _with_maths(SafeMarkdown("js-default"))
    parser.inline.ruler.before("link", "break", _parse_break)
    parser.inline.ruler.before("link", "note", _parse_note_mark)
    parser.core.ruler.after("inline", "tasks", _mark_tasks)
    rules: dict[str, Callable[..., str]] = {
        "text": _render_text,
        "image": _render_image,
        "link_open": _render_link_open,
        "link_close": _render_link_close,
        "fence": _render_fence,
        "code_block": _render_fence,
        "note": _render_note_mark,
        "math_inline": _render_maths,
        "math_block": _render_maths,
    }
    for name, rule in rules.items():
        parser.add_render_rule(name, rule)
    return parser


@cache
def _block_parser() -> MarkdownIt:
    """Create the parser that only finds blocks."""
    requirements.check("markdown-it-py")
    from markdown_it import MarkdownIt

    return _with_maths(MarkdownIt("js-default")).disable(["inline", "text_join"])


def _with_maths(parser: MarkdownIt) -> MarkdownIt:
    parser.block.ruler.before("fence", "math_block", _parse_display_maths)
    parser.block.ruler.before("reference", "note", _parse_note, {"alt": ["paragraph"]})
    parser.inline.ruler.before("escape", "math_inline", _parse_inline_maths)
    parser.inline.ruler.before("text", "crowded", _take_crowded)
    return parser


def _take_crowded(state: StateInline, silent: bool) -> bool:  # noqa: FBT001 - markdown-it's
    """Take the whole paragraph verbatim if parsing its inline markup would take too long."""
    if state.pos or silent:
        return False
    size = len(_PICTURES.sub("", state.src)) if state.posMax > MAX_PARAGRAPH else 0
    if size <= MAX_PARAGRAPH and state.src.count("[") <= MAX_BRACKETS:
        return False
    state.pending += state.src
    state.pos = state.posMax
    return True


def _parse_break(state: StateInline, silent: bool) -> bool:  # noqa: FBT001 - markdown-it's
    """Take the one tag that models write in tables."""
    match = _BREAK.match(state.src, state.pos, state.posMax)
    if match is None:
        return False
    if not silent:
        state.push("hardbreak", "br", 0)
    state.pos = match.end()
    return True


def _parse_note_mark(state: StateInline, silent: bool) -> bool:  # noqa: FBT001 - markdown-it's
    match = _NOTED.match(state.src, state.pos, state.posMax)
    if match is None:
        return False
    if not silent:
        state.push("note", "sup", 0).content = match[1]
    state.pos = match.end()
    return True


def _parse_note(
    state: StateBlock,
    line: int,
    end: int,
    silent: bool,  # noqa: FBT001 - markdown-it's
) -> bool:
    def text(number: int) -> str:
        return state.src[state.bMarks[number] + state.tShift[number] : state.eMarks[number]]

    match = _NOTE.match(text(line))
    if match is None or state.is_code_block(line):
        return False
    if silent:
        return True
    after = line + 1
    others = state.md.block.ruler.getRules("paragraph")
    while after < end and not state.isEmpty(after):
        if any(rule(state, after, end, True) for rule in others):  # noqa: FBT003 - markdown-it's
            break
        after += 1
    state.push("paragraph_open", "p", 1).map = [line, after]
    inline = state.push("inline", "", 0)
    inline.content = re.sub(
        r"^(\[[^\]]*\]):", r"\1", "\n".join(text(number).strip() for number in range(line, after))
    )
    inline.map = [line, after]
    inline.children = []
    state.push("paragraph_close", "p", -1)
    state.line = after
    return True


def _mark_tasks(state: StateCore) -> None:
    for before, token in zip(state.tokens, state.tokens[2:], strict=False):
        if before.type != "list_item_open" or not token.children:
            continue
        first = token.children[0]
        if first.type == "text" and (task := _TASK.match(first.content)):
            first.content = f"{'☐' if task[1] == ' ' else '☑'} {first.content[task.end() :]}"


def _clean(html: str, *, coloured: bool) -> str:
    return _cleaner(coloured=coloured, pictures="<img " in html).clean(html)


@cache
def _cleaner(*, coloured: bool, pictures: bool) -> nh3.Cleaner:
    requirements.check("nh3")
    import nh3

    values = {"th": _ALIGNMENTS, "td": _ALIGNMENTS, "pre": {"style": {_BOX}}}
    if coloured:
        from pygments.token import STANDARD_TYPES  # type: ignore[import-untyped]  # has no hints

        values["pre"] = {"style": {_BOX}, "class": {"highlight"}}
        values |= {"span": {"class": {name for name in STANDARD_TYPES.values() if name}}}
    return nh3.Cleaner(
        tags=_TAGS | {"img"} if pictures else _TAGS,
        attributes={"a": {"href", "title"}, "ol": {"start"}, "img": {"src", "alt"}},
        attribute_filter=_only_pictures if pictures else None,
        tag_attribute_values=values,
        url_schemes={"http", "https", "mailto", *(["data"] if pictures else [])},
        url_relative="deny",
        link_rel="noopener noreferrer",
    )


def _only_pictures(tag: str, attribute: str, value: str) -> str | None:
    """Let an address of data stand where it is a picture's."""
    allowed = {("img", "src"): _PICTURE, ("a", "href"): _LINK}.get((tag, attribute))
    return value if allowed is None or allowed.match(value) else None


# Render rules. markdown-it binds them to its renderer, which is their first argument.


def _render_text(_: Any, tokens: Sequence[Token], i: int, *_rest: Any) -> str:
    return _escape_text(tokens[i].content)


def _escape_text(text: str) -> str:
    html = escape(text, quote=False)
    if "$" in html or "\\" in html:
        # Typesetters don't look for mathematics across element boundaries.
        return _MATHS_IN_TEXT.sub(r"<span>\g<0></span>", html)
    return html


def _render_image(self: Any, tokens: Sequence[Token], i: int, options: Any, env: Any) -> str:
    """Show an image as its description and address: loading it would reveal who reads this."""
    token = tokens[i]
    words = self.renderInlineAsText(token.children or [], options, env)
    alt = _escape_text(words)
    address = escape(str(token.attrs["src"]))
    if _PICTURE.match(str(token.attrs["src"])):
        return f'<img src="{address}" alt="{escape(words)}">'
    shown = f"<code>{address}</code>"
    if not env.get("in_link"):
        shown = f'<a href="{address}">{_escape_text(str(token.attrs["src"]))}</a>'
    return f"{alt} ({shown})" if alt.strip() else shown


def _render_link_open(self: Any, tokens: Any, i: int, options: Any, env: Any) -> str:
    if not _LINK.match(str(tokens[i].attrs["href"])):
        return ""  # a picture's address leads nowhere
    env["in_link"] = True
    return str(self.renderToken(tokens, i, options, env))


def _render_link_close(_self: Any, _tokens: Any, _i: int, _options: Any, env: Any) -> str:
    return "</a>" if env.pop("in_link", False) else ""


def _render_note_mark(_: Any, tokens: Sequence[Token], i: int, *_rest: Any) -> str:
    return f"<sup>{escape(tokens[i].content)}</sup>"


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
    """Return the language named at the start of a fence's info string."""
    match = _LANGUAGE.match(info)
    return match[1] if match else ""


def _plain(code: str) -> str:
    return f'<pre style="{_BOX}"><code>{escape(code, quote=False)}</code></pre>\n'


def _coloured(code: str, language: str) -> str:
    """Return `code` as spans that JupyterLab styles in both themes; empty if that fails."""
    if (tokens := code_tokens(code, language)) is None:
        return ""
    return f'<pre class="highlight" style="{_BOX}"><code>{_spans(tokens)}</code></pre>\n'


def code_tokens(code: str, language: str) -> list[tuple[Any, str]] | None:
    """Return pygments' tokens of `code`; None if it can't be coloured, or not in time."""
    if not language or len(code) > MAX_COLOURED or (lexer := _lexer(language.lower())) is None:
        return None
    tokens = []
    end = time.thread_time() + MAX_COLOURING
    try:
        for token in lexer.get_tokens(code):
            tokens.append(token)
            if time.thread_time() > end:
                return None
    except Exception:  # noqa: BLE001 - any of 500 lexers may fail; the text is still shown plain
        return None
    return tokens


def _spans(tokens: Iterable[tuple[Any, str]]) -> str:
    """Write tokens as spans, merging neighbours of one class; uncoloured text gets no span."""
    written: list[str] = []
    for kind, run in groupby(tokens, lambda token: _token_class(token[0])):
        text = escape("".join([text for _, text in run]), quote=False)
        written.append(f'<span class="{kind}">{text}</span>' if kind else text)
    return "".join(written)


@cache
def _token_class(token: Any) -> str:
    """Return pygments' short name for a token type; empty for names and whitespace."""
    from pygments.token import STANDARD_TYPES, Name, Text, Whitespace

    while token not in STANDARD_TYPES:
        token = token.parent
    return "" if token in {Name, Text, Whitespace} else STANDARD_TYPES[token]


@cache
def _lexer_names() -> dict[str, str]:
    from pygments.lexers import get_all_lexers  # type: ignore[import-untyped]  # has no hints

    # Without plug-ins: finding them reads the metadata of every installed package.
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
    """Return how many of `lines` make up display mathematics; 0 if they don't begin with any.

    `lines` end at the next blank line. The closing mark must end its line, else this is inline
    mathematics in a paragraph. Only lines up to the next mark are examined, so that trying this at
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

_UNDONE = _Pattern(r"`+|\$\$|\\[()\[\]]")
_CLOSES = {"$$": "$$", r"\(": r"\)", r"\[": r"\]"}
_HALF_BEGUN = _Pattern(r"!\[[^\]\n]*\]\([^)\s]*\Z|(?<![^\n]) {0,3}(?:`{1,3}|~{1,3})[^\n`]*\Z")
_HALF_INLINE = _Pattern(r"(?<![0-9$\\])\$(?=[\\A-Za-z({])[^$\n]{0,60}\Z")
_ROWS = _Pattern(r"(?:\A|(?<=\n))(?:[ ]{0,3}\|[^\n]*(?:\n|\Z))+\Z")
_DELIMITERS = _Pattern(r"[ |:-]+\Z")


def settled(block: str) -> str:
    """Return what of a growing block can be drawn.

    Half a formula, fence, picture's address or table's row waits until it is whole.
    """
    block = _HALF_BEGUN.sub("", block)
    opened, at = "", 0
    for match in _UNDONE.finditer(block):
        mark = match[0]
        if opened:
            if mark == _CLOSES.get(opened, opened):
                opened = ""
        elif mark in _CLOSES or mark[0] == "`":
            opened, at = mark, match.start()
    if opened in _CLOSES:
        block = block[:at]
    elif not opened:
        block = _HALF_INLINE.sub("", block)
    rows = _ROWS.search(block)
    if rows is None:
        return block
    lines = rows[0].split("\n")
    has_head = len(lines) > 2 and _DELIMITERS.match(lines[1])
    return block[: len(block) - len(lines[-1] if has_head else rows[0])]


def blocks(markdown: str, least: int = 1) -> list[str]:
    """Split `markdown` so that the parts, rendered separately, look like the whole.

    Each part but the last has at least `least` characters.
    """
    edges = [0]
    for cut in _cuts(markdown):
        if cut - edges[-1] >= least:
            edges.append(cut)
    if len(edges) > 1 and not markdown[edges[-1] :].strip(" \t\r\n"):
        edges.pop()
    return [markdown[a:b] for a, b in pairwise([*edges, len(markdown)]) if a < b]


def safe_cut(markdown: str, soft: int = 0) -> int:
    """Return the length of the finished part of a growing `markdown`: nothing can change it.

    A single paragraph of more than `soft` characters is cut at a space; it looks like two
    paragraphs until the whole text is rendered.
    """
    cut = 0
    for cut in _cuts(markdown):  # noqa: B007 - only the last one is wanted
        pass
    if not cut and soft and len(markdown) > soft:
        return soft_cut(markdown)
    return cut


_LINE_END = _Pattern(r"\r\n?|\n")
_MARKER_BEGUN = _Pattern(r"[ \t]*[0-9]{1,9}\Z")
_GOES_ON = {"bullet_list_open", "ordered_list_open", "code_block"}
"""Blocks that may continue after a blank line."""


def _cuts(text: str) -> Iterator[int]:
    """Yield each offset up to which the text is finished, once per run of blank lines.

    A top-level block is finished when another one begins below a blank line. The last one is
    finished at a blank line, unless it is of a kind that may continue after one.
    """
    begins = [0, *(match.end() for match in _LINE_END.finditer(text))]
    last_line = len(begins) - 1

    def is_blank(line: int) -> bool:
        return not text[begins[line] : begins[line + 1]].strip(" \t\r\n")

    tokens = _block_parser().parse(text)
    top = [(token.type, token.map) for token in tokens if token.map and not token.level]
    for _, (line, _) in top[1:]:
        # The last line may still be growing: digits may turn into another item of the list above.
        may_join = line == last_line and _MARKER_BEGUN.match(text, begins[line])
        if is_blank(line - 1) and not may_join:
            yield begins[line]
    if top:
        kind, (_, end) = top[-1]
        if kind not in _GOES_ON and end < last_line and is_blank(end):
            yield begins[last_line]


# Every line begins with a letter (the first perhaps with an opening mark), so no block can begin
# here.
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


def soft_cut(text: str) -> int:
    """Return the last offset in a paragraph that follows a space outside all inline markup."""
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
