"""The secrets that are known, and masking them in any text.

A secret is registered once, where it enters (a key is read, a token arrives, a proxy address is
parsed, the environment is looked at); from then on `mask` takes it out of every message, log line
and `repr` of this package, and out of every question before it is sent.
Texts shorter than twelve characters are refused: masking them would garble ordinary words.
"""

import contextlib
import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote, urlsplit

MIN_LENGTH = 12
MASK = "•••"

_NAMES = "(?i:key|token|secret|passw|credential|authorization)"
_LOGIN = r"//[^/?#\s]*@"
_QUERY = rf"([?&][^=&#\s]*{_NAMES}[^=&#\s]*=)[^&#\s]+"

_PATH = re.compile(r"[/~.\\]|[A-Za-z]:[/\\]")
"""How a value begins that says where a secret is, and is none."""

_known: dict[str, str] = {}
"""Each secret in each of its forms, and what it is called."""
_pattern: re.Pattern[str] | None = None


def register(secret: str, name: str = "a secret") -> str:
    """Remember `secret`, as it is and as it looks inside a URL or JSON; return it unchanged."""
    global _pattern  # noqa: PLW0603 - the one pattern is made anew when a secret is new
    if len(secret) >= MIN_LENGTH and secret not in _known:
        quoted = quote(secret, safe="", errors="surrogatepass")
        _known.update(dict.fromkeys((quoted, json.dumps(secret)[1:-1], secret), name))
        _pattern = None
    return secret


def register_environment(environment: Mapping[str, str], also: Iterable[str] = ()) -> None:
    """Register what looks like a secret in the environment, and the variables named in `also`."""
    for name, value in environment.items():
        if len(value) < MIN_LENGTH or value in _known:
            continue
        if "://" in value:
            register_url(value)
        elif re.search(_NAMES, name) and not _PATH.match(value):
            register(value, name)
    for name in also:
        register(environment.get(name, ""), name)


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
            register(text, inner)
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


def masked(value: Any) -> Any:
    """Return a value that JSON can carry, with every known secret in its texts replaced."""
    match value:
        case str():
            return mask(value)
        case None | bool() | int() | float():
            return value
        case dict():
            return {mask(str(name)): masked(one) for name, one in value.items()}
        case list() | tuple():
            return [masked(one) for one in value]
    return mask(repr(value))


def mask_bytes(data: bytes) -> bytes:
    """As `mask`, for what may be no text: it stays as long as it was."""
    for secret in sorted(_known, key=len, reverse=True):
        written = secret.encode(errors="surrogatepass")
        if written in data:
            data = data.replace(written, b"*" * len(written))
    return data


def names_in(content: str | bytes) -> set[str]:
    """Return what the known secrets in `content` are called."""
    if isinstance(content, str):
        return {name for secret, name in _known.items() if secret in content}
    known = ((secret.encode(errors="surrogatepass"), name) for secret, name in _known.items())
    return {name for secret, name in known if secret in content}


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
