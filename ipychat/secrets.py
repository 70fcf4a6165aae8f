"""The secrets that are known, and masking them in any text.

A secret is registered once, where it enters (a key is read, a token arrives, a proxy address is
parsed, the environment is looked at); from then on `mask` takes it out of every message, log line
and `repr` of this package, and out of every question before it is sent.
Texts shorter than twelve characters are refused: masking them would garble ordinary words.
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

# patterns are compiled when they are first wanted: loading must not wait for that
NAMES = (
    "(?i:(?<!mon)(?<!tur)(?<!hoc)key(?!board|word|map|error)|token(?!i[sz])|secret|passw|passphrase|(?<![a-z])pass(?![a-z])"
    "|(?<=_)(?:pwd|pat)(?![a-z])|credential|auth(?!or)|authoriz|connection_?str)"
)
"""What the name of a secret has in it."""
_LOGIN = r"//[^/?#\s]*@"
_QUERY = rf"([?&][^=&#\s]*{NAMES}[^=&#\s]*=)[^&#\s]+"
_ASSIGNED = rf"{NAMES}\w{{0,20}}=([^&;\s\"'$(){{}}<>]+)"

_LIKE_A_PATH = r"[/~.\\]|[A-Za-z]:[/\\]"
_PLACES = "(?i:path|file|dir|home|sock)$"
_BASE64 = r"(?=.*\d)(?=.*[a-z])(?=.*[A-Z])[A-Za-z0-9+/=]{32,}"
_WORD = r"(?<!\S)(?=\S*\d)[\w+/=.~-]{20,}(?!\S)"
"""A word in a secret that is one by itself: a line of a private key, what follows `Bearer`."""

_DATA_URL = r"(?i)data:[^,]{0,200};base64,"

ENCODINGS = ("utf-8", "utf-16-le", "utf-16-be")

# all from the longest to the shortest, and never changed but replaced: threads read them
_known: dict[str, str] = {}
"""Each secret in each of its forms, and what it is called."""
_in_bytes: dict[bytes, str] = {}
_in_urls: dict[str, str] = {}
"""The same in the base64 of `data:` URLs, whose files may have other encodings."""
_looked_at: dict[str, str] = {}
"""The environment's variables as they were when last looked at."""


class Secret(str):
    """A text that no `repr` shows, so that no traceback that lists values does.

    It is one wherever it stands: in a dict, in aiohttp's headers, in a task's arguments. What is
    made of it, such as `f"Bearer {key}"`, is a text like any other until it is made one again.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(MASK)

    def __getitem__(self, at: SupportsIndex | slice) -> "Secret":  # what is shortened, then shown
        return Secret(super().__getitem__(at))


def register(secret: str, name: str = "a secret") -> None:
    """Remember `secret` in all the ways that it is written.

    It is not returned: a notebook would show it as the value of the cell.
    """
    global _known, _in_bytes, _in_urls  # noqa: PLW0603 - see there
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
    """Give a secret as it is, and as URLs, JSON, Python and HTML write it."""
    data = secret.encode(errors="surrogatepass")
    texts = {secret, data.decode("latin-1"), repr(data)[2:-1]}
    for _ in range(2):  # JSON holds JSON, and a `repr` does
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
    """Yield the stretch of base64 that `data` always has, for each offset at which it can start."""
    for before in range(3):
        written = base64.b64encode(bytes(before) + data).decode()
        written = written[(0, 2, 3)[before] : (before + len(data)) * 8 // 6]
        yield from (written, written.translate({ord("+"): "-", ord("/"): "_"}))


def register_environment(environment: Mapping[str, str], also: Iterable[str] = ()) -> None:
    """Register what looks like a secret in the environment, and the variables named in `also`."""
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
    """Whether a value says where a secret is, and is none; base64 may begin as a path does."""
    like_one = bool(re.match(_LIKE_A_PATH, value))
    return like_one and bool(re.search(_PLACES, name) or not re.fullmatch(_BASE64, value))


def register_url(url: str, name: str = "a secret") -> str:
    """Register what `url` may carry: a password, a token in place of one.

    Return it, as a Secret if it does.
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
    """Register what the name of an option says is a secret, or what is one within its value.

    Return the value with each of them as a Secret.
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
    """Make what is a secret in options given by the user one that no traceback shows."""
    with contextlib.suppress(RecursionError):  # is refused where they are looked at
        options |= register_option("", options)


def is_name(name: str) -> bool:
    """Whether a name says that what it stands for is secret."""
    return bool(re.search(NAMES, name))


def holds_secret(name: str, value: Any) -> bool:
    """Whether an option's name, or one within its value, says that it is a secret."""
    return any(is_name(inner) for inner, _ in _texts(name, value))


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
    for secret in _known:
        if secret in text:
            text = text.replace(secret, MASK)
    return text


def masked(value: Any) -> Any:
    """Return a value that JSON can carry, with every known secret in its texts replaced."""
    match value:
        case str():
            return value if len(value) < MIN_LENGTH else mask_url(value)
        case None | bool() | int() | float():
            return value
        case dict():
            return {
                name if len(name) < MIN_LENGTH else mask(name): masked(one)
                for name, one in zip(map(str, value), value.values(), strict=True)
            }
        case list() | tuple():
            return [masked(one) for one in value]
    return mask(repr(value))


def mask_bytes(data: bytes) -> bytes:
    """As `mask`, for what may be no text: it stays as long as it was."""
    for secret in _in_bytes:
        if secret in data:
            data = data.replace(secret, b"*" * len(secret))
    return data


def mask_url(url: str) -> str:
    """As `mask`; what a `data:` URL carries in base64 stays as long as it was."""
    head, data = parts(url) if ";" in url else ("", url)
    if not head:
        return mask(url)
    for secret in _in_urls:
        if secret in data:
            data = data.replace(secret, "A" * len(secret))  # zeros
    return mask(head) + data


def parts(text: str) -> tuple[str, str]:
    """Return the head of a `data:` URL and its base64, on one line; of other texts no head."""
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
    """Return how much of a growing `text` can be masked by itself: not what may begin a secret.

    `spare` characters may, where the whole is masked again as it grows: they tell nothing, are no
    more than the mask, and keep no one waiting. What is written once spares none.
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
    # what is held back may be the end of a whole secret, which stays whole
    return whole_until(text, len(text) - held) if held else len(text)


def whole_until(text: str, cut: int) -> int:
    """Return the last place up to `cut` at which no known secret would be cut in two."""
    cut = min(cut, len(text))
    secrets = iter(_known)
    while secret := next(secrets, None):
        at = text.find(secret, max(0, cut - len(secret) + 1), cut + len(secret) - 1)
        if at >= 0:
            cut, secrets = at, iter(_known)  # there it may be within another
    return cut


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
