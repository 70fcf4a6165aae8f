"""The gateway's application, and where it runs: on loopback, under a path nobody can guess."""

from __future__ import annotations

import asyncio
import logging
import secrets as random
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from ipychat import secrets
from ipychat.errors import ChatError
from ipychat.gateway import autonomous, koala, openai, robocoders
from ipychat.gateway.backend import Backend
from ipychat.gateway.replies import MAX_BODY, not_valid, refuse
from ipychat.wire import policy
from ipychat.wire.http import is_loopback

CLOSE_WITHIN = 5.0
"""Seconds that answers which are being streamed get to finish when the gateway closes."""
ORIGINS = ("https://www.autonomous.ai", "https://koala.sh")
"""What the services' own clients say. A page of theirs says so, too, but its browser adds that
it asks another site, which no page can change: it is refused like all others."""
OTHER_SITES = {"cross-site", "same-site"}
"""What browsers say in `Sec-Fetch-Site` (https://www.w3.org/TR/fetch-metadata/)."""
SERVICES = {
    "robocoders": robocoders.routes,
    "autonomous": autonomous.routes,
    "koala": koala.routes,
    "openai": openai.routes,
}

SILENT = logging.getLogger("ipychat.silent")
"""For aiohttp, which would print what anyone sends to the port; `_guard` logs what happens."""
SILENT.setLevel(logging.CRITICAL + 1)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Gateway:
    """One running gateway: every service below its root, by the service's name."""

    def __init__(
        self, answers: Backend, *, host: str = "127.0.0.1", path: str | None = None
    ) -> None:
        self._host = host
        self._path = path
        if path is None:
            secrets.register(key := random.token_urlsafe(24))
            self._path = f"/{key}"
        self._runner = web.AppRunner(
            self._application(answers),
            access_log=None,
            logger=SILENT,
            handler_cancellation=True,  # a client that goes ends what is asked for it
            shutdown_timeout=CLOSE_WITHIN,
        )
        self.root = ""

    def _application(self, answers: Backend) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY, middlewares=[self._guard])
        for root in {self._path or "/", f"{self._path}/"}:
            app.router.add_get(root, _welcome)
        for name, routes in SERVICES.items():
            service = web.Application(client_max_size=MAX_BODY)
            service.add_routes(routes(answers))
            app.add_subapp(f"{self._path}/{name}", service)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse web pages and other names for this host; log a line, without contents."""
        status = 500
        try:
            self._check(request)
            response = await handler(request)
            status = response.status
        except web.HTTPException as refused:
            status = refused.status
            raise
        except ChatError as error:  # such as a disk that is full
            raise not_valid(str(error), status) from None
        except ConnectionError:  # the client has gone
            raise
        except Exception as error:  # noqa: BLE001 - aiohttp would write its traceback to the client
            secrets.log.error("The gateway failed with %s: %s", type(error).__name__, error)
            raise not_valid("The gateway failed; its log says why.", status) from None
        finally:
            secrets.log.info("%s %s %d", request.method, request.rel_url.raw_path, status)
        return response

    def _check(self, request: web.Request) -> None:
        host = request.headers.get("Host", "")
        known = "@" not in host and is_loopback(f"http://{host}")
        if is_loopback(f"http://{self._host}") and not known:
            raise refuse(403, {"detail": "This host is not known by that name."})
        from_a_page = request.headers.get("Sec-Fetch-Site") in OTHER_SITES
        if from_a_page or request.headers.get("Origin", ORIGINS[0]) not in ORIGINS:
            raise refuse(403, {"detail": "Web pages can't use this gateway."})
        if "Content-Encoding" in request.headers:
            raise refuse(415, {"detail": "Requests are not compressed here."})

    async def start(self, port: int = 0) -> str:
        """Listen, and return the root URL."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, port)
        await site.start()
        self.root = f"http://{self._host}:{self._runner.addresses[0][1]}{self._path}"
        return self.root

    async def close(self) -> None:
        """Finish what is being streamed, and stop."""
        await self._runner.cleanup()


async def _welcome(_request: web.Request) -> web.Response:
    """Say what this is."""
    return web.Response(text=f"ipychat's gateway. Below this address: {', '.join(SERVICES)}.\n")


_running: dict[asyncio.AbstractEventLoop, asyncio.Task[Gateway]] = {}
"""Each loop's own, or what starts it: whoever asks meanwhile waits for the same one."""


async def in_kernel() -> str:
    """Return the root URL of the notebook's own gateway, started now if it was not."""
    loop = asyncio.get_running_loop()
    starting = _running.get(loop)
    if starting is None or (starting.done() and (starting.cancelled() or starting.exception())):
        starting = _running[loop] = loop.create_task(_start())
    return (await asyncio.shield(starting)).root


async def _start() -> Gateway:
    gateway = Gateway(Backend(repository=Path.cwd(), notebook=True))
    policy.own(await gateway.start())
    return gateway


def close(loop: asyncio.AbstractEventLoop | None = None) -> Awaitable[None]:
    """Take the loop's gateway, if there is one, at once; what is returned closes it."""
    return _close(_running.pop(loop or asyncio.get_running_loop(), None))


async def _close(started: asyncio.Task[Gateway] | None) -> None:
    if started is not None:
        await (await started).close()
