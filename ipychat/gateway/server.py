"""The gateway's application, and where it runs: on loopback, under a path nobody can guess."""

from __future__ import annotations

import asyncio
import secrets as random
from collections.abc import Awaitable, Callable

from aiohttp import web

from ipychat import secrets
from ipychat.gateway import autonomous, koala, openai, robocoders
from ipychat.gateway.answers import Answers
from ipychat.gateway.replies import refuse
from ipychat.wire.http import is_loopback

MAX_BODY = 64 * 1024 * 1024
"""Bytes. Images travel in requests."""
CLOSE_WITHIN = 10.0
"""Seconds that answers which are being streamed get to finish when the gateway closes."""
ORIGINS = ("https://www.autonomous.ai", "https://koala.sh")
"""What the services' own clients say; a web page can't say it but from there."""
SERVICES = {
    "robocoders": robocoders.routes,
    "autonomous": autonomous.routes,
    "koala": koala.routes,
    "openai": openai.routes,
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Gateway:
    """One running gateway: every service below its root, by the service's name."""

    def __init__(
        self, answers: Answers, *, host: str = "127.0.0.1", path: str | None = None
    ) -> None:
        self._host = host
        self._path = "/" + secrets.register(random.token_urlsafe(24)) if path is None else path
        self._runner = web.AppRunner(
            self._application(answers),
            access_log=None,
            handler_cancellation=True,  # a client that goes ends what is asked for it
            shutdown_timeout=CLOSE_WITHIN,
        )
        self.root = ""

    def _application(self, answers: Answers) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY, middlewares=[self._guard])
        for name, routes in SERVICES.items():
            service = web.Application(client_max_size=MAX_BODY)
            service.add_routes(routes(answers))
            app.add_subapp(f"{self._path}/{name}", service)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse web pages and other names for this host; log a line, without contents."""
        host = request.headers.get("Host", "").rpartition(":")[0]
        if is_loopback(f"http://{self._host}") and not is_loopback(f"http://{host}"):
            raise refuse(403, {"detail": "This host is not known by that name."})
        if request.headers.get("Origin", ORIGINS[0]) not in ORIGINS:
            raise refuse(403, {"detail": "Web pages can't use this gateway."})
        status = 500
        try:
            response = await handler(request)
            status = response.status
        except web.HTTPException as refused:
            status = refused.status
            raise
        finally:
            secrets.log.info("%s %s %d", request.method, request.path, status)
        return response

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


_running: dict[asyncio.AbstractEventLoop, Gateway] = {}


async def in_kernel() -> str:
    """Return the root URL of the notebook's own gateway, started now if it was not."""
    loop = asyncio.get_running_loop()
    if loop not in _running:
        from pathlib import Path

        gateway = _running[loop] = Gateway(Answers(repository=Path.cwd(), notebook=True))
        await gateway.start()
    return _running[loop].root


async def close() -> None:
    """Close the running loop's gateway, if there is one."""
    if gateway := _running.pop(asyncio.get_running_loop(), None):
        await gateway.close()
