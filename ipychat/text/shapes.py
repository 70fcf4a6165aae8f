"""What is known to be secret, and what only looks so: tokens of well-known shape.

One set of shapes for what is sent and for `ipychat.audit`. A question is masked with the functions
here, an answer with those of `secrets`: a model may show what a token looks like.
"""

from __future__ import annotations

import base64
import binascii
import functools
import re
from collections.abc import Iterator
from os.path import commonprefix
from typing import Any, NamedTuple

from ipychat import secrets

BEFORE, BEHIND = r"(?<![A-Za-z0-9+/_-])", r"(?![A-Za-z0-9+/_-])"
TOKENS = {
    "a key of Anthropic's": ("sk-ant-", r"[\w-]{24,}"),
    "a key of OpenRouter's": ("sk-or-", r"[\w-]{24,}"),
    "a key of OpenAI's form": ("sk-", r"(?!ant-|or-)(?=[\w-]*\d)(?=[\w-]*\w{16})[\w-]{24,}"),
    "a key of Google's": ("AIza", r"[\w-]{35}"),
    "an OAuth token of Google's": ("ya29.", r"[\w-]{40,}"),
    "a client's secret of Google's": ("GOCSPX-", r"[\w-]{24,}"),
    "a key of xAI's": ("xai-", r"\w{40,}"),
    "a key of Groq's": ("gsk_", r"\w{40,}"),
    "a key of Perplexity's": ("pplx-", r"\w{40,}"),
    "a key of Together's": ("tgp_v1_", r"[\w-]{30,}"),
    "a key of LangSmith's": ("lsv2_pt_ lsv2_sk_", r"\w{30,}"),
    "a token of Hugging Face's": ("hf_", r"[A-Za-z0-9]{30,}"),
    "a token of Replicate's": ("r8_", r"[A-Za-z0-9]{30,}"),
    "a token of Databricks's": ("dapi", r"[0-9a-f]{32}(?:-\d)?"),
    "a personal token of GitHub's": ("ghp_ gho_ ghu_ ghs_ ghr_", r"[A-Za-z0-9]{36,}"),
    "a fine-grained token of GitHub's": ("github_pat_", r"\w{60,}"),
    "a personal token of GitLab's": ("glpat-", r"[\w-]{20,}"),
    "a token of PyPI's": ("pypi-AgE", r"[\w-]{50,}"),
    "a token of npm's": ("npm_", r"[A-Za-z0-9]{36}"),
    "a token of Slack's": ("xoxa- xoxb- xoxe- xoxo- xoxp- xoxr- xoxs-", r"[\w-]{20,}"),
    "a key of Stripe's": ("sk_live_ rk_live_", r"[A-Za-z0-9]{20,}"),
    "a key of AWS's": ("AKIA ASIA", r"[0-9A-Z]{16}"),
    "a JSON web token": ("eyJ", r"[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"),
}
"""How tokens begin, and how they go on."""
OTHERS = {
    "a private key": (
        "-----BEGIN ",
        (
            r"(?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----[^•]{0,200}?[A-Za-z0-9+/]{40}"
            # all of it, or the lines that there are of one that was cut off
            r"(?:[^-•]*-----END (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----"
            r"|(?:(?:\\[nr]|[\s\"'+,>|])*[A-Za-z0-9+/=]{12,})*)"
        ),
    ),
    "a password in an address": (
        "://",
        (
            r"(?<=[a-z0-9]://)[^\s/:@'\"<>{}]{0,200}:(?!(?i:pass(?:word)?|secret|token)@)"
            r"([^\s/:@'\"<>{}•*$%]{3,200})@(?!example\.(?:com|net|org)\b)[\w.\[-]"
        ),
    ),
    "a token of a Jupyter server": ("token=", "(?<=[?&]token=)([0-9a-f]{32,})"),
}
"""The same for what may stand within a word; where only a group of it is secret, that."""
SHORTEST = 10
"""Characters of the shortest text in which something may look like a secret: ://a:bcd@e."""
PLACEHOLDER = (
    "(?i)(?<![a-z0-9])(?:example|placeholder|your|dummy|redacted|change.?me)|example$"
    r"|([xX0*._-])\1{5}"
)
"""What stands for a secret in an example."""


class Shape(NamedTuple):
    """What a secret looks like that no one has told."""

    what: str
    pattern: re.Pattern[str]


@functools.cache
def shapes() -> dict[str, list[Shape]]:
    """Return the shapes of well-known secrets, by how they begin; compiled when first wanted."""
    by_begin: dict[str, list[Shape]] = {}
    for what, (begins, tail) in (TOKENS | OTHERS).items():
        words = begins.split(" ") if what in TOKENS else [begins]
        begin = f"(?:{'|'.join(map(re.escape, words))})"
        around = (BEFORE, BEHIND) if what in TOKENS else ("", "")
        shape = Shape(what, re.compile(f"{around[0]}{begin}{tail}{around[1]}", re.ASCII))
        common = commonprefix(words)  # noqa: RUF071 - of words, no paths
        for word in [common] if len(common) > 2 else words:  # `gh` is in too many others
            by_begin.setdefault(word, []).append(shape)
    for word in sorted(by_begin, key=len, reverse=True):  # what begins alike is looked for once
        if shorter := [one for one in by_begin if word != one and word.startswith(one)]:
            by_begin[shorter[0]] += by_begin.pop(word)
    return by_begin


def looks(text: str) -> Iterator[tuple[int, int, str]]:
    """Give where something in a text looks like a secret, and like which.

    What only stands for one in an example is left out.
    """
    for word, several in shapes().items():
        # a hundred times as fast as a search for the pattern; one character ten times as fast again
        at = text.find(word) if word[-1] in text else -1
        while at >= 0:
            end = at + 1
            for what, pattern in several:
                found = pattern.match(text, at)
                if found and not re.search(PLACEHOLDER, found[0]):
                    yield *found.span(pattern.groups), what
                    end = found.end()
                    break
            at = text.find(word, end)


def names_in(content: str | bytes) -> set[str]:
    """Return the names of the secrets in `content`, including what only looks like one."""
    names = secrets.names_in(content)
    if isinstance(content, bytes):
        content = content.decode("latin-1")
    elif data := _data(content):
        content = data.decode("latin-1")
    return names | {what for _, _, what in looks(content)}


def mask(text: str) -> str:
    """`text` with every secret replaced, and with what only looks like one."""
    text = secrets.mask(text)
    for begin, end in _last_first(text):
        text = text[:begin] + secrets.MASK + text[end:]
    return text


def mask_bytes(data: bytes) -> bytes:
    """As `mask`, for what may be no text: it stays as long as it was."""
    data = secrets.mask_bytes(data)
    if found := _last_first(data.decode("latin-1")):
        changed = bytearray(data)
        for begin, end in found:
            changed[begin:end] = b"*" * (end - begin)
        return bytes(changed)
    return data


def mask_url(url: str) -> str:
    """As `mask`; what a `data:` URL carries in base64 stays as long as it was."""
    if (data := _data(url)) is None:
        return mask(url)
    url = secrets.mask_url(url)
    data = _data(url) or b""
    if (changed := mask_bytes(data)) != data:
        return f"{url.partition(',')[0]},{base64.b64encode(changed).decode()}"
    return url


def masked(value: Any) -> Any:
    """Return a value that JSON can carry without what is a secret in its texts, or looks so."""
    match value:
        case str():
            return value if len(value) < SHORTEST else mask_url(value)
        case dict():
            return {
                name if len(name) < SHORTEST else mask(name): masked(one)
                for name, one in zip(map(str, value), value.values(), strict=True)
            }
        case list() | tuple():
            return [masked(one) for one in value]
    return secrets.masked(value)


def _last_first(text: str) -> list[tuple[int, int]]:
    """Return where something looks like a secret, the last first; of what overlaps the longest."""
    found: list[tuple[int, int]] = []
    for begin, end, _ in sorted(looks(text)):
        if found and begin < found[-1][1]:
            begin, end = found[-1][0], max(end, found.pop()[1])  # noqa: PLW2901 - they are one
        found.append((begin, end))
    return found[::-1]


def _data(url: str) -> bytes | None:
    """Decode the base64 of a `data:` URL; None for any other text."""
    head, data = secrets.parts(url) if ";" in url else ("", "")
    if not head:
        return None
    try:
        return base64.b64decode(data + "=" * (-len(data) % 4))
    except (binascii.Error, ValueError):
        return b""
