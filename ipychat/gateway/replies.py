"""Reading requests, refusing them and streaming answers, alike in every protocol."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web

from ipychat.errors import AnswerError, ChatError, ServiceError, UsageError
from ipychat.messages import Event, Message, parse_messages

MAX_BODY = 64 * 1024 * 1024
"""Bytes. Images travel in requests."""
MAX_READING = 4 * MAX_BODY
"""Bytes of all the bodies that are being read: clients that never finish fill no memory."""
BODY_WITHIN = 120.0
"""Seconds that a body may take."""

REFUSALS = {
    400: web.HTTPBadRequest,
    401: web.HTTPUnauthorized,
    402: web.HTTPPaymentRequired,
    403: web.HTTPForbidden,
    404: web.HTTPNotFound,
    408: web.HTTPRequestTimeout,
    415: web.HTTPUnsupportedMediaType,
    422: web.HTTPUnprocessableEntity,
    429: web.HTTPTooManyRequests,
    500: web.HTTPInternalServerError,
    502: web.HTTPBadGateway,
    503: web.HTTPServiceUnavailable,
}

_reading = 0
"""Bytes of the bodies that are being read."""


def refuse(status: int, body: dict[str, Any]) -> web.HTTPException:
    """Return the exception that ends a request with `status` and `body` as JSON."""
    if status == 413:
        return web.HTTPRequestEntityTooLarge(
            MAX_BODY, 0, text=json.dumps(body), content_type="application/json"
        )
    kind = REFUSALS.get(status, web.HTTPBadGateway)
    return kind(text=json.dumps(body), content_type="application/json")


def not_valid(why: str, status: int = 422) -> web.HTTPException:
    """Return the exception that refuses a request, in words that each protocol's clients find."""
    return refuse(status, {"detail": why, "error": {"message": why}})


def status_of(error: ChatError) -> int:
    """Return the status that tells a client what went wrong behind the gateway.

    A 401 of the model's service is not the client's: its token was good.
    """
    match error:
        case ServiceError(status=int(status)) if status in {400, 402, 404, 422, 429}:
            return status
        case UsageError():
            return 400
        case ServiceError() | AnswerError():
            return 502
    return 502


async def read_object(request: web.Request) -> dict[str, Any]:
    """Return the request's JSON object; refuse anything else with 422."""
    try:
        body = json.loads(await _read(request))
    except (ValueError, RecursionError):
        raise not_valid("The body is not valid JSON.") from None
    if not isinstance(body, dict):
        raise not_valid("The body must be a JSON object.")
    return body


async def _read(request: web.Request) -> bytearray:
    """Return the request's body; refuse one that is too large, too slow, or one too many."""
    global _reading  # noqa: PLW0603 - all clients count together
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_WITHIN):
            while chunk := await request.content.readany():
                body += chunk
                _reading += len(chunk)
                if len(body) > MAX_BODY:
                    raise not_valid(f"The body is over {MAX_BODY >> 20} MiB.", 413)
                if _reading > MAX_READING:
                    raise not_valid("Too much is being sent at once. Try again later.", 503)
    except TimeoutError:
        raise not_valid(f"The body took over {BODY_WITHIN:g} s.", 408) from None
    finally:
        _reading -= len(body)
    return body


def read_messages(given: Any) -> tuple[Message, ...]:
    """Return a request's messages; refuse what are none with 422."""
    try:
        return parse_messages(given if isinstance(given, list) else [])
    except UsageError as error:
        raise not_valid(str(error)) from None


def sse(payload: Any) -> bytes:
    """Write one event of an event stream."""
    return f"data: {json.dumps(payload)}\n\n".encode()


async def stream(
    request: web.Request,
    events: AsyncIterator[Event],
    *,
    write: Callable[[Event], bytes],
    write_error: Callable[[ChatError], bytes],
    refusal: Callable[[ChatError], dict[str, Any]],
    content_type: str = "text/event-stream",
    end: bytes = b"",
) -> web.StreamResponse:
    """Answer with what `write` makes of each event; then `end`, or an error.

    An error before anything was written is the request's status, with `refusal` of it as the body.
    """
    response = web.StreamResponse(headers={"Content-Type": content_type})
    try:
        async for event in events:
            if chunk := write(event):
                await response.prepare(request)  # which it does once
                await response.write(chunk)
    except ChatError as error:
        if not response.prepared:
            raise refuse(status_of(error), refusal(error)) from None
        end = write_error(error)
    await response.prepare(request)
    await response.write_eof(end)  # in one packet: some read no further, and then ask again here
    return response
