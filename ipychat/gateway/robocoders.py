"""RobocodersAPI's server side: a login page, a session, an answer as NDJSON events."""

from __future__ import annotations

import contextlib
import json
import secrets as random
from html import escape
from typing import Any

from aiohttp import web

from ipychat.errors import ChatError
from ipychat.gateway import tokens
from ipychat.gateway.answers import Answers
from ipychat.gateway.replies import read_object, refuse, status_of
from ipychat.messages import Message, Text
from ipychat.providers import RobocodersAPI

PAGE = """<!doctype html><html><head><title>ipychat</title></head><body>
<p>Your access token:</p><pre id="token">{}</pre></body></html>"""


def routes(answers: Answers) -> list[web.RouteDef]:
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
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        async with contextlib.aclosing(answers.ask_whole(asked["agent"], prompt)) as events:
            try:
                async for event in events:
                    if isinstance(event, Text):
                        if not response.prepared:
                            await response.prepare(request)
                        await response.write(_line(event.text))
            except ChatError as error:
                if not response.prepared:
                    raise refuse(status_of(error), {"detail": str(error)}) from None
                await response.write(json.dumps({"error": str(error)}).encode() + b"\n")
        if not response.prepared:
            await response.prepare(request)
        await response.write_eof()
        return response

    return [
        web.get("/auth", auth),
        web.get("/create-session", create_session),
        web.post("/chat", chat),
    ]


def _line(text: str) -> bytes:
    event = {"action": "message", "args": {"content": text, "wait_for_response": False}}
    return json.dumps({**event, "message": ""}).encode() + b"\n"


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
