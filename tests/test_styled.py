"""Markdown in a terminal: styled while it comes, with nothing lost and nothing let through."""

import re
import time

import pytest

from ipychat import secrets
from ipychat.text.styled import Styled

BOLD, UNDERLINED, CODE = "\x1b[1m", "\x1b[4m", "\x1b[36m"
ALL = """# Title here

Some **bold text
over lines** and *it* and `code x` with 2 * 3 and a snake_case_name, **kwargs alone,
[a link](https://example.org/x) <https://auto.example>. $x_1$ &amp; \\*not\\*.

## Second

- one **b**
- [x] done
  - nested `x`
- [ ] open
2. second

> quote **bold** here
> more

```python
def f(x):
    \"\"\"doc
    more\"\"\"
    return "a" + 1
```

| a | number |
|---|---:|
| **x** | 12 |
| 日本 | 3 |

---

`unclosed at the
end"""
SHOWN = """Title here

Some bold text
over lines and it and code x with 2 * 3 and a snake_case_name, **kwargs alone,
a link (https://example.org/x) https://auto.example. $x_1$ & *not*.

Second

• one b
☑ done
  • nested x
☐ open
2. second

│ quote bold here
│ more

```python
def f(x):
    \"\"\"doc
    more\"\"\"
    return "a" + 1
```

a     number
────  ──────
x         12
日本       3

────────────────────────────────────────

`unclosed at the
end"""


def styled(text, size=10**9):
    one = Styled()
    written = [one.take(text[at : at + size]) for at in range(0, len(text), size)]
    return "".join([*written, one.rest()])


def plain(text):
    return re.sub(r"\x1b\[[\d;]*m", "", text)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 40, 10**9])
def test_it_is_the_same_in_whatever_pieces_it_comes(size):
    assert plain(styled(ALL, size)) == SHOWN


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("# One\n", "\x1b[1;4mOne\x1b[0m\n"),
        ("a **b** c", f"a {BOLD}b\x1b[0m c"),
        ("`x`", f"{CODE}x\x1b[0m"),
        ("[x](https://a.example)", f"{UNDERLINED}x\x1b[0m\x1b[2m (https://a.example)\x1b[0m"),
        ("[x](javascript:alert(1))", "[x](javascript:alert(1))"),
        ("snake_case and __init__.py", f"snake_case and {BOLD}init\x1b[0m.py"),
        ("no | table", "no | table"),
        ("| not | one\nafter", "| not | one\nafter"),
        ("-", "-"),
        ("a - b", "a - b"),
    ],
)
def test_marks_become_styles(text, shown):
    assert styled(text) == shown


def test_words_come_at_once_and_what_is_open_waits():
    one = Styled()
    assert one.take("Some words and **a ") == "Some words and "
    assert one.take("bold** one ") == f"{BOLD}a bold\x1b[0m one "
    assert one.take("\n\n```python\nx = 1") == "\n\n\x1b[2m```python\x1b[0m\n"
    assert "1" in one.take("\n")


def test_what_is_never_closed_waits_for_a_line_or_two_at_most():
    one = Styled()
    assert one.take("**" + "word " * 20) == ""
    assert one.take("word " * 80).startswith("**word")


def test_code_is_coloured_as_a_part_of_its_block():
    shown = styled('```python\n"""a\nif b\n"""\nif c: pass\n```\n')
    assert "\x1b[33mif b" in shown, "a string's second line"
    assert "\x1b[34mif" in shown


def test_a_table_that_is_too_wide_stays_as_it_was_written():
    table = f"| a | b |\n|---|---|\n| {'x' * 60} | {'y' * 60} |\n"
    assert styled(table) == table


@pytest.mark.parametrize(
    "evil",
    ["\x1b[2J", "&#27;[2J", "&#x9b;2J", "&#x202e;", "`\x1b]52;c;aGk=\x07`", "[x](<https://a\x1b[2J>)",
     "![\x1b[2J](https://a.example)", "| \x1b[2J | b |\n|---|---|\n| \x9b2J | c |\n",
     "```\x1b[2J\n\x1b[2J\n```", "# \x07", "> \x08", "```python\n# \x1b[2J\n"],
)  # fmt: skip
def test_nothing_but_styles_reaches_the_terminal(evil):
    for size in (1, 10**9):
        assert not re.search(
            r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", plain(styled(evil, size))
        )


def test_a_secret_that_marks_hide_is_masked():
    secrets.register(secret := "sk-canary-0123456789abcdef")
    hidden = secret.replace("c", "&#99;")
    for text in (hidden, f"**{hidden}**", f"| a |\n|---|\n| {hidden} |\n", f"```\n{secret}\n```"):
        assert "canary" not in styled(text)


@pytest.mark.parametrize(
    "text",
    ["*a ", "`", "[", "**a", "| a ", "| a |\n", "- ", " ", "<a", "```x", "```python\nx = '", "_a_",
     "&a", "a|", "1.", "> "],
)  # fmt: skip
def test_a_hostile_answer_takes_no_longer_than_its_length(text):
    text *= 60_000 // len(text)
    begin = time.thread_time()
    one = Styled()
    for at in range(0, len(text), 1000):
        one.take(text[at : at + 1000])
    one.rest()
    took = time.thread_time() - begin
    assert took < 3, f"{took:.1f} s for {len(text):,} characters"
