"""What the gateway's two protocols of OpenAI have in common: models by name, and efforts."""

from __future__ import annotations

from typing import Any

from ipychat import config
from ipychat.catalog import resolve
from ipychat.errors import ChatError, UsageError
from ipychat.gateway.backend import Backend
from ipychat.gateway.replies import not_valid, refuse

DEFAULT = "default"
"""The model's name that leaves the choice to the gateway."""


def error_body(error: ChatError) -> dict[str, Any]:
    """Write an error as OpenAI does."""
    return {"error": {"message": str(error), "type": type(error).__name__, "code": None}}


def refused(why: str, status: int = 400) -> Exception:
    """Return the exception that refuses a request for a reason."""
    return refuse(status, error_body(UsageError(why)))


def chosen(answers: Backend, model: Any) -> tuple[Backend, str]:
    """Return who answers for the model that is asked for; refuse an unknown one with 404."""
    if not isinstance(model := model or DEFAULT, str):
        raise not_valid("model must be a text.")
    if model == DEFAULT:
        return answers, model
    try:
        return answers._replace(model=str(resolve.resolve(model))), model
    except UsageError as error:
        raise refuse(404, error_body(error)) from None


def effort(level: Any) -> dict[str, Any]:
    """Return the option for an effort: in the word for all services where there is one."""
    return {"effort" if level in config.EFFORTS else "reasoning_effort": level} if level else {}
