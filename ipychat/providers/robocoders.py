"""RobocodersAPI: a token, a session, and NDJSON events of an agent. Offline upstream.

The token and session id are kept for all kernels of the user. A stale one is renewed once, without
a word, before anything was answered; after that a 401 is an error and what was kept is cleared.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ipychat import requirements, secrets
from ipychat._lazy import load
from ipychat.errors import (
    AuthenticationError,
    BrokenAnswerError,
    FormatError,
    MissingRequirementsError,
    ServerError,
)
from ipychat.messages import FinishReason, Notice
from ipychat.providers._browser import USER_AGENT
from ipychat.providers._reader import parse_json
from ipychat.providers.provider import FullProvider, Given, format_prompt
from ipychat.store import files
from ipychat.store.credentials import ROOT, ServiceSession
from ipychat.wire import offload
from ipychat.wire.content import Content
from ipychat.wire.http import Call, Transport, said
from ipychat.wire.ndjson import LineDecoder

if TYPE_CHECKING:
    import aiohttp

TIMEOUT = 600.0
"""Seconds for a whole answer, where the caller sets nothing."""
MAX_CONTINUATIONS = 32
MAX_SKIPPED = 1_000
"""Lines of an answer that are logged since they are no JSON."""
"""How often one answer is continued when the service asks for it."""
CONTINUE = "continue"
ACCEPT_PAGE = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


class _AtHome:
    """A path below ipychat's home, looked up when it is asked for: the home may be set later."""

    def __init__(self, name: str = "") -> None:
        self._name = name

    def __get__(self, instance: object, owner: type) -> Path:
        return files.home() / self._name


class _Place(NamedTuple):
    """Where the service is, what its login is kept as, and how requests go there."""

    root: str
    kept_as: str
    transport: Transport


class RobocodersAPI(FullProvider):
    """`robocoders:…`, whose models are agents."""

    takes_tools = False
    label = "API Robocoders AI"
    url = "https://api.robocoders.ai/docs"
    base_url = "https://api.robocoders.ai"
    url_variables = ("IPYCHAT_ROBOCODERS_URL",)
    api_endpoint = "https://api.robocoders.ai/chat"
    working = False
    supports_message_history = True
    default_model = "GeneralCodingAgent"
    agent = [default_model, "RepoAgent", "FrontEndAgent"]
    models = [*agent]
    formats = {"FrontEndAgent": "html"}
    sees_more = frozenset({"GeneralCodingAgent", "RepoAgent"})

    CACHE_DIR = _AtHome()
    CACHE_FILE = _AtHome("robocoders.json")

    @classmethod
    def path(cls, model: str) -> str:  # noqa: ARG003 - one for all
        """Return the path, below the root, at which `model` is asked."""
        return "/chat"

    @classmethod
    async def create_async_generator(
        cls,
        model: str,
        messages: Given,
        proxy: str | None = None,
        *,
        base_url: str | None = None,
        kept_as: str | None = None,
        **options: Any,
    ) -> AsyncIterator[str | Notice | FinishReason]:
        """Log in if need be, ask, follow the service's continuations, and give the text.

        `kept_as` names what the login belongs to where the root URL is another one each time.
        """
        transport, _ = Transport.split({"timeout": TIMEOUT, "proxy": proxy, **options})
        root = cls.root(base_url)
        place = _Place(root, kept_as or root, transport)
        agent = cls.get_model(model)
        prompt = await offload.run(format_prompt, messages)
        token, sid = await cls._get_or_create_access_and_session(place=place)
        renewed = False
        continued = 0
        while True:
            wants_more = False
            try:
                async with Call(
                    "POST",
                    root + cls.path(agent),
                    headers=_bearer(token),
                    json={"sid": sid, "prompt": prompt, "agent": agent},
                    transport=transport,
                ) as call:
                    async for notice in call.send():
                        yield notice
                    async for event in _events(call.content):
                        if text := _text(event):
                            yield text
                        if wants_more := _wants_more(event):
                            break
            except AuthenticationError:
                if renewed or continued:
                    await cls._forget(token)
                    raise
                renewed = True
                token, sid = await cls._get_or_create_access_and_session(place=place, stale=token)
                continue
            if not wants_more:
                return
            if continued == MAX_CONTINUATIONS:
                yield Notice(f"Stopped after {MAX_CONTINUATIONS} continuations; it wanted more.")
                yield FinishReason("length")
                return
            continued += 1
            prompt = CONTINUE

    # -- the login

    @classmethod
    async def _get_or_create_access_and_session(
        cls,
        session: aiohttp.ClientSession | None = None,
        *,
        place: _Place | None = None,
        stale: str | None = None,
    ) -> tuple[str, str]:
        """Return token and session id: the ones kept, else new ones from a single login.

        A token that is `stale` counts as none.
        """
        place = place or cls._place(session)
        kept = await asyncio.to_thread(cls._kept, place.kept_as, stale)
        if "access_token" in kept and "sid" in kept:
            return kept["access_token"], kept["sid"]
        async with contextlib.AsyncExitStack() as stack:
            async with place.transport.in_time(f"Another login at {place.root}"):
                await stack.enter_async_context(cls._cache().login())
            kept = await asyncio.to_thread(cls._kept, place.kept_as, stale)
            token, sid = kept.get("access_token"), kept.get("sid")
            if token and not sid:
                with contextlib.suppress(AuthenticationError):
                    sid = await cls._create_and_cache_session(None, token, place=place)
            if not (token and sid):
                token = await cls._fetch_and_cache_access_token(None, place=place)
                sid = await cls._create_and_cache_session(None, token, place=place)
        return token, sid

    @classmethod
    async def _fetch_and_cache_access_token(
        cls,
        session: aiohttp.ClientSession | None = None,
        *,
        place: _Place | None = None,
    ) -> str:
        """Get a token from the login page and keep it."""
        try:
            await load("bs4")
            from bs4 import BeautifulSoup
        except ImportError:
            raise MissingRequirementsError(
                "Reading the login page needs beautifulsoup4: pip install beautifulsoup4"
            ) from None
        requirements.check("beautifulsoup4")
        place = place or cls._place(session)
        async with Call(
            "GET",
            f"{place.root}/auth",
            headers={"User-Agent": USER_AGENT, "Accept": ACCEPT_PAGE},
            transport=place.transport,
        ) as call:
            page = await call.body()
        element = BeautifulSoup(page, "html.parser").find("pre", id="token")
        token = secrets.Secret(element.get_text(strip=True) if element else "")
        if not token:
            raise FormatError(f"The login page {place.root}/auth holds no token.")
        del page, element  # the token is in them
        secrets.register(token)
        await asyncio.to_thread(cls._save_cached_data, {ROOT: place.kept_as, "access_token": token})
        return token

    @classmethod
    async def _create_and_cache_session(
        cls,
        session: aiohttp.ClientSession | None,
        access_token: str,
        *,
        place: _Place | None = None,
    ) -> str:
        """Get a session id for the token and keep it. A 401 clears what is kept."""
        place = place or cls._place(session)
        try:
            async with Call(
                "GET",
                f"{place.root}/create-session",
                headers=_bearer(access_token),
                transport=place.transport,
            ) as call:
                answer = await call.body()
        except AuthenticationError:
            await cls._forget(access_token)
            raise
        try:
            sid = json.loads(answer)["sid"]
        except (ValueError, KeyError, TypeError, RecursionError):
            sid = None
        if not (isinstance(sid, str) and sid):
            raise FormatError(f"{place.root}/create-session gave no session id.")
        del answer  # the session id is in it
        sid = secrets.Secret(sid)
        await asyncio.to_thread(cls._update_cached_data, {ROOT: place.kept_as, "sid": sid})
        return sid

    # -- what is kept

    @classmethod
    def _place(cls, session: aiohttp.ClientSession | None) -> _Place:
        root = cls.root()
        return _Place(root, root, Transport(session=session))

    @classmethod
    def _cache(cls) -> ServiceSession:
        return ServiceSession(Path(cls.CACHE_FILE))

    @classmethod
    def _kept(cls, root: str, stale: str | None) -> dict[str, str]:
        kept = cls._cache().read_for(root)
        return {} if stale and kept.get("access_token") == stale else kept

    @classmethod
    async def _forget(cls, token: str) -> None:
        """Clear what is kept, unless another kernel has a new token there by now."""
        if (await asyncio.to_thread(cls._get_cached_data)).get("access_token") == token:
            await asyncio.to_thread(cls._clear_cached_data)

    @classmethod
    def _get_cached_data(cls) -> dict[str, str]:
        """Return what the file holds, or nothing if it is missing or damaged."""
        return cls._cache().read()

    @classmethod
    def _save_cached_data(cls, new_data: dict[str, str]) -> None:
        """Keep `new_data` in place of what was kept."""
        cls._cache().save(new_data)

    @classmethod
    def _update_cached_data(cls, updated_data: dict[str, str]) -> None:
        """Keep `updated_data` beside what is kept."""
        cls._cache().update(updated_data)

    @classmethod
    def _clear_cached_data(cls) -> None:
        """Forget everything."""
        cls._cache().clear()


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def _events(content: Content) -> AsyncIterator[dict[str, Any]]:
    """Give the events in a body. Lines that are no JSON are logged and skipped.

    Raises FormatError where every line was such a one, or too many; BrokenAnswerError where the
    last is torn.
    """
    decoder = LineDecoder()
    skipped = read = 0
    while chunk := await content.next():
        for line in decoder.feed(chunk):
            if (event := _parse(line)) is not None:
                content.heard = True
                read += 1
                yield event
                continue
            skipped += 1
            if skipped > MAX_SKIPPED:
                raise FormatError(f"RobocodersAPI sent over {MAX_SKIPPED:,} lines of no JSON.")
            secrets.log.warning("RobocodersAPI sent a line that is not JSON: %.80s", line)
    for line in decoder.close():
        if (event := _parse(line)) is None:
            if line.lstrip().startswith("{"):
                raise BrokenAnswerError("RobocodersAPI broke off in the middle of a line.")
            skipped += 1
        else:
            read += 1
            yield event
    if skipped and not read:
        raise FormatError("RobocodersAPI sent something else than an answer; see the log.")


def _parse(line: str) -> dict[str, Any] | None:
    try:
        event = parse_json(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None


def _text(event: dict[str, Any]) -> str:
    """Return the text of an event: what the agent says, else what the service says of it."""
    match event:
        case {"args": {"content": str(text)}} if text:
            return text
        case {"message": str(text)}:
            return text
        case {"error": error} if error:
            raise ServerError(f"RobocodersAPI broke off: {said(error)}")
    return ""


def _wants_more(event: dict[str, Any]) -> bool:
    match event:
        case {"action": "message", "args": {"wait_for_response": wait}}:
            return bool(wait)
    return False
