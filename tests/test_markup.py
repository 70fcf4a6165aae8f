"""Markdown → safe HTML: nothing hostile gets through; a text is cut where it is finished."""

import json
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import assume, example, given, settings, strategies as st

from ipychat.text import markup
from ipychat.text.markup import (
    blocks,
    code_blocks,
    code_html,
    has_link_definitions,
    safe_cut,
    to_html,
)
from tests import answers

BOX = markup._BOX

# -- what may be in the HTML

TAGS = {
    "a",
    "blockquote",
    "br",
    "code",
    "em",
    "hr",
    "li",
    "ol",
    "p",
    "pre",
    "s",
    "span",
    "strong",
    "sup",
}
TAGS |= {"h1", "h2", "h3", "h4", "h5", "h6", "table", "tbody", "td", "th", "thead", "tr", "ul"}
ATTRIBUTES = {
    ("a", "href"): r"(?i)(https?://|mailto:)[^\s]+",
    ("a", "rel"): r"noopener noreferrer",
    ("a", "title"): r"(?s).*",
    ("ol", "start"): r"\d+",
    ("pre", "class"): r"highlight",
    ("pre", "style"): re.escape(BOX),
    ("img", "src"): r"data:image/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/=]+",
    ("img", "alt"): r"(?s).*",
    ("span", "class"): r"[a-z0-9]{1,4}",
    ("th", "style"): r"text-align:(left|center|right)",
    ("td", "style"): r"text-align:(left|center|right)",
}


class Inspector(HTMLParser):
    """Fails at anything that is not on the list; keeps the text and the links."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.text = ""
        self.links = []
        self.open = []

    def handle_starttag(self, tag, attrs):
        assert tag in TAGS or (tag == "img" and dict(attrs)["src"]), tag
        for name, value in attrs:
            assert (tag, name) in ATTRIBUTES, (tag, name, value)
            assert re.fullmatch(ATTRIBUTES[tag, name], value), (tag, name, value)
        if tag == "a":
            assert "a" not in self.open
            assert ("rel", "noopener noreferrer") in attrs
            self.links.append(dict(attrs).get("href"))
        if tag not in {"br", "hr", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def refuse(self, content):
        raise AssertionError(content)

    handle_comment = handle_decl = handle_pi = unknown_decl = refuse


def inspect(html: str) -> Inspector:
    inspector = Inspector()
    inspector.feed(html)
    inspector.close()
    assert not inspector.open
    return inspector


HTML = [
    "<script>alert(1)</script>",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    "<scr<script>ipt>alert(1)</script>",
    "<script\x00>alert(1)</script>",
    "<script\n>alert(1)</script\n>",
    "</p><script>alert(1)</script><p>",
    "</code></pre><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<img src=http://evil.example/p.png srcset='http://evil.example/q.png 2x'>",
    "<img/src='x'/onerror=alert(1)//",
    "<image href=http://evil.example/>",
    "<details open ontoggle=alert(1)><summary>x</summary></details>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<iframe src=javascript:alert(1)>",
    "<svg onload=alert(1)><script>alert(1)</script></svg>",
    "<svg><style><img src=x onerror=alert(1)></style></svg>",
    "<svg><a xlink:href='javascript:alert(1)'><text>x</text></a></svg>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<math href='javascript:alert(1)'>x</math>",
    "<style>@import 'http://evil.example/x.css';</style>",
    "<p style='background:url(http://evil.example/)'>x</p>",
    "<body background=http://evil.example/x onload=alert(1)>",
    "<table background='http://evil.example/x'><tr><td>x",
    "<div style='position:fixed;inset:0'>x</div>",
    "<form action=http://evil.example/><input name=password><button>x</button></form>",
    "<button formaction=javascript:alert(1)>x</button>",
    "<input autofocus onfocus=alert(1)>",
    "<select><option>x</select><textarea>x</textarea>",
    "<meta http-equiv=refresh content='0;url=http://evil.example/'>",
    "<base href=http://evil.example/>",
    "<link rel=stylesheet href=http://evil.example/x.css>",
    "<object data=http://evil.example/x></object><embed src=//evil.example/x>",
    "<video poster=//evil.example/x><source src=//evil.example/y></video>",
    "<audio src=//evil.example/x autoplay>",
    "<a href=javascript:alert(1)>x</a>",
    "<a ping=http://evil.example/ href=http://x.example/>x</a>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<template><script>alert(1)</script></template>",
    "<xmp><script>alert(1)</script></xmp>",
    "<plaintext>",
    "<!--><script>alert(1)</script>-->",
    "<!-- --!><script>alert(1)</script> -->",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<?php echo 1 ?><!DOCTYPE html>",
    "<x:script xmlns:x='http://www.w3.org/1999/xhtml'>alert(1)</x:script>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;img src=x onerror=alert(1)&#62;",
    "&#x3c;img src=x onerror=alert(1)&#x3e;",
    "\\<script>alert(1)\\</script>",
    "\uff1cscript\uff1ealert(1)\uff1c/script\uff1e",
    "<\u017fcript>alert(1)</\u017fcript>",
    "\u202e<script>\u202calert(1)\u2066</script>\u2069",
    "\ud83c<script>\udf00alert(1)</script>\ud800",
    "\x00<\x0bscript\x0c>alert(1)\x1b[31m</script>",
    "<" * 50 + "script" + ">" * 50,
    '"><script>alert(1)</script>',
    "' onmouseover='alert(1)",
]
CONTEXTS = {
    "alone": "{}",
    "in a paragraph": "a {} b",
    "in a heading": "# {}",
    "in a list": "- {}\n  - {}",
    "in a quote": "> {}",
    "in a table": "| {} |\n|:-:|\n| {} |",
    "emphasised": "*{}* **{}** ~~{}~~",
    "in inline code": "`{}` ``{}``",
    "in code": "```\n{}\n```",
    "in Python code": "```python\n{}\n```",
    "in HTML code": "~~~html\n{}\n~~~",
    "in the name of a language": "```{}\nx\n```",
    "after the name of a language": '~~~python {}"\nx\n~~~',
    "in a name of a class": '```{{.python class="{}"}}\nx\n```',
    "indented": "    {}",
    "in mathematics": "${}$ and $${}$$",
    "in brackets": r"\({}\) and \[{}\]",
    "in a display": "$$\n{}\n$$",
    "in a bracketed display": "\\[\n{}\n\\]",
    "in mathematics that ends early": "$$</p>{}$$",
    "in the text of a link": "[{}](http://x.example)",
    "in the address of a link": "[x](<http://x.example/{}>)",
    "as the address of a link": "[x](<{}>) [x]({})",
    "in the title of a link": '[x](http://x.example "{}")',
    "in the description of an image": "![{}](http://x.example/i.png)",
    "in the address of an image": "![x](<http://x.example/{}>)",
    "in the title of an image": "![x](http://x.example/i.png '{}')",
    "in an automatic link": "<http://x.example/{}>",
    "in a definition": '[a]\n\n[a]: <http://x.example/{}> "{}"',
    "in a label": "[{}]\n\n[{}]: http://x.example/",
    "around code": "{}\n\n```\n{}",
}


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("final", [False, True], ids=["growing", "final"])
def test_hostile_html_comes_out_inert_wherever_it_stands(context, final):
    for payload in HTML:
        text = CONTEXTS[context].format(*[payload] * CONTEXTS[context].count("{}"))
        inspect(to_html(text, final=final))


@pytest.mark.parametrize("payload", HTML)
def test_hostile_html_stays_readable(payload):
    if payload.isascii() and payload.isprintable() and not payload.startswith(("&", "\\")):
        assert payload in inspect(to_html(f"```\n{payload}\n```")).text


ADDRESSES = [
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "javascript&colon;alert(1)",
    "javascript&#58;alert(1)",
    "&#106;avascript:alert(1)",
    "&#x6A;avascript:alert(1)",
    "&#0000106avascript:alert(1)",
    "java&Tab;script:alert(1)",
    "java&NewLine;script:alert(1)",
    "java\tscript:alert(1)",
    "java\nscript:alert(1)",
    "\x01javascript:alert(1)",
    "\x00javascript:alert(1)",
    " javascript:alert(1)",
    "\u00a0javascript:alert(1)",
    "\u200bjavascript:alert(1)",
    "javascript\\:alert(1)",
    "javascript:%0aalert(1)",
    "javascript%3aalert(1)",
    "javascript://x.example/%0aalert(1)",
    "vbscript:msgbox(1)",
    "VBScript:msgbox(1)",
    "data:text/html,<script>alert(1)</script>",
    "data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==",
    "data:image/svg+xml,<svg onload=alert(1)>",
    "data:image/png;base64,iVBORw0KGgo=",
    "file:///etc/passwd",
    "blob:http://x.example/1",
    "filesystem:http://x.example/1",
    "ws://x.example",
    "ftp://x.example",
    "tel:1",
    "vscode://x",
    "command:workbench.action.terminal.new",
    "about:blank",
    "view-source:http://x.example",
    "//evil.example/x",
    "\\\\evil.example\\x",
    "/logout",
    "../x",
    "#x",
    "?x",
    "http:evil.example",
    "http:/evil.example",
    "httpx://evil.example",
]
LINKS = {
    "a link": "[x]({})",
    "a link in angle brackets": "[x](<{}>)",
    "an automatic link": "<{}>",
    "a reference": "[x][a]\n\n[a]: {}",
    "a reference in angle brackets": "[a]\n\n[a]: <{}>",
    "an image": "![x]({})",
    "an image in angle brackets": "![x](<{}>)",
    "an image by reference": "![x][a]\n\n[a]: <{}>",
    "an image in a link": "[![x](<{}>)](<{}>)",
}


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_that_is_not_for_the_web_or_mail_is_no_link(link, address):
    shown = inspect(to_html(LINKS[link].format(*[address] * LINKS[link].count("{}"))))
    assert shown.links == []
    is_picture = address.startswith("data:image/png") and "image" in link
    if "definition" not in link and "reference" not in link and not is_picture:
        assert shown.text.strip()


@pytest.mark.parametrize(
    "address",
    ["http://x.example/a?b=c&d=e#f", "HTTPS://X.example", "mailto:a@x.example", "http://é.example"],
)
def test_an_address_for_the_web_or_mail_is_a_link(address):
    assert len(inspect(to_html(f"[x]({address}) <{address}>")).links) == 2


def test_an_image_becomes_its_description_and_a_link():
    shown = inspect(to_html('![a *red* cat](https://x.example/cat.png "t")'))
    assert shown.text.strip() == "a red cat (https://x.example/cat.png)"
    assert shown.links == ["https://x.example/cat.png"]


def test_an_image_inside_a_link_leaves_the_link_whole():
    shown = inspect(to_html("[![cat](https://x.example/cat.png) see](https://x.example/)"))
    assert shown.text.strip() == "cat (https://x.example/cat.png) see"
    assert shown.links == ["https://x.example/"]


@pytest.mark.heavy
@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(HTML),
            st.sampled_from(ADDRESSES),
            st.sampled_from([*"[]()<>!`*_~$\\|#>\"'&;:-\n \t", "](", "![", "\n\n", "```", "$$"]),
            st.text(max_size=4),
        ),
        max_size=14,
    ),
    st.booleans(),
)
def test_no_mixture_of_hostile_pieces_gets_through(pieces, final):
    inspect(to_html("".join(pieces), final=final))


# -- mathematics


@pytest.mark.parametrize(
    ("markdown", "text"),
    [
        (r"$a_1 * b_1 * c$", r"$a_1 * b_1 * c$"),
        (r"\(a_1\) and \(b_1\)", r"$a_1$ and $b_1$"),
        ("$$\na < b \\\\\n\nc\n$$", None),
        ("$$\na < b \\\\\nc\n$$", "$$\na < b \\\\\nc\n$$"),
        ("\\[\na \\\\[2pt]\nb\n\\]", "$$\na \\\\[2pt]\nb\n$$"),
        (r"so \[ x^2 \] follows", r"so $$ x^2 $$ follows"),
        (r"so $$x$$ follows", r"so $$x$$ follows"),
        ("$$x$$, where\n$$y$$.", "$$x$$, where\n$$y$$."),
        (r"\[x\] where x is kept", None),
        ("> $$\n> x\n> $$", "$$\nx\n$$"),
        ("- a\n  $$\n  x\n  $$", None),
    ],
)
def test_mathematics_is_written_between_dollars(markdown, text):
    html = to_html(markdown)
    shown = inspect(html).text.strip()
    if text is not None:
        assert shown == text
        assert "<span>" not in html
    for letter in re.findall(r"\b[a-z]\b", markdown):
        assert letter in shown


@pytest.mark.parametrize(
    "markdown",
    [
        "$5 and $6",
        r"\$x\$",
        r"\\(x\\)",
        r"\\[x\\]",
        "&#36;x&#36;",
        "&dollar;x&dollar;",
        r"\\begin{align}x\\end{align}",
        "a $ b $ c",
    ],
)
def test_text_that_is_not_mathematics_is_not_typeset_by_the_front_end(markdown):
    html = to_html(markdown)
    for run in re.split(r"<[^>]*>", html):  # MathJax looks inside one run of text at a time
        assert not re.search(r"\$.+\$|\\[(\[].*\\[)\]]|\\begin\{", run)


@pytest.mark.parametrize(
    "macro", ["href", "url", "style", "class", "cssId", "mmlToken", "require", "fcolorbox"]
)
@pytest.mark.parametrize("around", ["${}$", "$${}$$", r"\({}\)", "$$\n{}\n$$", "\\[\n{}\n\\]"])
def test_tex_that_links_or_loads_is_shown_as_code(macro, around):
    html = to_html(around.format(rf"\{macro}{{javascript:alert(1)}}{{x=1}}"))
    assert f"<code>\\{macro}" in html.replace("\n", "")
    assert "$" not in html


# -- code


def test_growing_code_is_plain_and_final_code_is_coloured():
    text = "```python\nprint('<b>')\n```"
    assert to_html(text) == f"<pre style=\"{BOX}\"><code>print('&lt;b&gt;')\n</code></pre>\n"
    html = to_html(text, final=True)
    opening = f'<pre class="highlight" style="{BOX}"><code>'
    assert html.startswith(f'{opening}<span class="nb">print</span>')
    assert inspect(html).text == "print('<b>')\n\n"


@pytest.mark.parametrize("language", ["", "nosuchlanguage", "<b>", '"', "../../x", "\x00", "{"])
def test_code_in_an_unknown_language_is_plain(language):
    assert to_html(f"~~~{language}\nx = 1\n~~~", final=True) == to_html("~~~\nx = 1\n~~~")
    assert code_html("x = 1\n", language) == f'<pre style="{BOX}"><code>x = 1\n</code></pre>\n'


@pytest.mark.parametrize(
    "info", ["python", "Python", "{.python}", "python title=x", "python,x", "py"]
)
def test_the_language_is_found_in_the_ways_that_models_write_it(info):
    assert '<span class="k">' in to_html(f"```{info}\nreturn 1\n```", final=True)


@settings(max_examples=100, deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\t<&'\"")),
    st.sampled_from(["python", "html", "bash", "json", "c++", "markdown", "nosuch"]),
)
def test_code_html_shows_the_code_unchanged(code, language):
    assume(not code.startswith("\ufeff"))  # a lexer leaves it out
    assert inspect(code_html(code, language)).text == code + "\n"


def test_very_long_code_stays_plain():
    assert "<span" not in code_html("x = 1\n" * markup.MAX_COLOURED, "python")


@pytest.mark.parametrize(
    ("markdown", "found"),
    [
        ("```python\na\nb\n```", [("python", "a\nb")]),
        ("~~~ js x=1\na\n~~~\n\n```\nb\n```", [("js", "a"), ("", "b")]),
        ("```python\na\n", [("python", "a")]),
        ("```python\na", [("python", "a")]),
        ("````md\n```py\na\n```\n````", [("md", "```py\na\n```")]),
        ("1. x\n\n   ```sh\n   a\n     b\n   ```\n2. y", [("sh", "a\n  b")]),
        ("> ```sql\n> a\n> ```", [("sql", "a")]),
        ("```py\r\na\r\nb\r\n```\r\n", [("py", "a\nb")]),
        ("```\n```", [("", "")]),
        ("    indented\n\n`inline`", []),
        ("$$\n```\nx\n```\n$$", []),
        ("", []),
    ],
)
def test_code_blocks_finds_every_fenced_block(markdown, found):
    assert code_blocks(markdown) == found


@pytest.mark.parametrize(
    ("markdown", "there"),
    [
        ("[a]: http://x.example", True),
        ("text\n\n  [a b]:\n  http://x.example", True),
        ("> [a]: x", True),
        ("- [a]: x", True),
        ("1. [a\nb]: x", True),
        (r"[a\]]: x", True),
        ("[a](http://x.example): b", False),
        ("see [a]: b", False),
        ("d[a]: int", False),
        ("[]: x", False),
        ("", False),
    ],
)
def test_link_definitions_are_noticed(markdown, there):
    assert has_link_definitions(markdown) is there


# -- cutting


@pytest.mark.parametrize(
    ("markdown", "parts"),
    [
        ("", []),
        ("a", ["a"]),
        ("a\n\nb", ["a\n\n", "b"]),
        ("a\n \t\n\n\nb\n", ["a\n \t\n\n\n", "b\n"]),
        ("\n\na\n\n", ["\n\na\n\n"]),
        ("a\r\n\r\nb\r\rc", ["a\r\n\r\n", "b\r\r", "c"]),
        ("a\nb\n\n# c\nd\n\n---\n\ne", ["a\nb\n\n", "# c\nd\n\n", "---\n\n", "e"]),
        ("a\n\n---\n\nb\n===\n\nc", ["a\n\n", "---\n\n", "b\n===\n\n", "c"]),
        ("```\na\n\nb\n```\n\nc", ["```\na\n\nb\n```\n\n", "c"]),
        ("```\na\n\nb", ["```\na\n\nb"]),
        ("````\n```\n\na\n`````\n\nb", ["````\n```\n\na\n`````\n\n", "b"]),
        ("~~~\n```\n\n~~~ x\n\n~~~\n\na", ["~~~\n```\n\n~~~ x\n\n~~~\n\n", "a"]),
        ("``` a`b\n\nc", ["``` a`b\n\n", "c"]),
        ("- a\n\n- b\n\n  c\n\nd", ["- a\n\n- b\n\n  c\n\n", "d"]),
        ("a\n\n1. b\n\n2. c\n\n# d", ["a\n\n", "1. b\n\n2. c\n\n", "# d"]),
        ("- a\n\n  ```\n  b\n\n  c\n  ```\n\nd", ["- a\n\n  ```\n  b\n\n  c\n  ```\n\n", "d"]),
        ("- ```\n  a\n\nb\n\nc", ["- ```\n  a\n\n", "b\n\n", "c"]),
        ("> a\nb\n\n> c\n\nd", ["> a\nb\n\n", "> c\n\n", "d"]),
        ("| a |\n|---|\n| b |\n\nc", ["| a |\n|---|\n| b |\n\n", "c"]),
        ("    a\n\n    b\n\nc", ["    a\n\n    b\n\n", "c"]),
        ("$$\na\n$$\n\nb", ["$$\na\n$$\n\n", "b"]),
        ("\\[\n```\n\\]\n\nb\n\nc", ["\\[\n```\n\\]\n\n", "b\n\n", "c"]),
        ("$$\n```\n\na\n```\n\nb", ["$$\n```\n\na\n```\n\n", "b"]),
        ("<!-- a\n\nb -->\n\nc", ["<!-- a\n\n", "b -->\n\n", "c"]),
        ("a\u2028\u2028b\x0b\x0bc", ["a\u2028\u2028b\x0b\x0bc"]),
    ],
)
def test_a_text_is_cut_between_its_blocks(markdown, parts):
    assert blocks(markdown) == parts


@pytest.mark.parametrize(
    ("markdown", "finished"),
    [
        ("a\n\n", "a\n\n"),
        ("a\n", ""),
        ("a\n ", ""),
        ("a\n\n  ", "a\n\n"),
        ("- a\n\n", ""),
        ("- a\n\n1", ""),
        ("- a\n\n*", "- a\n\n"),
        ("- a\n\n-", ""),
        ("- a\n\n**", "- a\n\n"),
        ("1. a\n\n12", ""),
        ("1. a\n\n 12", ""),
        ("1. a\n\n12x", "1. a\n\n"),
        ("1. a\n\n12\n", "1. a\n\n"),
        ("- a\n\n ", ""),
        ("- a\n\nb", "- a\n\n"),
        ("    a\n\n", ""),
        ("    a\n\nb", "    a\n\n"),
        ("```\na\n\n", ""),
        ("```\na\n```\n\n", "```\na\n```\n\n"),
        ("```\na\n``\n\n", ""),
    ],
)
def test_a_growing_text_is_finished_where_nothing_can_change_it(markdown, finished):
    assert markdown[: safe_cut(markdown)] == finished


LINES = [
    "text", "more *text* `code`", "$x$ and $$y$$", "a | b", "|---|---|", "---|---", "# heading", "#",
    "---", "***", "* * *", "- - -", "===", "--", "- item", "-", "- ", "* item", "+", "1. one", "2. two",
    "1.", "2)", "10. ten", "123456789. x", "1234567890. x", "-    wide", "-     code", "-\ttab",
    "- - nested", "- 1. nested", "- ```", "- > q", "- # h", "1. ```py", "> quote", ">", "> - item",
    "> ```", "> # h", "```", "```py", "````", "~~~", "~~~ x", "``` a`b", "`````  ", "``` x", "$$", "$$ a",
    "a $$", "$$ a $$", "$$ a $$ b", r"\[", r"\]", r"\[ a \]", r"\[ a", r"a \]", r"\\]", "<!--", "-->",
    "<div>", "</div>", "![i](http://x.example)", "[a](http://x.example)", "    ", "\t", "\x0b", "**bold",
    "12", "1", "=", "\u00a0",
]  # fmt: skip
indents = st.sampled_from(
    ["", "", "", "", " ", "  ", "   ", "    ", "     ", "\t", " \t", "      "]
)
lines = st.one_of(st.just(""), st.just(""), st.builds(str.__add__, indents, st.sampled_from(LINES)))
texts = st.builds(
    lambda parts, end: end.join(parts),
    st.lists(lines, max_size=14),
    st.sampled_from(["\n", "\n", "\n", "\r\n", "\r"]),
)


@pytest.mark.heavy
@settings(max_examples=1500, deadline=None)
@given(texts)
@example("- # h\ntext\n\n  ```\n\ntext\n  ```\n\ntext")
@example("- ```\n  a\n  ```\ntext\n\n   more\n\ntext")
@example("> # h\n$$\n```\n$$\n\ntext\n\ntext")
@example("text\n2. two\n   ```\n\ntext")
@example("text\n$$\n# h\n$$\n```\na $$\n\ntext")
@example("-\n\n  ```\n\ntext\n```\n\ntext")
@example("a | b\n---|---\n2. two\n\n   text\n\ntext")
def test_blocks_rendered_one_by_one_are_the_whole(text):
    parts = blocks(text)
    assert "".join(parts) == text
    assert "".join(map(to_html, parts)) == to_html(text)
    assert all(part.strip(" \t\r\n") for part in parts[1:])


@pytest.mark.heavy
@settings(max_examples=600, deadline=None)
@given(texts)
@example("a\n\n- b\n\n12. c\n\n  d\n\n1")
@example("1. one\n\n 1. one")
def test_what_is_frozen_of_a_growing_text_is_never_changed_by_what_comes_later(text):
    whole = to_html(text)
    for cut in {safe_cut(text[:end]) for end in range(len(text) + 1)}:
        assert to_html(text[:cut]) + to_html(text[cut:]) == whole, (text[:cut], text[cut:])


@pytest.mark.heavy
@settings(max_examples=300, deadline=None)
@given(texts, st.lists(st.integers(1, 40), max_size=20))
def test_a_text_frozen_again_and_again_looks_like_the_whole(text, sizes):
    frozen, tail, begin = "", "", 0
    for size in [*sizes, len(text)]:
        tail += text[begin : begin + size]
        begin += size
        cut = safe_cut(tail)
        frozen += to_html(tail[:cut])
        tail = tail[cut:]
    assert frozen + to_html(tail) == to_html(text)


def test_parts_may_be_asked_to_have_a_size():
    text = "A few words.\n\n" * 40 + "End"
    parts = blocks(text, 100)
    assert "".join(parts) == text
    assert {len(part) for part in parts[:-1]} == {112}
    assert "".join(map(to_html, parts)) == to_html(text)


def test_most_of_an_ordinary_answer_is_frozen_while_it_grows():
    answer = (
        "# Title\n\nSome text with $5.\n\n1. First:\n   ```sh\n   ls\n\n   pwd\n   ```\n2. Second\n\n"
        "   more\n\nThen\n\n$$\nx\n$$\n\n```python\na\n\nb\n```\nand\n\n| a |\n|---|\n| b |\n\nEnd"
    )
    assert safe_cut(answer) == answer.index("End")
    assert len(blocks(answer)) == 8


# -- one endless paragraph


def test_an_endless_paragraph_is_cut_at_a_space_before_a_word():
    text = "Some words and 12 numbers. " * 30
    cut = safe_cut(text, 400)
    assert 400 < cut < len(text) - 20
    assert text[cut - 1] == " "
    assert text[cut].isalpha()
    assert safe_cut(text) == 0
    assert safe_cut(text[:400], 400) == 0


@pytest.mark.parametrize(
    "open_mark",
    ["`code ", "**bold ", "*thin ", "$x ", "$$x ", "[label ", "[label](http://x.example 'title ",
     r"\(x ", r"\[x ", "~~gone ", "_thin ", "``code ` "],
)  # fmt: skip
def test_an_endless_paragraph_is_not_cut_inside_a_mark(open_mark):
    text = "A few words " + open_mark + "go on and on " * 40
    assert safe_cut(text, 400) <= len("A few words ")


@pytest.mark.parametrize(
    "mark", ["`c d`", "**b d**", "2 * 3", "snake_case", "[l d](http://x y)", "a < b"]
)
def test_an_endless_paragraph_is_cut_after_marks_that_are_closed(mark):
    text = f"Words, {mark} and more words " * 30
    assert safe_cut(text, 400) > len(text) - 60


@pytest.mark.parametrize("begin", ["# ", "- ", "1. ", "> ", "| ", "    ", "```", "$$", "text\n- "])
def test_only_a_paragraph_is_cut_softly(begin):
    assert safe_cut(begin + "many words " * 60, 400) == 0


@pytest.mark.heavy
@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "word",
                "a",
                "`c d`",
                "**b e**",
                "*f g*",
                "[l m](http://x.example)",
                "$x y$",
                "b_c",
                "3 * 4",
            ]
        ),
        min_size=20,
    )
)
def test_a_soft_cut_loses_and_changes_no_word(words):
    text = "Begin " + " ".join(words)
    cut = safe_cut(text, 50)

    def shown(html):
        return re.sub(r"\s+", " ", inspect(html).text).strip()

    whole = shown(to_html(text))
    assert shown(to_html(text[:cut]) + to_html(text[cut:])) == whole


# -- costs


@pytest.mark.heavy
@pytest.mark.parametrize(
    "unit",
    ["text\n\n", "x", "- a\n\n", "```\n", "$$ a\n", "\\[ a\n# h\n", "$$ a\n# h\n", "> ", "\n", " ",
     "- a\ntext\n  ```\n", "`", "[", "\\[\n", "text\n$$\n", "\r"],
)  # fmt: skip
@pytest.mark.parametrize("function", [blocks, lambda t: safe_cut(t, 9), has_link_definitions])
def test_cutting_takes_linear_time(unit, function):
    def seconds(length: int) -> float:
        text = unit * (length // len(unit))
        begin = time.process_time()
        function(text)
        return time.process_time() - begin

    few = min(seconds(10_000) for _ in range(3))
    bound = max(few, 0.001) * 16 * 8  # quadratic would be 256 times as long
    assert any(seconds(160_000) < bound for _ in range(3)), "a busy machine gets three tries"


@pytest.mark.heavy
def test_importing_costs_nothing_and_pygments_waits_for_final_code():
    code = (
        "import sys, json; from ipychat.text import markup; a = set(sys.modules);"
        "markup.to_html('```python\\nx\\n```'); b = set(sys.modules);"
        "markup.to_html('text', final=True); c = set(sys.modules);"
        "print(json.dumps([sorted(a), sorted(b), sorted(c)]))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    imported, growing, final = map(set, json.loads(run.stdout))
    assert imported.isdisjoint({"markdown_it", "mdit_py_plugins", "nh3", "pygments"})
    assert "markdown_it" in growing
    assert "pygments" not in growing | final


def test_the_parts_of_a_long_text_come_in_order():
    text = "a\n\n" * 1000
    parts = blocks(text)
    assert len(parts) == 1000
    assert all(a == b for a, b in pairwise(parts))


def test_a_lexer_that_fails_costs_the_colours_only(monkeypatch):
    monkeypatch.setattr(markup, "_lexer", lambda _: object())
    assert code_html("x\n", "python") == f'<pre style="{BOX}"><code>x\n</code></pre>\n'


def test_what_the_page_is_held_to_is_what_is_rendered():
    """Else: python -m tests.answers."""
    assert answers.PATH.read_text(encoding="utf-8") == answers.written()
    assert len(answers.ANSWERS) == 60


@pytest.mark.parametrize(
    ("block", "shown"),
    [
        ("a $$x^2", "a "),
        ("a \\(x", "a "),
        ("see ![a](data:image/png;base64,AA", "see "),
        ("text\n```pyth", "text\n"),
        ("| a | b |", ""),
        ("| a | b |\n|---|---|\n| 1 | 2", "| a | b |\n|---|---|\n"),
        ("`$$` and $5", "`$$` and $5"),
    ],
)
def test_of_a_block_that_grows_halves_are_not_shown(block, shown):
    assert markup.settled(block) == shown
