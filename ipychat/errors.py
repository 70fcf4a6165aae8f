"""Every error that ipychat raises.

    ChatError
    ├── UsageError                  the request can't be carried out as given
    │   ├── UnknownOptionError      no such option; a TypeError, too
    │   ├── ModelNotSupportedError  no such model or provider, or several of that name
    │   ├── PolicyError             an administrator does not allow it
    │   ├── MissingKeyError         the service needs a key and there is none
    │   └── MissingRequirementsError  an optional package is not installed
    ├── ServiceError                a service refused, failed or could not be reached
    │   ├── RequestError            400, 409, 413, 422: it rejected the request
    │   ├── AuthenticationError     401
    │   ├── ForbiddenError          403
    │   │   └── CloudflareError     403 with a page of Cloudflare's
    │   ├── NotFoundError           404
    │   ├── RateLimitError          429
    │   │   └── QuotaError          402, and a 429 that no waiting helps: no credit left
    │   ├── ServerError             5xx
    │   ├── UnreachableError        no connection, no such host, a refusing proxy
    │   └── ServiceTimeoutError     nothing arrived for too long
    ├── AnswerError                 an answer went wrong after it had begun
    │   ├── BrokenAnswerError       it stopped before its end
    │   ├── InterruptedAnswerError  the user interrupted it
    │   └── FormatError             it violates its protocol, or lacks the requested form
    └── StoreError                  files of ipychat could not be read or written
        └── NotRecordedError        nothing may be sent, and there is no stored answer

Each message says in one to five lines what happened and what to do (NotRecordedError adds a diff),
with every known secret masked. A notebook shows just these lines, without a traceback. An error
that ends an answer has what arrived before in `reply`.
"""

from __future__ import annotations

from typing import Any

from ipychat.secrets import mask
from ipychat.text.characters import harmless

MAX_LINE = 500


class ChatError(Exception):
    """The root of the tree."""

    reply: Any = None  # a Reply, which stands above
    """The `Reply` as received when the answer went wrong."""
    max_lines = 5

    def __str__(self) -> str:
        return mask(harmless(super().__str__()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def _render_traceback_(self) -> list[str]:
        """What IPython shows instead of a traceback: one to five lines."""
        first, *rest = str(self).splitlines() or [""]
        lines = [f"{type(self).__name__}: {first}", *rest[: self.max_lines - 1]]
        return [line if len(line) <= MAX_LINE else line[:MAX_LINE] + " …" for line in lines]


class UsageError(ChatError):
    """The request can't be carried out as given."""


class UnknownOptionError(UsageError, TypeError):
    """The provider has no option of that name."""


class ModelNotSupportedError(UsageError):
    """There is no model or provider of that name, or more than one."""


class PolicyError(UsageError):
    """An administrator, or the user's own configuration, does not allow it."""


class MissingKeyError(UsageError):
    """The service needs a key and there is none."""


class MissingRequirementsError(UsageError):
    """An optional package is not installed."""


class ServiceError(ChatError):
    """A service refused, failed or could not be reached."""

    def __init__(
        self, message: str, status: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status, if there was one."""
        self.retry_after = retry_after
        """Seconds that the service asks to wait, if it says so."""


class RequestError(ServiceError):
    """The service rejected the request."""


class AuthenticationError(ServiceError):
    """The service does not accept the key or token."""


class ForbiddenError(ServiceError):
    """The service knows the user, and refuses."""


class CloudflareError(ForbiddenError):
    """Cloudflare, in front of the service, blocked the request."""


class NotFoundError(ServiceError):
    """The service has no such address or model."""


class RateLimitError(ServiceError):
    """Too many requests."""


class QuotaError(RateLimitError):
    """No credit left."""


class ServerError(ServiceError):
    """The service failed."""


class UnreachableError(ServiceError):
    """The service could not be connected to."""


class ServiceTimeoutError(ServiceError):
    """Nothing arrived for too long."""


class AnswerError(ChatError):
    """An answer went wrong after it had begun."""


class BrokenAnswerError(AnswerError):
    """An answer stopped before its end."""


class InterruptedAnswerError(AnswerError):
    """The user interrupted an answer.

    Not a KeyboardInterrupt: raised in a task of a gather, that would end the kernel's loop.
    """

    @classmethod
    def of(cls, reply: Any) -> InterruptedAnswerError:
        """Create the error for the answer received so far."""
        kept = " before any answer." if reply.is_empty else "; what came is kept."
        error = cls(f"Interrupted{kept}")
        error.reply = reply
        return error


class FormatError(AnswerError):
    """An answer violates its protocol, or does not have the requested form."""


class StoreError(ChatError):
    """Files of ipychat could not be read or written."""


class NotRecordedError(StoreError):
    """Nothing may be sent, and there is no stored answer to this question."""

    max_lines = 17
