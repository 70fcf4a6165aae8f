"""Code blocks in Markdown."""

import re


def fenced(text: str, language: str = "") -> str:
    """Write `text` as a code block, in a fence that is longer than any in it."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.removesuffix(chr(10))}\n{fence}"
