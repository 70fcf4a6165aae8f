"""The cells that ran and the names in them."""

import pytest
from hypothesis import example, given, strategies as st

from ipychat import secrets
from ipychat.context._text import BUDGET
from ipychat.context.cells import cells_text, names_in

SECRET = "sk-a-key-of-the-notebook's-user-0123456789"


@pytest.fixture(autouse=True)
def _known():
    secrets.register(SECRET)


# -- cells


def test_cells_are_their_sources_and_outputs_in_fences_oldest_first():
    assert cells_text([("x = 1", None), ("x", "1\n"), ("", "")]) == (
        "Cell:\n```python\nx = 1\n```\n\n"
        "Cell:\n```python\nx\n```\n\n"
        "Its output:\n```\n1\n```\n\n"
        "Cell:\n```python\n\n```"
    )
    assert cells_text([]) == ""


def test_the_fence_of_a_cell_is_longer_than_any_in_it():
    assert "````python\n'```'\n````" in cells_text([("'```'", None)])
    assert "`````\n````\n`````" in cells_text([("x", "````")])


def test_a_long_output_is_cut_and_says_what_is_missing():
    text = cells_text([("x", "begin " + "x" * 10**6 + " end")])
    assert "begin x" in text
    assert text.endswith(" more characters\n```")
    assert len(text) < BUDGET + 100


@pytest.mark.parametrize("before", [0, 1300, 1320, 1990])
def test_a_secret_in_a_cell_is_masked_and_never_halved(before):
    output = "x" * before + SECRET + "y" * before
    text = secrets.mask(cells_text([(f"key = {SECRET!r}", output)]))  # as the firewall does
    assert SECRET[:6] not in text
    assert "456789" not in text
    assert secrets.MASK in text


# -- names


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("y = df.head(n)\nprint(y, len(x))", ["y", "df", "n", "x"]),
        ("import numpy as np, os.path\nfrom a import b as c, d", []),
        ("from a import *", []),
        ("def f(a=b):\n    return c\nclass C(D): pass", ["b", "c", "D"]),
        ("x if y else z", ["x", "y", "z"]),
        ("{a: b, c: d}", ["a", "b", "c", "d"]),
        ("f'{a}{b!r:>{c}}'", ["a", "b", "c"]),
        ("await task", ["task"]),
        ("x = (a\n  % b)", ["x", "a", "b"]),
        ("%time\nx", ["x"]),
        ("%%time\nx = y", ["x", "y"]),
        ("%%time y\nx", ["x"]),
        ("\n%%bash\necho df", []),
        ("%%chat\nwhat is df?", []),
        ("!ls df\n?df\ndf?\ndf.head??\nx", ["x"]),
        ("if x:\n    %matplotlib inline\ny", ["x", "y"]),
        ("files = !ls {folder}\nfiles", ["files"]),
        ("", []),
    ],
)
def test_the_names_of_a_cell_in_order_of_appearance(source, names):
    assert names_in(source) == names


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("df.head(\nx", ["df", "x"]),
        ("for row in df\n    total += row.price", ["row", "df", "total"]),
        ("print(a b)", ["a", "b"]),
        ("plot(x, color=c", ["plot", "x", "color", "c"]),
        ("a = f'{x}' y", ["a", "f", "x", "y"]),
        ("if a:\n        b\n    c\nd", ["a", "b", "c", "d"]),
        ("x = 'open\ny = z", ["x", "y", "z"]),
        ("%time a\nb c", ["time", "a", "b", "c"]),
        ("a $ b", ["a", "b"]),
    ],
)
def test_a_cell_with_a_syntax_error_still_has_names(source, names):
    assert [name for name in names_in(source) if name != "open"] == names


@example('=%"""')
@given(st.text(alphabet="ab.(){}[]'\"\\\n %!?=f:#"))
def test_any_text_has_names_or_none(source):
    assert all(name.isidentifier() for name in names_in(source))


def test_a_cell_that_is_too_deep_for_the_parser_still_has_names():
    assert names_in("(" * 10_000 + "x" + ")" * 10_000) in (["x"], [])
