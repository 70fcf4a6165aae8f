"""Likely secrets: tokens of well-known shape, in addition to the known ones.

`ipychat.audit` and everything that is sent use the same shapes. Questions are masked with the
functions here, answers with those of `secrets`: a model may show what a token looks like.
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
    "an Anthropic key": ("sk-ant-", r"[\w-]{24,}"),
    "an OpenRouter key": ("sk-or-", r"[\w-]{24,}"),
    "an OpenAI-style key": ("sk-", r"(?!ant-|or-)(?=[\w-]*\d)(?=[\w-]*\w{16})[\w-]{24,}"),
    "a Google key": ("AIza", r"[\w-]{35}"),
    "a Google OAuth token": ("ya29.", r"[\w-]{40,}"),
    "a Google client secret": ("GOCSPX-", r"[\w-]{24,}"),
    "an xAI key": ("xai-", r"\w{40,}"),
    "a Groq key": ("gsk_", r"\w{40,}"),
    "a Perplexity key": ("pplx-", r"\w{40,}"),
    "a Together key": ("tgp_v1_", r"[\w-]{30,}"),
    "a LangSmith key": ("lsv2_pt_ lsv2_sk_", r"\w{30,}"),
    "a Hugging Face token": ("hf_", r"[A-Za-z0-9]{30,}"),
    "a Replicate token": ("r8_", r"[A-Za-z0-9]{30,}"),
    "a Databricks token": ("dapi", r"[0-9a-f]{32}(?:-\d)?"),
    "a personal GitHub token": ("ghp_ gho_ ghu_ ghs_ ghr_", r"[A-Za-z0-9]{36,}"),
    "a fine-grained GitHub token": ("github_pat_", r"\w{60,}"),
    "a personal GitLab token": ("glpat-", r"[\w-]{20,}"),
    "a PyPI token": ("pypi-AgE", r"[\w-]{50,}"),
    "an npm token": ("npm_", r"[A-Za-z0-9]{36}"),
    "a Slack token": ("xoxa- xoxb- xoxe- xoxo- xoxp- xoxr- xoxs-", r"[\w-]{20,}"),
    "a Stripe key": ("sk_live_ rk_live_", r"[A-Za-z0-9]{20,}"),
    "an AWS key": ("AKIA ASIA", r"[0-9A-Z]{16}"),
    "a JSON web token": ("eyJ", r"[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"),
}
"""Prefixes of tokens, and the patterns of what follows."""
OTHERS = {
    "a private key": (
        "-----BEGIN ",
        (
            r"(?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----[^•]{0,200}?[A-Za-z0-9+/]{40}"
            # the whole key, or the lines before it was cut off
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
    "a Jupyter server token": ("token=", "(?<=[?&]token=)([0-9a-f]{32,})"),
}
"""The same for prefixes that may occur inside a word; if a pattern has a group, only that is
secret."""
MIN_LENGTH = 10
"""Length of the shortest text that can contain a likely secret: ://a:bcd@e."""
LONG_WORD = r"[A-Za-z0-9+/=]{12,}"
"""A word of a private key."""
PLACEHOLDER = (
    "(?i)(?<![a-z0-9])(?:example|placeholder|your|dummy|redacted|change.?me)|example$"
    r"|([xX0*._-])\1{5}"
)
"""Placeholders that examples have in place of a secret."""


class Shape(NamedTuple):
    """The shape of one kind of token."""

    what: str
    pattern: re.Pattern[str]


@functools.cache
def shapes() -> dict[str, list[Shape]]:
    """Return the shapes of well-known tokens by prefix; compiled on first use."""
    by_begin: dict[str, list[Shape]] = {}
    for what, (begins, tail) in (TOKENS | OTHERS).items():
        words = begins.split(" ") if what in TOKENS else [begins]
        begin = f"(?:{'|'.join(map(re.escape, words))})"
        around = (BEFORE, BEHIND) if what in TOKENS else ("", "")
        shape = Shape(what, re.compile(f"{around[0]}{begin}{tail}{around[1]}", re.ASCII))
        common = commonprefix(words)  # noqa: RUF071 - prefixes of words, not paths
        for word in [common] if len(common) > 2 else words:  # `gh` begins too many other words
            by_begin.setdefault(word, []).append(shape)
    # shapes with a common prefix are searched for once
    for word in sorted(by_begin, key=len, reverse=True):
        if shorter := [one for one in by_begin if word != one and word.startswith(one)]:
            by_begin[shorter[0]] += by_begin.pop(word)
    return by_begin


def looks(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield the start, end and name of each likely secret in a text.

    Placeholders, as in examples, are left out.
    """
    for word, several in shapes().items():
        # A substring search is 100 times as fast as the pattern, and for one character 10 times
        # faster still.
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
    """Return the names of the known and likely secrets in `content`."""
    names = secrets.names_in(content)
    if isinstance(content, bytes):
        content = content.decode("latin-1")
    elif data := _data(content):
        content = data.decode("latin-1")
    return names | {what for _, _, what in looks(content)}


def mask(text: str) -> str:
    """Replace every known or likely secret in `text`."""
    text = secrets.mask(text)
    for begin, end in _last_first(text):
        text = text[:begin] + secrets.MASK + text[end:]
    return text


def mask_words(text: str) -> str:
    """Like `mask`, where the user decides: of what holds blanks, only long words are replaced.

    A secret of many lines could be a frame around code, which must be seen.
    """
    text = secrets.mask(text)
    for begin, end in _last_first(text):
        found = text[begin:end]
        several = re.search(r"\s", found)
        shown = re.sub(LONG_WORD, secrets.MASK, found) if several else secrets.MASK
        text = text[:begin] + shown + text[end:]
    return text


def mask_bytes(data: bytes) -> bytes:
    """Like `mask`, for bytes that may not be text: the length stays the same."""
    data = secrets.mask_bytes(data)
    if found := _last_first(data.decode("latin-1")):
        changed = bytearray(data)
        for begin, end in found:
            changed[begin:end] = b"*" * (end - begin)
        return bytes(changed)
    return data


def mask_url(url: str) -> str:
    """Like `mask`; the base64 in a `data:` URL keeps its length."""
    if (data := _data(url)) is None:
        return mask(url)
    url = secrets.mask_url(url)
    data = _data(url) or b""
    if (changed := mask_bytes(data)) != data:
        return f"{url.partition(',')[0]},{base64.b64encode(changed).decode()}"
    return url


def masked(value: Any) -> Any:
    """Return a JSON value with every known or likely secret in its texts replaced."""
    match value:
        case str():
            return value if len(value) < MIN_LENGTH else mask_url(value)
        case dict():
            return {
                name if len(name) < MIN_LENGTH else mask(name): masked(one)
                for name, one in zip(map(str, value), value.values(), strict=True)
            }
        case list() | tuple():
            return [masked(one) for one in value]
    return secrets.masked(value)


def _last_first(text: str) -> list[tuple[int, int]]:
    """Return where likely secrets are, last first; of overlapping ones only the longest."""
    found: list[tuple[int, int]] = []
    for begin, end, _ in sorted(looks(text)):
        if found and begin < found[-1][1]:
            begin, end = found[-1][0], max(end, found.pop()[1])  # noqa: PLW2901 - merged
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
