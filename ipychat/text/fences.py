"""Code blocks in Markdown."""

import re


def fenced(text: str, language: str = "") -> str:
    """Write `text` as a code block, in a fence longer than any run of backticks in it."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.removesuffix(chr(10))}\n{fence}"
