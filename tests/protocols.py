"""How each provider's service writes an answer, for the suite that all providers pass alike."""

import json
from dataclasses import dataclass

from ipychat.providers import AutonomousAI, Koala, OpenAI, RobocodersAPI
from tests.loopback import answer


def sse(data: str) -> bytes:
    return f"data: {data}\n\n".encode()


def completion(delta: dict | None = None, finish: str | None = None, **more) -> bytes:
    choices = [{"index": 0, "delta": delta or {}, "finish_reason": finish}]
    return sse(json.dumps({"id": "x", "choices": choices, **more}))


@dataclass
class Protocol:
    provider: type
    path: str
    model: str
    content_type: str = "text/event-stream"
    malformed: bytes | None = sse('{"choices": [')
    """A line that the protocol does not allow; None where it says to skip such lines."""
    error: bytes | None = sse('{"error": {"message": "the model fell over", "code": 500}}')

    @property
    def ends_with_finish(self) -> bool:
        return self.provider.ends_with == "finish"

    def __str__(self) -> str:
        return self.provider.__name__

    def text(self, text: str) -> bytes:
        return completion({"content": text})

    def finish(self, reason: str = "stop") -> bytes:
        return completion(finish=reason) + sse("[DONE]")

    def pieces(self, *texts: str, reason: str = "stop") -> list[bytes]:
        return [*map(self.text, texts), self.finish(reason)]

    def body(self, *texts: str) -> bytes:
        return b"".join(self.pieces(*texts))

    def whole(self, *texts: str) -> list:
        return answer(*self.pieces(*texts), content_type=self.content_type)

    def prepare(self, service) -> None:
        """Script whatever comes before the request itself."""


class KoalaProtocol(Protocol):
    def text(self, text: str) -> bytes:
        return sse(json.dumps(text))

    def finish(self, reason: str = "stop") -> bytes:
        return b""


class RobocodersProtocol(Protocol):
    def text(self, text: str) -> bytes:
        return json.dumps({"action": "message", "args": {"content": text}}).encode() + b"\n"

    def finish(self, reason: str = "stop") -> bytes:
        return b""

    def prepare(self, service) -> None:
        service.on("/auth", login_page("a-token-of-the-service"))
        service.on("/create-session", session_page("session-1"))


def login_page(token: str) -> list:
    page = f'<html><body><pre id="token">\n  {token}\n</pre></body></html>'
    return answer(page.encode(), content_type="text/html")


def session_page(sid: str) -> list:
    return answer(json.dumps({"sid": sid}).encode(), content_type="application/json")


PROTOCOLS = [
    Protocol(OpenAI, "/chat/completions", "gpt-test"),
    Protocol(AutonomousAI, "/api/v1/ai/chat", "llama"),
    KoalaProtocol(
        Koala, "/api/gpt/", "gpt-4o-mini", malformed=sse('{"te'), error=sse('{"error": "the model fell over"}')
    ),
    RobocodersProtocol(
        RobocodersAPI,
        "/chat",
        "FrontEndAgent",
        content_type="application/x-ndjson",
        malformed=None,
        error=b'{"error": "the model fell over"}\n',
    ),
]  # fmt: skip
