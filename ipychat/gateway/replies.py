"""Reading requests and refusing them, alike in every protocol."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from ipychat.errors import AnswerError, ChatError, ServiceError, UsageError
from ipychat.messages import Message, parse_messages

REFUSALS = {
    400: web.HTTPBadRequest,
    401: web.HTTPUnauthorized,
    402: web.HTTPPaymentRequired,
    403: web.HTTPForbidden,
    404: web.HTTPNotFound,
    422: web.HTTPUnprocessableEntity,
    429: web.HTTPTooManyRequests,
    502: web.HTTPBadGateway,
}


def refuse(status: int, body: dict[str, Any]) -> web.HTTPException:
    """Return the exception that ends a request with `status` and `body` as JSON."""
    kind = REFUSALS.get(status, web.HTTPBadGateway)
    return kind(text=json.dumps(body), content_type="application/json")


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
        body = json.loads(await request.read())
    except (ValueError, RecursionError):
        raise refuse(422, {"detail": "The body is not valid JSON."}) from None
    if not isinstance(body, dict):
        raise refuse(422, {"detail": "The body must be a JSON object."})
    return body


def read_messages(given: Any) -> tuple[Message, ...]:
    """Return a request's messages; refuse what are none with 422."""
    try:
        return parse_messages(given if isinstance(given, list) else [])
    except UsageError as error:
        raise refuse(422, {"detail": str(error)}) from None
