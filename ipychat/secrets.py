"""The secrets that are known, and masking them in any text.

A secret is registered once, where it enters (a key is read, a token arrives, a proxy address is
parsed); from then on `mask` takes it out of every message, log line and `repr` of this package.
Texts shorter than twelve characters are refused: masking them would garble ordinary words.
"""

import contextlib
import json
import logging
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote, urlsplit

MIN_LENGTH = 12
MASK = "•••"

_NAMES = "(?i:key|token|secret|passw|credential|authorization)"
_LOGIN = r"//[^/?#\s]*@"
_QUERY = rf"([?&][^=&#\s]*{_NAMES}[^=&#\s]*=)[^&#\s]+"

_known: set[str] = set()
_pattern: re.Pattern[str] | None = None


def register(secret: str) -> str:
    """Remember `secret`, as it is and as it looks inside a URL or JSON; return it unchanged."""
    global _pattern  # noqa: PLW0603 - the one pattern is made anew when a secret is new
    if len(secret) >= MIN_LENGTH and secret not in _known:
        quoted = quote(secret, safe="", errors="surrogatepass")
        _known.update({secret, quoted, json.dumps(secret)[1:-1]})
        _pattern = None
    return secret


def register_url(url: str) -> str:
    """Register the password that `url` may carry (a proxy's, usually); return the URL unchanged."""
    with contextlib.suppress(ValueError):
        if password := urlsplit(url).password:
            register(password)
            register(unquote(password))
    return url


def register_option(name: str, value: Any) -> None:
    """Register what the name of an option says is a secret, or what is one within its value."""
    for inner, text in _texts(name, value):
        if re.search(_NAMES, inner):
            register(text)
        elif "://" in text:
            register_url(text)


def holds_secret(name: str, value: Any) -> bool:
    """Whether an option's name, or one within its value, says that it is a secret."""
    return any(re.search(_NAMES, inner) for inner, _ in _texts(name, value))


def _texts(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Give every text within a value, with the name that is nearest to it."""
    match value:
        case str():
            yield name, value
        case dict():
            for inner, one in value.items():
                yield from _texts(str(inner), one)
        case list() | tuple():
            for one in value:
                yield from _texts(name, one)


def without_login(url: str) -> str:
    """Return `url` as it may be shown: without name, password and what its query calls a key."""
    return mask(re.sub(_QUERY, rf"\1{MASK}", re.sub(_LOGIN, f"//{MASK}@", url)))


def mask(text: str) -> str:
    """`text` with every known secret replaced."""
    return _any_known().sub(MASK, text) if _known else text


def _any_known() -> re.Pattern[str]:
    global _pattern  # noqa: PLW0603 - as above
    if _pattern is None:
        longest_first = sorted(_known, key=len, reverse=True)
        _pattern = re.compile("|".join(map(re.escape, longest_first)))
    return _pattern


def settled(text: str, spare: int = len(MASK)) -> int:
    """Return how much of a growing `text` can be masked by itself: not what may begin a secret.

    `spare` characters may, where the whole is masked again as it grows: they tell nothing, are no
    more than the mask, and keep no one waiting. What is written once spares none.
    """
    if not _known:
        return len(text)
    held = 0
    for secret in _known:
        for size in range(min(len(secret) - 1, len(text)), max(held, spare), -1):
            if text.endswith(secret[:size]):
                held = size
                break
    cut = len(text) - held
    # what is held back may be the end of a whole secret, which stays whole
    return next((m.start() for m in _any_known().finditer(text) if m.start() < cut < m.end()), cut)


def mask_cut(text: str) -> str:
    """As `mask`, for a text that was cut off: what may be most of a secret at its end goes, too."""
    kept = settled(text)
    return mask(text) if len(text) - kept < MIN_LENGTH // 2 else mask(text[:kept]) + MASK


class _Masked(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = mask(record.getMessage()), ()
        return True


log = logging.getLogger("ipychat")
"""The package's only logger, so that one filter masks every line."""
log.addFilter(_Masked())
