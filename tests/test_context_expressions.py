"""The expressions in a prompt: which are found, what becomes of them, how they fail."""

import pytest
from hypothesis import given, strategies as st

from ipychat.context import expressions
from ipychat.context.expressions import expand
from ipychat.errors import UsageError


def evaluator(**names):
    return lambda expression: eval(expression, names)


def test_an_expression_is_replaced_by_the_text_of_its_value():
    assert expand("{{ x }} and {{y}}.", evaluator(x="a", y=[1])) == "a and [1]."
    assert expand("no braces", evaluator()) == "no braces"


@pytest.mark.parametrize(
    "text",
    [
        '{"a": {"b": 1}}',
        'f"{x}" and { y } and {}',
        r"\frac{a}{b}",
        "{{ is never closed",
        "}} closes nothing {{",
        "",
    ],
)
def test_braces_that_are_no_pair_stay_as_written(text):
    assert expand(text, evaluator()) == text


@given(st.text(alphabet="{} ax\n"))
def test_a_text_without_an_opening_pair_stays_as_written(text):
    text = text.replace("{{", "{")
    while "{{" in text:
        text = text.replace("{{", "{")
    assert expand(text, evaluator()) == text


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ('{{ {"a": 1}["a"] }}', "1"),
        ('{{{"a": 1}}}', "{'a': 1}"),
        ('{{ {"a": {"b": 1}}["a"] }}.', "{'b': 1}."),
        ('{{ f"{x}" }}', "X"),
        ('{{ f"{{{x}}}" }}', "{X}"),
        ('{{ "}}" }}', "}}"),
        ("{{ [\n  x,\n  1,\n] }}", "['X', 1]"),
        ("{{ x\n   .lower() }}", "x"),
        ('{"json": {"b": {{ 1 + 1 }}}}', '{"json": {"b": 2}}'),
        ("{{ x # the name }}", "X"),
        ("{{ r'\\d' }}", "\\d"),
    ],
)
def test_an_expression_may_hold_braces_texts_and_lines(text, expanded):
    assert expand(text, evaluator(x="X")) == expanded


def test_expressions_are_evaluated_once_from_left_to_right_and_their_text_is_not_scanned():
    seen = []

    def evaluate(expression):
        seen.append(expression)
        return "{{ c }}"

    assert expand("{{ a }} {{ b }} {{ a }}", evaluate) == "{{ c }} {{ c }} {{ c }}"
    assert seen == ["a", "b", "a"]


def test_a_failing_expression_is_one_line_that_names_it_and_one_about_raw():
    def evaluate(expression):
        raise ValueError("first\nsecond")

    with pytest.raises(UsageError) as raised:
        expand("{{ df.head() }}", evaluate)
    first, second = str(raised.value).splitlines()
    assert first == "{{df.head()}} failed: ValueError: first second"
    assert "--raw sends the prompt as written" in second


def test_a_value_whose_str_fails_is_told_like_an_expression_that_fails():
    class Hostile:
        def __str__(self):
            raise OSError("no")

    with pytest.raises(UsageError, match=r"\{\{x\}\} failed: OSError: no"):
        expand("{{ x }}", evaluator(x=Hostile()))


def test_an_error_without_a_text_and_one_whose_text_fails_are_told_by_their_type():
    class HostileError(Exception):
        def __str__(self):
            raise OSError

    for error, told in ((KeyError(), "KeyError"), (HostileError(), "HostileError")):

        def evaluate(expression, error=error):
            raise error

        with pytest.raises(UsageError, match=f"failed: {told}\n"):
            expand("{{ x }}", evaluate)


def test_an_interrupt_while_evaluating_stays_an_interrupt():
    def evaluate(expression):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        expand("{{ x }}", evaluate)


@pytest.mark.parametrize(
    "text", ["{{ is this one? }}", "{{}}", "{{ a) + (b }}", "{{ a)\n+ (b }}", "{{ \0 }}"]
)
def test_what_is_no_expression_is_an_error_before_anything_is_evaluated(text):
    def evaluate(expression):
        raise AssertionError

    with pytest.raises(UsageError, match="There is no expression in") as raised:
        expand("{{ fine }} " + text, evaluate)
    assert "--raw" in str(raised.value)


def test_the_ends_of_an_expression_that_are_tried_are_few(monkeypatch):
    tried = []
    monkeypatch.setattr(expressions, "_as_expression", tried.append)
    with pytest.raises(UsageError):
        expand("{{ ? " + "}} " * 100_000, evaluator())
    assert len(tried) == expressions.MAX_CANDIDATES
