"""Known secrets, and masking them in any text.

A secret is registered where it enters: when a key is read, a token arrives, a proxy address is
parsed, or the environment is read. From then on `mask` removes it from every message, log line and
`repr` of this package, and from every question before it is sent. Texts shorter than twelve
characters are not registered: masking them would garble ordinary words.
"""

import base64
import contextlib
import html
import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, SupportsIndex, TypeVar
from urllib.parse import quote, unquote, urlsplit

T = TypeVar("T", str, bytes)

MIN_LENGTH = 12
MASK = "•••"

# Patterns are compiled on first use: loading must not wait for that.
NAMES = (
    "(?i:(?<!mon)(?<!tur)(?<!hoc)key(?!board|word|map|error)|token(?!i[sz])|secret|passw|passphrase|(?<![a-z])pass(?![a-z])"
    "|(?<=_)(?:pwd|pat)(?![a-z])|credential|auth(?!or)|authoriz|connection_?str)"
)
"""Words that mark the name of a variable or option as that of a secret."""
_LOGIN = r"//[^/?#\s]*@"
_QUERY = rf"([?&][^=&#\s]*{NAMES}[^=&#\s]*=)[^&#\s]+"
_ASSIGNED = rf"{NAMES}\w{{0,20}}=([^&;\s\"'$(){{}}<>]+)"

_LIKE_A_PATH = r"[/~.\\]|[A-Za-z]:[/\\]"
_PLACES = "(?i:path|file|dir|home|sock)$"
_BASE64 = r"(?=.*\d)(?=.*[a-z])(?=.*[A-Z])[A-Za-z0-9+/=]{32,}"
_WORD = r"(?<!\S)(?=\S*\d)[\w+/=.~-]{20,}(?!\S)"
"""A word in a secret that is a secret by itself: a line of a private key, what follows `Bearer`."""

_DATA_URL = r"(?i)data:[^,]{0,200};base64,"

ENCODINGS = ("utf-8", "utf-16-le", "utf-16-be")

# Both are ordered from the longest to the shortest, and replaced rather than changed: threads read
# them.
_known: dict[str, str] = {}
"""Each secret in each of its encodings → its name."""
_in_bytes: dict[bytes, str] = {}
_in_urls: dict[str, str] = {}
"""The same in the base64 of `data:` URLs, whose files may have other encodings."""
_looked_at: dict[str, str] = {}
"""The environment's variables as of the last check."""


class Secret(str):
    """A text that no `repr` shows, so tracebacks with local variables don't either.

    It stays hidden wherever it is: in a dict, in aiohttp's headers, in a task's arguments. A text
    built from it, such as `f"Bearer {key}"`, is an ordinary one until it is wrapped again.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(MASK)

    def __getitem__(self, at: SupportsIndex | slice) -> "Secret":  # a shortened copy would be shown
        return Secret(super().__getitem__(at))


def register(secret: str, name: str = "a secret") -> None:
    """Register `secret` in all its encodings.

    Returns nothing: a notebook would show the value of a cell's last expression.
    """
    global _known, _in_bytes, _in_urls  # noqa: PLW0603 - replaced, as said above
    if len(secret) >= MIN_LENGTH and secret not in _known:
        encoded = [secret.encode(encoding, "surrogatepass") for encoding in ENCODINGS]
        forms = {*re.findall(_WORD, secret), *_forms(secret), *_in_base64(encoded[0])}
        data = {*encoded, *(form.encode(errors="surrogatepass") for form in forms)}
        urls = {form for one in encoded for form in _in_base64(one)}
        _known = _with(_known, forms, name)
        _in_bytes = _with(_in_bytes, data, name)
        _in_urls = _with(_in_urls, urls, name)


def _with(known: dict[T, str], forms: set[T], name: str) -> dict[T, str]:
    """Return the known secrets plus `forms`."""
    both = {**dict.fromkeys(forms, name), **known}
    return dict(sorted(both.items(), key=lambda one: len(one[0]), reverse=True))


def _forms(secret: str) -> Iterator[str]:
    """Yield a secret as it is, and as URLs, JSON, Python and HTML encode it."""
    data = secret.encode(errors="surrogatepass")
    texts = {secret, data.decode("latin-1"), repr(data)[2:-1]}
    for _ in range(2):  # JSON within JSON, and within a `repr`
        texts |= {one for text in texts for one in _quoted(text)}
    for text in texts:
        page = html.escape(text, quote=False)
        yield from (text, page, page.replace('"', "&quot;"), html.escape(text))
        yield page.replace('"', "&#34;").replace("'", "&#39;")
        yield text.replace("/", r"\/")
        yield re.sub("[<>&']", lambda at: f"\\u{ord(at[0]):04x}", text)
    for left in ("", "/", "!'()*", "!$&'()*+,;=:@/?"):
        url = quote(secret, safe=left, errors="surrogatepass")
        yield from (url, url.replace("%20", "+"), re.sub("%..", lambda at: at[0].lower(), url))


def _quoted(text: str) -> Iterator[str]:
    """Yield the text as JSON and Python escape it between quotes."""
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield repr(text)[1:-1]
    yield repr(f'"{text}')[2:-1]


def _in_base64(data: bytes) -> Iterator[str]:
    """Yield the base64 that `data` has in any context, for each of its three possible offsets."""
    for before in range(3):
        written = base64.b64encode(bytes(before) + data).decode()
        written = written[(0, 2, 3)[before] : (before + len(data)) * 8 // 6]
        yield from (written, written.translate({ord("+"): "-", ord("/"): "_"}))


def register_environment(environment: Mapping[str, str], also: Iterable[str] = ()) -> None:
    """Register likely secrets in the environment, and the variables named in `also`."""
    for name, value in environment.items():
        if len(value) >= MIN_LENGTH and _looked_at.get(name) != value:
            _looked_at[name] = value
            _register_variable(name, value.strip())
    for name in also:
        register(environment.get(name, "").strip(), name)


def _register_variable(name: str, value: str) -> None:
    is_named = re.search(NAMES, name)
    if "://" in value:
        register_url(value, name)
    elif is_named and not _is_path(name, value):
        register(value, name)
    for assigned in re.findall(_ASSIGNED, value):
        register(assigned, name)
    if is_named and value.startswith("{"):
        with contextlib.suppress(ValueError, RecursionError):
            register_option(name, json.loads(value))


def _is_path(name: str, value: str) -> bool:
    """Whether a value is the path of a secret rather than one; base64 may begin like a path."""
    like_one = bool(re.match(_LIKE_A_PATH, value))
    return like_one and bool(re.search(_PLACES, name) or not re.fullmatch(_BASE64, value))


def register_url(url: str, name: str = "a secret") -> str:
    """Register what `url` may carry: a password, or a token in its place.

    Returns it, as a Secret if it carries any.
    """
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        secret = parts.password or parts.username or ""
        if parts.password or re.fullmatch(_WORD, secret):
            register(secret, name)
            register(unquote(secret), name)
            return Secret(url)
    return url


def register_option(name: str, value: Any) -> Any:
    """Register an option's value if its name marks it as a secret, and secrets nested in the value.

    Returns the value with each of them as a Secret.
    """
    match value:
        case str() if re.search(NAMES, name):
            register(value, name)
            return Secret(value)
        case str() if "://" in value:
            return register_url(value)
        case dict():
            return {inner: register_option(str(inner), one) for inner, one in value.items()}
        case list():
            return [register_option(name, one) for one in value]
        case tuple() if type(value) is tuple:
            return tuple(register_option(name, one) for one in value)
    return value


def hide(options: dict[str, Any]) -> None:
    """Wrap the secrets in options given by the user, so that no traceback shows them."""
    with contextlib.suppress(RecursionError):  # invalid options are reported where they are parsed
        options |= register_option("", options)


def is_name(name: str) -> bool:
    """Whether a name is that of a secret."""
    return bool(re.search(NAMES, name))


def holds_secret(name: str, value: Any) -> bool:
    """Whether an option's name, or a name nested in its value, is that of a secret."""
    return any(is_name(inner) for inner, _ in _texts(name, value))


def _texts(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield every text nested in a value, with the name closest to it."""
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
    """Return `url` without user name, password and keys in its query."""
    return mask(re.sub(_QUERY, rf"\1{MASK}", re.sub(_LOGIN, f"//{MASK}@", url)))


def mask(text: str) -> str:
    """Replace every known secret in `text`."""
    for secret in _known:
        if secret in text:
            text = text.replace(secret, MASK)
    return text


WITHOUT_TEXT = {bool, int, float, type(None)}


def masked(value: Any) -> Any:
    """Return a JSON value with every known secret in its texts replaced."""
    match value:
        case str():
            if len(value) < MIN_LENGTH:
                return value
            return mask_url(value) if ";" in value else mask(value)
        case None | bool() | int() | float():
            return value
        case dict():
            return {
                name if len(name) < MIN_LENGTH else mask(name): (
                    one  # records have many
                    if type(one) in WITHOUT_TEXT or (type(one) is str and len(one) < MIN_LENGTH)
                    else masked(one)
                )
                for name, one in zip(map(str, value), value.values(), strict=True)
            }
        case list() | tuple():
            return [masked(one) for one in value]
    return mask(repr(value))


def mask_bytes(data: bytes) -> bytes:
    """Like `mask`, for bytes that may not be text: the length stays the same."""
    for secret in _in_bytes:
        if secret in data:
            data = data.replace(secret, b"*" * len(secret))
    return data


def mask_url(url: str) -> str:
    """Like `mask`; the base64 in a `data:` URL keeps its length."""
    head, data = parts(url) if ";" in url else ("", url)
    if not head:
        return mask(url)
    for secret in _in_urls:
        if secret in data:
            data = data.replace(secret, "A" * len(secret))  # zeros
    return mask(head) + data


def parts(text: str) -> tuple[str, str]:
    """Split a `data:` URL into head and base64 on one line; other texts have no head."""
    head = re.match(_DATA_URL, text)
    if not head or " " in text:
        return "", text
    return head[0], text[head.end() :].replace("\n", "").replace("\r", "")


def names_in(content: str | bytes) -> set[str]:
    """Return the names of the known secrets in `content`."""
    if isinstance(content, bytes):
        return {name for secret, name in _in_bytes.items() if secret in content}
    head, data = parts(content)
    names = {name for secret, name in _known.items() if secret in (head or data)}
    return names | {name for secret, name in _in_urls.items() if head and secret in data}


def settled(text: str, spare: int = len(MASK)) -> int:
    """Return the length of the prefix of a growing `text` that can be masked alone.

    Up to `spare` characters that may begin a secret are included, for texts that are masked again
    as they grow: so few reveal nothing, are no longer than the mask, and keep nobody waiting. Pass
    0 for text that is written once.
    """
    held = 0
    longest = len(next(iter(_known), ""))
    end = text[max(0, len(text) - longest) :]
    for secret in _known:
        if (begin := secret[: spare + 1]) in end:
            at = text.find(begin, max(0, len(text) - len(secret) + 1))
            while at >= 0 and not secret.startswith(text[at:]):
                at = text.find(begin, at + 1)
            held = max(held, len(text) - at if at >= 0 else 0)
    # what is held back may be the end of a complete secret, which must stay whole
    return whole_until(text, len(text) - held) if held else len(text)


def whole_until(text: str, cut: int) -> int:
    """Return the last offset up to `cut` that does not split a known secret."""
    cut = min(cut, len(text))
    secrets = iter(_known)
    while secret := next(secrets, None):
        at = text.find(secret, max(0, cut - len(secret) + 1), cut + len(secret) - 1)
        if at >= 0:
            cut, secrets = at, iter(_known)  # that offset may be inside another secret
    return cut


def mask_cut(text: str) -> str:
    """Like `mask`, for truncated text: also removes most of a secret at its end."""
    kept = settled(text)
    return mask(text) if len(text) - kept < MIN_LENGTH // 2 else mask(text[:kept]) + MASK


class _Masked(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = mask(record.getMessage()), ()
        return True


log = logging.getLogger("ipychat")
"""The package's only logger, so that one filter masks every line."""
log.addFilter(_Masked())
