"""RobocodersAPI's server side: a login page, a session, an answer as NDJSON events."""

from __future__ import annotations

import contextlib
import json
import secrets as random
from html import escape
from typing import Any

from aiohttp import web

from ipychat.gateway import tokens
from ipychat.gateway.backend import Backend
from ipychat.gateway.replies import read_object, refuse, stream
from ipychat.messages import Event, Message, Text
from ipychat.providers import RobocodersAPI

PAGE = """<!doctype html><html><head><title>ipychat</title></head><body>
<p>Your access token:</p><pre id="token">{}</pre></body></html>"""
LINE = (
    b'{"action": "message", "args": {"content": %b, "wait_for_response": false}, "message": ""}\n'
)


def routes(answers: Backend) -> list[web.RouteDef]:
    """Return the service's three addresses."""

    async def auth(_: web.Request) -> web.Response:
        page = PAGE.format(escape(tokens.issue()))
        return web.Response(
            text=page, content_type="text/html", headers={"Cache-Control": "no-store"}
        )

    async def create_session(request: web.Request) -> web.Response:
        _check_token(request)
        return web.json_response({"sid": random.token_hex(16)})

    async def chat(request: web.Request) -> web.StreamResponse:
        _check_token(request)
        asked = await read_object(request)
        _check_body(asked)
        prompt = (Message("user", asked["prompt"]),)
        async with contextlib.aclosing(answers.ask_whole(asked["agent"], prompt)) as events:
            return await stream(
                request,
                events,
                content_type="application/x-ndjson",
                write=_write,
                write_error=lambda error: json.dumps({"error": str(error)}).encode() + b"\n",
                refusal=lambda error: {"detail": str(error)},
            )

    return [
        web.get("/auth", auth),
        web.get("/create-session", create_session),
        web.post("/chat", chat),
    ]


def _write(event: Event) -> bytes:
    return LINE % json.dumps(event.text).encode() if isinstance(event, Text) else b""


def _check_token(request: web.Request) -> None:
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    if kind != "Bearer" or not tokens.accept(token):
        raise refuse(
            401, {"detail": "The token is not valid, or has expired. Log in again at /auth."}
        )


def _check_body(asked: dict[str, Any]) -> None:
    wrong = [
        {"loc": ["body", name], "msg": "a text is needed", "type": "string_type"}
        for name in ("sid", "prompt", "agent")
        if not (isinstance(asked.get(name), str) and asked[name])
    ]
    if not wrong and asked["agent"] not in RobocodersAPI.agent:
        agents = ", ".join(RobocodersAPI.agent)
        wrong = [{"loc": ["body", "agent"], "msg": f"one of {agents}", "type": "enum"}]
    if wrong:
        raise refuse(422, {"detail": wrong})
