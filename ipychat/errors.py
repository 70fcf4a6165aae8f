"""Every error that ipychat raises.

    ChatError
    ├── UsageError                  what was asked cannot be done as it stands
    │   ├── UnknownOptionError      no such option; a TypeError, too
    │   ├── ModelNotSupportedError  no such model, provider, or several of that name
    │   ├── PolicyError             an administrator does not allow it
    │   ├── MissingKeyError         the service wants a key and there is none
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
    │   ├── UnreachableError        no connection, no such host, a proxy that refuses
    │   └── ServiceTimeoutError     nothing came for too long
    ├── AnswerError                 an answer that had begun went wrong
    │   ├── BrokenAnswerError       it ended before its end
    │   ├── InterruptedAnswerError  the user interrupted it
    │   └── FormatError             it was not what its protocol allows
    └── StoreError                  what is kept on disk could not be read or written
        └── NotRecordedError        nothing may be asked, and this answer is not kept

Each says in one to five lines what happened and what to do (NotRecordedError shows a difference
between), with every known secret masked. In a
notebook it shows as just these lines, without a traceback. An error that ends an answer carries
what had arrived in `reply`.
"""

from __future__ import annotations

from typing import Any

from ipychat.secrets import mask
from ipychat.text.characters import harmless

MAX_LINE = 500


class ChatError(Exception):
    """The root of the tree."""

    reply: Any = None  # a Reply, which stands above
    """The `Reply` as far as it had come when the answer went wrong."""
    max_lines = 5

    def __str__(self) -> str:
        return mask(harmless(super().__str__()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback: one to five lines."""
        first, *rest = str(self).splitlines() or [""]
        lines = [f"{type(self).__name__}: {first}", *rest[: self.max_lines - 1]]
        return [line if len(line) <= MAX_LINE else line[:MAX_LINE] + " …" for line in lines]


class UsageError(ChatError):
    """What was asked cannot be done as it stands."""


class UnknownOptionError(UsageError, TypeError):
    """The provider has no option of that name."""


class ModelNotSupportedError(UsageError):
    """No model or provider of that name, or more than one."""


class PolicyError(UsageError):
    """An administrator, or the user's own configuration, does not allow it."""


class MissingKeyError(UsageError):
    """The service wants a key and there is none."""


class MissingRequirementsError(UsageError):
    """An optional package is not installed."""


class ServiceError(ChatError):
    """A service refused, failed or could not be reached."""

    def __init__(
        self, message: str, status: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status, where there was one."""
        self.retry_after = retry_after
        """Seconds that the service asks to wait, where it does."""


class RequestError(ServiceError):
    """The service rejected the request."""


class AuthenticationError(ServiceError):
    """The service does not know the key or token."""


class ForbiddenError(ServiceError):
    """The service knows who asks, and refuses."""


class CloudflareError(ForbiddenError):
    """Cloudflare, in front of the service, blocked the request."""


class NotFoundError(ServiceError):
    """No such address or model at the service."""


class RateLimitError(ServiceError):
    """Too many requests."""


class QuotaError(RateLimitError):
    """No credit left."""


class ServerError(ServiceError):
    """The service failed."""


class UnreachableError(ServiceError):
    """No connection to the service."""


class ServiceTimeoutError(ServiceError):
    """Nothing came for too long."""


class AnswerError(ChatError):
    """An answer that had begun went wrong."""


class BrokenAnswerError(AnswerError):
    """An answer ended before its end."""


class InterruptedAnswerError(AnswerError):
    """The user interrupted an answer.

    Not a KeyboardInterrupt: raised in a task of a gather, that would end the kernel's loop.
    """

    @classmethod
    def of(cls, reply: Any) -> InterruptedAnswerError:
        """Make the error of an answer that came as far as `reply`."""
        kept = " before any answer." if reply.is_empty else "; what came is kept."
        error = cls(f"Interrupted{kept}")
        error.reply = reply
        return error


class FormatError(AnswerError):
    """An answer was not what its protocol allows."""


class StoreError(ChatError):
    """What is kept on disk could not be read or written."""


class NotRecordedError(StoreError):
    """Nothing may be asked, and this question has no answer that is kept."""

    max_lines = 17
