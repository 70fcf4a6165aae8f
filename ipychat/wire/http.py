"""The only HTTP client: sessions, time-outs, proxies, retries, and statuses turned into errors.

Does not follow redirects: a request that carries a key goes to the host it was written for or
nowhere. Keeps no cookies. Never sends a loopback request through a proxy from the environment or
the configuration: the proxy could not reach this machine, and would see the path.
"""

from __future__ import annotations

import asyncio
import atexit
import base64
import contextlib
import functools
import io
import ipaddress
import json as jsonlib
import os
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass, field, fields
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from ipychat import config, errors, requirements, secrets
from ipychat._lazy import load
from ipychat.messages import Notice
from ipychat.wire import certificates, limits, offload, policy
from ipychat.wire.backoff import backoff
from ipychat.wire.content import ADVICE, Content

if TYPE_CHECKING:
    from types import TracebackType

    import aiohttp

MAX_ERROR_BODY = 64 * 1024
"""Bytes of an error's body that are read for its message."""
MAX_BODY = 64 * 1024 * 1024
"""Bytes of a body that is read whole."""
ERROR_BODY_TIMEOUT = 5.0
"""Seconds to wait for the body of an error."""
MAX_MESSAGE = 300
"""Characters of a service's own message that an error repeats."""
MAX_WAIT = 60.0
"""Seconds. If a service asks for a longer wait, the request is not retried; the user is told."""
MAX_RETRY_AFTER = 366 * 86_400.0
"""Seconds. A longer wait can't be meant seriously and is ignored."""
FIRST_PAUSE = 0.5
"""Seconds before the first retry if the service names no time; doubled each time."""
LOOPBACK_TIMEOUT = 0.1
"""Seconds within which a server on this machine accepts a connection."""
READ_BUFFER = 32 * 1024
"""Bytes. What arrives at once is processed at once: a larger buffer would hold the loop longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transport:
    """How a request is sent. None of this can change the answer."""

    proxy: str | None = None
    connect_timeout: float = field(default_factory=lambda: config.current().connect_timeout)
    idle_timeout: float = field(default_factory=lambda: config.current().idle_timeout)
    timeout: float | None = field(default_factory=lambda: config.current().timeout)
    """Seconds for all requests that share this transport, including the pauses between them."""
    retries: int = field(default_factory=lambda: config.current().retries)
    session: aiohttp.ClientSession | None = None
    """The caller's own session, which is not closed."""
    begun: float = field(default_factory=time.monotonic, init=False)

    def __post_init__(self) -> None:
        for name in ("connect_timeout", "idle_timeout", "timeout"):
            seconds = getattr(self, name)
            if seconds is not None and not (isinstance(seconds, int | float) and seconds > 0):
                raise errors.UsageError(f"The option {name} takes seconds, not {seconds!r}.")
        if not isinstance(self.retries, int) or self.retries < 0:
            raise errors.UsageError(f"The option retries takes a number, not {self.retries!r}.")

    def remaining(self) -> float | None:
        """Seconds left before the time-out; None if there is no time-out."""
        if self.timeout is None:
            return None
        return max(self.timeout - (time.monotonic() - self.begun), 0.001)

    @contextlib.asynccontextmanager
    async def in_time(self, host: str) -> AsyncIterator[None]:
        """Raise ServiceTimeoutError if the block takes longer than the time left."""
        try:
            async with asyncio.timeout(self.remaining()):
                yield
        except TimeoutError:
            raise errors.ServiceTimeoutError(
                f"{host} did not finish within {self.timeout or 0:g} s.\n{ADVICE}"
            ) from None

    @classmethod
    @functools.cache
    def options(cls) -> frozenset[str]:
        """Return the names of the options that say how a request is sent."""
        return frozenset(one.name for one in fields(cls) if one.init)

    @classmethod
    def split(cls, options: Mapping[str, Any]) -> tuple[Self, dict[str, Any]]:
        """Split a provider's options into a transport and the rest."""
        names = cls.options()
        given = {n: value for n, value in options.items() if n in names and value is not None}
        return cls(**given), {n: value for n, value in options.items() if n not in names}


class Call:
    """One request and its answer.

    Usage::

        async with Call("POST", url, json=body) as call:
            async for notice in call.send():  # one for each wait before it is sent again
                ...
            async for chunk in call.content:
                ...

    Leaving the block closes the connection at once if the answer was not read to its end. Raises
    what `ipychat.errors` lists under ServiceError, and BrokenAnswerError.
    """

    __slots__ = (
        "_body",
        "_content",
        "_headers",
        "_json",
        "_method",
        "_response",
        "_transport",
        "_url",
    )
    _headers: dict[str, str]

    def __init__(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        body: bytes | None = None,
        transport: Transport | None = None,
    ) -> None:
        self._method = method
        self._url, login = _login_apart(url)
        headers = self._headers = {n: secrets.Secret(one) for n, one in (headers or {}).items()}
        url = self._url  # drop the secrets from this frame, too
        if login and self._headers.setdefault("Authorization", login) is not login:
            raise errors.UsageError(
                f"The address of {host_of(url)} contains a login, and there is a key as well.\n"
                "Only one of them can be sent: remove the other."
            )
        self._json = json
        self._body = body
        if json is not None:
            self._headers["Content-Type"] = "application/json"
        self._transport = transport or Transport()
        self._response: aiohttp.ClientResponse | None = None
        self._content: Content | None = None

    @property
    def response(self) -> aiohttp.ClientResponse:
        """The response, once `send` has finished."""
        if self._response is None:
            raise RuntimeError("not sent yet")
        return self._response

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._hang_up()

    def _hang_up(self) -> None:
        """Return a fully read connection to the pool; close any other."""
        if self._content is not None:
            self._content.close()
            self._content = None
        if self._response is not None:
            self._response.close()

    async def open(self) -> aiohttp.ClientResponse:
        """Send the request once, and return the response whatever its status."""
        await load("aiohttp")
        requirements.check("aiohttp")
        requirements.check("Brotli")  # needed to unpack its Brotli
        self._response = await self._send()
        connection = self._response.connection  # None if it all arrived at once
        protocol = connection.protocol if connection else None
        if protocol is not None:  # from here on Content counts the silence
            protocol.read_timeout = None
        return self._response

    async def send(self) -> AsyncIterator[Notice]:
        """Send the request, retrying while the service is busy; raise unless it succeeds."""
        if self._json is not None:
            self._body, self._json = await offload.run(offload.dump, self._json), None
        for left in range(self._transport.retries, -1, -1):
            await self.open()
            status = self.response.status
            limits.note(host_of(self._url), self.response.headers)
            if not left or not (status == 429 or status >= 500):
                break
            wait = _retry_after(self.response)
            asked = ", as the service asks" if wait is not None else ""
            if wait is None:
                wait = backoff(self._transport.retries - left, FIRST_PAUSE, MAX_WAIT)
            elif wait > MAX_WAIT:
                break
            body = await _error_body(self.response)
            if _is_out_of_credit(status, body):
                raise _error(self.response, body)
            said = _words(body)
            self._hang_up()
            yield Notice(
                f"{host_of(self._url)} answered {status}{': ' + said if said else ''}. "
                f"Retrying in {wait:.3g} s{asked} "
                f"({left} more {'try' if left == 1 else 'tries'}).",
                kind="retry",
            )
            async with self._transport.in_time(host_of(self._url)):
                await asyncio.sleep(wait)
        self._body, self._headers = None, {}  # the answer may take long
        await raise_for_status(self.response)

    @property
    def content(self) -> Content:
        """The response body in chunks as they arrive, decompressed."""
        if self._content is None:
            body, idle = self.response.content, self._transport.idle_timeout
            self._content = Content(body, host_of(self._url), idle, self._broken)
        return self._content

    def _broken(self, error: Exception) -> Exception:
        return _translated(error, self._url, self._transport, reading=True)

    async def body(self) -> bytes:
        """Send the request and return the whole body; waits are logged."""
        async for notice in self.send():
            secrets.log.warning(notice.text)
        chunks, size = [], 0
        async for chunk in self.content:
            chunks.append(chunk)
            size += len(chunk)
            if size > MAX_BODY:
                raise errors.FormatError(f"{host_of(self._url)} sent over {MAX_BODY >> 20} MiB.")
        return b"".join(chunks)

    async def _send(self) -> aiohttp.ClientResponse:
        import aiohttp

        _check(self._url)
        policy.check_url(self._url)
        how = self._transport
        if chosen := how.proxy or config.current().proxy:  # the proxy sees what passes through it
            policy.check_url(chosen if "://" in chosen else f"http://{chosen}")
        proxy = proxy_for(self._url, how.proxy)
        socks = proxy if proxy and proxy.startswith("socks") else None
        own: dict[str, Any] = {}
        if how.session is None and self._url.lower().startswith("https:"):
            own = {"ssl": context} if (context := await certificates.context()) else {}
        headers, proxy_headers = self._headers, {}
        if proxy and not socks:
            proxy, login = _login_apart(proxy)
            if login and self._url.startswith("https:"):
                proxy_headers = {"Proxy-Authorization": login}
            elif login:  # the proxy reads the request itself
                headers = {**headers, "Proxy-Authorization": login}
        try:
            return await (how.session or session(socks)).request(
                self._method,
                self._url,
                headers=headers,
                data=await self._data(),
                proxy=None if socks else proxy,
                proxy_headers=proxy_headers,
                allow_redirects=False,
                **own,
                timeout=aiohttp.ClientTimeout(
                    total=how.remaining(),
                    sock_connect=how.connect_timeout,
                    sock_read=how.idle_timeout,
                ),
            )
        except Exception as error:  # noqa: BLE001 - an unknown one comes back as it is
            raise _translated(error, self._url, how, proxy=proxy) from None

    async def _data(self) -> bytes | io.BytesIO | None:
        """Return the request body; a large one in a form that is written piece by piece."""
        if self._body is None:
            return None
        if len(self._body) <= offload.LARGE:
            return _Body(self._body)
        return await asyncio.to_thread(_readable, self._body)


def _readable(body: bytes) -> io.BytesIO:
    """Return a body to be read; asking for its buffer, as aiohttp does, copies nothing more."""
    stream = io.BytesIO(body)
    stream.getbuffer().release()
    return stream


class _Body(bytes):
    """Bytes whose repr is empty: aiohttp's tracebacks would show a session's id."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self):,} bytes>"


# -- sessions


class _Client:
    """The sessions of one loop, until the loop shuts down.

    A loop has only one hook for its end: `asyncio.run` and others close the loop's unfinished
    asynchronous generators. So a generator waits here for that.
    """

    def __init__(self) -> None:
        self.sessions: dict[str | None, aiohttp.ClientSession] = {}
        """By SOCKS proxy; None is the session for all requests without one."""
        self.end = self._wait_for_the_end()
        _step(self.end.asend(None))  # advance it to its yield: only now does the loop know it

    async def _wait_for_the_end(self) -> AsyncGenerator[None, None]:
        loop = asyncio.get_running_loop()
        try:
            yield
        finally:
            if _clients.get(loop) is self:
                del _clients[loop]
            for one in self.sessions.values():
                await one.close()

    def drop(self) -> None:
        """Drop everything without the loop, which no longer runs."""
        for one in self.sessions.values():
            if (connector := one.connector) is not None:
                one.detach()
                with contextlib.suppress(RuntimeError):  # the loop belongs to another thread
                    connector._close()  # noqa: SLF001 - `close` would start a task on that loop
        self.sessions.clear()
        with contextlib.suppress(RuntimeError):  # it was already closing
            _step(self.end.aclose())


def _step(awaitable: Awaitable[None]) -> None:
    """Run an awaitable until it finishes or first waits."""
    with contextlib.suppress(StopIteration):
        awaitable.__await__().send(None)


_clients: dict[asyncio.AbstractEventLoop, _Client] = {}


def _client() -> _Client:
    """Return the running loop's client, created on first use."""
    loop = asyncio.get_running_loop()
    if loop not in _clients:
        if not _clients:
            atexit.register(_leave)
        for ended in [one for one in _clients if one.is_closed()]:
            _clients.pop(ended).drop()
        _clients[loop] = _Client()
    return _clients[loop]


def session(socks: str | None = None) -> aiohttp.ClientSession:
    """Return the running loop's session (one more per SOCKS proxy), created on first use."""
    import aiohttp

    mine = _client().sessions
    if socks not in mine or mine[socks].closed:
        connector = get_connector(proxy=socks) or aiohttp.TCPConnector(limit=0)
        _abort_on_close(connector)
        mine[socks] = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=READ_BUFFER,
        )
    return mine[socks]


def _abort_on_close(connector: Any) -> None:
    """Let a connector close at once: TLS would wait 30 s for the other side's goodbye."""
    release = connector._release  # noqa: SLF001 - nothing public is told which transport it closes

    def released(key: Any, protocol: Any, **how: Any) -> None:
        transport = protocol.transport
        release(key, protocol, **how)
        if transport is not None and transport.is_closing():
            transport.abort()

    connector._release = released  # noqa: SLF001


def close(loop: asyncio.AbstractEventLoop | None = None) -> Awaitable[None]:
    """Detach the loop's sessions now; await the result to close their connections."""
    return _close(_clients.pop(loop or asyncio.get_running_loop(), None))


async def _close(client: _Client | None) -> None:
    if client is not None:
        await client.end.aclose()


def _leave() -> None:
    """Drop all sessions as the process exits: no loop runs any more."""
    while _clients:
        _clients.popitem()[1].drop()


def get_connector(
    connector: aiohttp.BaseConnector | None = None,
    proxy: str | None = None,
    *,
    rdns: bool = True,
) -> aiohttp.BaseConnector | None:
    """Return `connector`, else one for a SOCKS `proxy`, else None.

    Raises MissingRequirementsError if aiohttp-socks is needed and not installed.
    """
    if connector is not None or not (proxy and proxy.startswith("socks")):
        return connector
    try:
        from aiohttp_socks import ProxyConnector
    except ImportError:
        raise errors.MissingRequirementsError(
            "A SOCKS proxy needs the package aiohttp-socks: pip install aiohttp-socks"
        ) from None
    # In other tools socks5h and socks4a mean that the proxy resolves names, which is rdns here.
    plain = proxy.replace("socks5h://", "socks5://").replace("socks4a://", "socks4://")
    made: aiohttp.BaseConnector = ProxyConnector.from_url(plain, rdns=rdns, limit=0)
    return made


@functools.lru_cache(maxsize=128)
def is_loopback(url: str) -> bool:
    """Whether `url` names this machine's loopback."""
    with contextlib.suppress(ValueError):  # an invalid address: the request will report it
        host = urlsplit(url).hostname or ""
        if host == "localhost" or host.endswith(".localhost"):
            return True
        return ipaddress.ip_address(host).is_loopback
    return False


def not_running(url: str) -> str | None:
    """Say that nothing listens at `url`, if it is on this machine and nothing does; else None."""
    if config.replay() == "replay":
        return "not checked: answers are replayed"
    with contextlib.suppress(ValueError):  # an invalid address: the request will report it
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 80)
        if parts.hostname and is_loopback(url):
            try:
                socket.create_connection((parts.hostname, port), timeout=LOOPBACK_TIMEOUT).close()
            except OSError:
                return f"not running at {host_of(url)}"
    return None


def proxy_for(url: str, given: str | None = None) -> str | None:
    """Return the proxy for `url`: the one given, else the configured one, else the environment's.

    The latter two are never used for loopback.
    """
    proxy = given
    if proxy is None and not is_loopback(url):
        proxy = config.current().proxy or _environment_proxy(url)
    if not proxy:
        return None
    return secrets.register_url(proxy if "://" in proxy else f"http://{proxy}")


def _login_apart(url: str) -> tuple[str, str | None]:
    """Return `url` without its login, and the login as a header.

    In the address it would show in tracebacks with aiohttp's frames; headers don't.
    """
    with contextlib.suppress(ValueError):  # an invalid address: the request will report it
        parts = urlsplit(url)
        login, at, host = parts.netloc.rpartition("@")
        if at:
            user, _, password = login.partition(":")
            pair = f"{unquote(user)}:{unquote(password)}".encode()
            header = secrets.Secret(f"Basic {base64.b64encode(pair).decode()}")
            return parts._replace(netloc=host).geturl(), header
    return url, None


def _environment_proxy(url: str) -> str | None:
    parts = urlsplit(url)
    proxies = getproxies()
    if proxy_bypass(parts.hostname or ""):
        return None
    return proxies.get(parts.scheme) or proxies.get("all")


# -- errors


def _check(url: str) -> None:
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        if parts.scheme in {"http", "https"} and parts.hostname:
            return
    raise errors.UnreachableError(f"This is not a web address: {secrets.without_login(url)}")


def _translated(
    error: Exception,
    url: str,
    how: Transport,
    *,
    proxy: str | None = None,
    reading: bool = False,
) -> Exception:
    """Return our error for one of aiohttp's, without its message, which may hold secrets."""
    import aiohttp

    host = host_of(url)
    through = f" through the proxy {host_of(proxy)}" if proxy else ""
    kind: type[errors.ChatError] = errors.UnreachableError
    match error:
        case aiohttp.ConnectionTimeoutError():
            kind = errors.ServiceTimeoutError
            said = f"No connection to {host}{through} within {how.connect_timeout:g} s.\n{ADVICE}"
        case aiohttp.SocketTimeoutError():
            kind = errors.ServiceTimeoutError
            said = f"{host} sent nothing for {how.idle_timeout:g} s.\n{ADVICE}"
        case TimeoutError():
            kind = errors.ServiceTimeoutError
            said = f"{host} did not finish within {how.timeout or 0:g} s.\n{ADVICE}"
        case aiohttp.InvalidURL():
            said = f"This is not a web address: {secrets.without_login(url)}"
        case aiohttp.ClientHttpProxyError():
            said = f"The proxy {host_of(proxy)} refused to connect to {host} ({error.status})."
        case aiohttp.ClientConnectorCertificateError():
            fault = _certificate_fault(error.certificate_error)
            said = f"The certificate of {host} is not valid: {fault}.\n{certificates.ADVICE}"
        case aiohttp.ClientConnectorError():
            said = (
                f"No connection to {host}{through}: {_reason(error.os_error)}.\n"
                "Is it running, and is the address right?"
            )
        case aiohttp.ClientError() | OSError() | ValueError() if reading:
            kind = errors.BrokenAnswerError
            said = f"The connection to {host} broke off before the answer was complete."
        case aiohttp.ClientError() | OSError() | ValueError():
            name = type(error).__name__
            said = f"{host} closed the connection without an answer{through} ({name})."
        case _ if type(error).__module__.partition(".")[0] in {"aiohttp_socks", "python_socks"}:
            said = f"No connection to {host}{through}."
        case _:
            return error
    return kind(said)


def _reason(error: OSError) -> str:
    """The system's own words: asyncio's repeat the address, and host names have other codes."""
    if error.errno and error.errno > 0 and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno)
    return error.strerror or type(error).__name__


def _certificate_fault(error: Exception) -> str:
    import ssl

    return (
        error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else "not trusted"
    )


@functools.lru_cache(maxsize=128)
def host_of(url: str | None) -> str:
    """Host and port of `url`, which is all of it that an error may show."""
    host, port = "", None
    with contextlib.suppress(ValueError):  # an invalid address has no host, or no port
        parts = urlsplit(url or "")
        host = parts.hostname or ""
        port = parts.port
    host = f"[{host}]" if ":" in host else host or "the service"
    return f"{host}:{port}" if port else host


async def raise_for_status(response: aiohttp.ClientResponse) -> None:
    """Raise the error for `response.status`; return if it is a 2xx.

    The service's own message is included if there is one, but never a page of HTML.
    """
    if not 200 <= response.status < 300:
        raise _error(response, await _error_body(response))


def _error(response: aiohttp.ClientResponse, body: str) -> errors.ServiceError:
    """Return the error for a status and the beginning of its body."""
    status = response.status
    host = host_of(str(response.url))
    if 300 <= status < 400:
        return errors.ServiceError(_elsewhere(response, host), status)
    if status == 403 and _is_cloudflare(response, body):
        return errors.CloudflareError(
            f"Cloudflare blocked the request to {host} (403).\n"
            "It takes this machine for a bot; another network or a proxy may help.",
            status,
        )
    kind, what, advice = _STATUSES.get(status) or (
        _SERVER_FAULT if status >= 500 else _REQUEST_FAULT
    )
    words = _words(body)
    wait = _retry_after(response)
    if _is_out_of_credit(status, body):
        kind, what, advice = _NO_CREDIT
    elif status == 429 and wait is not None:
        advice = f"Retry in {wait:.0f} s, as the service asks."
    lines = [f"{what.format(host)} ({status}){': ' + words if words else '.'}"]
    if advice:
        lines.append(advice)
    return kind("\n".join(lines), status, wait)


def _elsewhere(response: aiohttp.ClientResponse, host: str) -> str:
    """Describe a 3xx status, none of which is an answer."""
    if not (target := response.headers.get("Location")):
        return f"{host} answered {response.status}, which is not an answer.\nIs the address right?"
    return (
        f"{host} redirects to {host_of(target)} ({response.status}); keys don't follow redirects."
        "\nIf the new address is right, set it as the provider's URL."
    )


OUT_OF_CREDIT: Mapping[int, tuple[str, ...]] = {
    400: ("your credit balance is too low",),  # Anthropic
    403: ("used all available credits",),  # xAI
    429: (
        "insufficient_quota",  # OpenAI and most services that speak its protocol
        "billing_hard_limit_reached",  # OpenAI
        "exceeded_current_quota_error",  # Moonshot
        "insufficient balance",  # Z.ai, DeepSeek
        "used all available credits",  # xAI
    ),
}
"""By status: phrases in the body (lower case) of an error that waiting does not help."""


def _is_out_of_credit(status: int, body: str) -> bool:
    said = OUT_OF_CREDIT.get(status)
    return bool(said) and any(words in body.lower() for words in said or ())


_LATER = "Try again later."
_NO_CREDIT = (errors.QuotaError, "No credit left at {}", "")
_REQUEST_FAULT = (errors.RequestError, "{} rejected the request", "")
_SERVER_FAULT = (errors.ServerError, "{} failed", _LATER)
_STATUSES: Mapping[int, tuple[type[errors.ServiceError], str, str]] = {
    400: _REQUEST_FAULT,
    401: (errors.AuthenticationError, "{} rejected the key or token", ""),
    402: _NO_CREDIT,
    403: (errors.ForbiddenError, "{} refused the request", ""),
    404: (errors.NotFoundError, "{} has no such address or model", ""),
    422: (errors.RequestError, "{} rejected the request as invalid", ""),
    429: (errors.RateLimitError, "Too many requests to {}", _LATER),
    502: (errors.ServerError, "{} could not reach the service behind it: bad gateway", _LATER),
    504: (
        errors.ServerError,
        "{} got no answer from the service behind it: gateway time-out",
        _LATER,
    ),
    520: (errors.ServerError, "{} failed behind Cloudflare: unknown error", _LATER),
}


def _is_cloudflare(response: aiohttp.ClientResponse, body: str) -> bool:
    page = body.lower()
    challenge = response.headers.get("Cf-Mitigated") == "challenge"
    return challenge or ("cloudflare" in page and "<html" in page)


async def _error_body(response: aiohttp.ClientResponse) -> str:
    """Return the beginning of an error's body: as much as arrives in time."""
    import aiohttp

    body = b""
    with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError, ValueError):
        async with asyncio.timeout(ERROR_BODY_TIMEOUT):
            while len(body) < MAX_ERROR_BODY and (chunk := await response.content.readany()):
                body += chunk
    return body[:MAX_ERROR_BODY].decode("utf-8", "replace")


def _words(body: str) -> str:
    """Return a service's own message from an error's body; empty for HTML."""
    text = body.strip()
    if text.startswith("<") or "<html" in text[:1000].lower():
        return ""
    with contextlib.suppress(ValueError, RecursionError):
        return said(jsonlib.loads(text))
    return said(text)


def said(error: Any) -> str:
    """Return the message in an error's JSON, on one line of limited length."""
    text = " ".join(error_message(error)[:MAX_ERROR_BODY].split())
    return text if len(text) <= MAX_MESSAGE else secrets.mask_cut(text[:MAX_MESSAGE]) + " …"


def error_message(body: Any) -> str:
    """Find the message in an error's JSON, in any of the forms that services use."""
    match body:
        case str():
            return body
        case {"error": error} if error:
            return error_message(error)
        case {"loc": [*place], "msg": str(message)}:  # FastAPI's validation errors
            return f"{'.'.join(map(str, place))}: {message}"
        case {"message": inner} | {"detail": inner} | {"msg": inner} if inner:
            return error_message(inner)
        case [*several]:
            return "; ".join(filter(None, map(error_message, several)))
        case {"type": str(kind)} | {"code": str(kind)}:
            return kind
    return ""


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    """Seconds that the service asks to wait, in either form of RFC 9110, section 10.2.3."""
    value = response.headers.get("Retry-After", "").strip()
    wait = None
    with contextlib.suppress(ValueError):
        wait = float(value)
    if wait is None:
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    if wait is None or not abs(wait) <= MAX_RETRY_AFTER:  # NaN is not a time either
        return None
    return max(0.0, wait)
