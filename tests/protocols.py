"""How each provider's service writes an answer, for the suite that all providers pass alike."""

import asyncio
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse

import ipychat
from ipychat import config
from ipychat.catalog import registry
from ipychat.gateway.backend import Backend
from ipychat.gateway.server import Gateway
from ipychat.messages import Reasoning, Text
from ipychat.providers import AutonomousAI, Koala, OpenAI, RobocodersAPI
from ipychat.providers.anthropic import Anthropic
from ipychat.providers.gemini import Gemini
from ipychat.providers.ollama import Ollama
from ipychat.providers.responses import Responses
from ipychat.wire import http
from tests.loopback import END, HANG, Listening, Received, Service, _Threaded, answer, chunk, head


def sse(data: str) -> bytes:
    return f"data: {data}\n\n".encode()


def completion(delta: dict | None = None, finish: str | None = None, **more) -> bytes:
    choices = [{"index": 0, "delta": delta or {}, "finish_reason": finish}]
    return sse(json.dumps({"id": "x", "choices": choices, **more}))


def message_event(kind: str, **fields) -> bytes:
    """One of Anthropic's events, which name their kind twice."""
    return f"event: {kind}\n".encode() + sse(json.dumps({"type": kind, **fields}))


CUTS = {
    "every event a packet": lambda pieces: pieces,
    "one packet": lambda pieces: [b"".join(pieces)],
    "byte by byte": lambda pieces: [bytes([one]) for one in b"".join(pieces)],
}
"""How a stream may arrive: what it gives is the same."""


def joined(given: list) -> list:
    """The events, those that are text one with the text before them: how it is cut is no matter."""
    whole: list = []
    for event in given:
        before = whole[-1] if whole else None
        ended = getattr(before, "seal", "")
        if isinstance(event, Text | Reasoning) and type(before) is type(event) and not ended:
            event = dataclasses.replace(event, text=whole.pop().text + event.text)
        whole.append(event)
    return whole


def thought(text: str = "", **sealed) -> Reasoning:
    """The event of a thought with what its service wants back."""
    return Reasoning(text, json.dumps(sealed))


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

    @property
    def name(self) -> str:
        """What the catalog calls its provider."""
        names = {cls.rpartition(":")[2]: name for name, cls in registry.BUILT_IN.items()}
        return names.get(str(self), "openai")  # Responses is one of the two that it speaks

    @property
    def heading(self) -> str:
        return self.provider.label if str(self) in registry.BUILT_IN[self.name] else str(self)

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


class GeminiProtocol(Protocol):
    REASONS = {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}

    def text(self, text: str) -> bytes:
        return self._response({"content": {"parts": [{"text": text}], "role": "model"}})

    def finish(self, reason: str = "stop") -> bytes:
        return self._response({"finishReason": self.REASONS[reason]})

    def _response(self, candidate: dict) -> bytes:
        return sse(json.dumps({"candidates": [{**candidate, "index": 0}]}))


class AnthropicProtocol(Protocol):
    REASONS = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}

    def text(self, text: str) -> bytes:
        delta = {"type": "text_delta", "text": text}
        return message_event("content_block_delta", index=0, delta=delta)

    def finish(self, reason: str = "stop") -> bytes:
        end = {"stop_reason": self.REASONS[reason], "stop_sequence": None}
        ended = message_event("message_delta", delta=end, usage={"output_tokens": 1})
        return ended + message_event("message_stop")

    def pieces(self, *texts: str, reason: str = "stop") -> list[bytes]:
        message = {"type": "message", "role": "assistant", "content": [], "stop_reason": None}
        block = {"type": "text", "text": ""}
        return [
            message_event("message_start", message={**message, "usage": {"input_tokens": 1}}),
            message_event("content_block_start", index=0, content_block=block),
            message_event("ping"),
            *map(self.text, texts),
            message_event("content_block_stop", index=0),
            self.finish(reason),
        ]


class ResponsesProtocol(Protocol):
    def text(self, text: str) -> bytes:
        return self.event("output_text.delta", item_id="m", output_index=0, delta=text)

    def finish(self, reason: str = "stop") -> bytes:
        ended: dict = {"object": "response", "status": "completed", "output": []}
        if reason != "stop":
            why = "max_output_tokens" if reason == "length" else reason
            ended |= {"status": "incomplete", "incomplete_details": {"reason": why}}
        usage = {"input_tokens": 1, "output_tokens": 1}
        return self.event(ended["status"], response={**ended, "usage": usage})

    def pieces(self, *texts: str, reason: str = "stop") -> list[bytes]:
        message = {"type": "message", "id": "m", "role": "assistant", "content": []}
        part = {"type": "output_text", "text": "".join(texts), "annotations": []}
        return [
            self.event("created", response={"status": "in_progress", "output": []}),
            self.event("output_item.added", output_index=0, item=message),
            *map(self.text, texts),
            self.event("output_text.done", output_index=0, text=part["text"]),
            self.event("output_item.done", output_index=0, item={**message, "content": [part]}),
            self.finish(reason),
        ]

    def prepare(self, service) -> None:
        config.use(config.current()._replace(protocols={"openai": "responses"}))

    @staticmethod
    def event(kind: str, **fields) -> bytes:
        return message_event(f"response.{kind}", **fields)


class OllamaProtocol(Protocol):
    def text(self, text: str) -> bytes:
        return self._line(message={"role": "assistant", "content": text}, done=False)

    def finish(self, reason: str = "stop") -> bytes:
        message = {"role": "assistant", "content": ""}
        return self._line(message=message, done=True, done_reason=reason)

    def _line(self, **fields) -> bytes:
        return json.dumps({"model": self.model, **fields}).encode() + b"\n"

    def prepare(self, service) -> None:
        info = {"general.architecture": "llama", "llama.context_length": 131072}
        shown = json.dumps({"model_info": info, "capabilities": ["completion"]})
        service.on("/api/show", answer(shown.encode(), content_type="application/json"))


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
OPENAI, *OFFLINE = PROTOCOLS
ONLINE = [
    AnthropicProtocol(
        Anthropic,
        "/v1/messages",
        "claude-test",
        malformed=sse('{"type": "content_block_delta", "delta": {'),
        error=message_event("error", error={"type": "api_error", "message": "the model fell over"}),
    ),
    GeminiProtocol(
        Gemini,
        "/v1beta/models/gemini-test:streamGenerateContent",
        "gemini-test",
        malformed=sse('{"candidates": ['),
        error=sse('{"error": {"code": 500, "message": "the model fell over", "status": "INTERNAL"}}'),
    ),
    ResponsesProtocol(
        Responses,
        "/responses",
        "gpt-test",
        malformed=sse('{"type": "response.output_text.delta", "delta": '),
        error=message_event("error", code="server_error", message="the model fell over"),
    ),
    OllamaProtocol(
        Ollama,
        "/api/chat",
        "llama3.2",
        content_type="application/x-ndjson",
        malformed=b'{"message": {"role": "assistant", "content":\n',
        error=b'{"error": "the model fell over"}\n',
    ),
]  # fmt: skip
"""Those that the gateway has no part in."""
PROTOCOLS += ONLINE


class RunningGateway(_Threaded):
    """A gateway, and behind it a scripted service where its model is asked."""

    def __init__(self) -> None:
        self.model = Service()
        super().__init__()

    async def start(self) -> Sequence[Listening]:
        self._gateway = Gateway(Backend(model="openai:m"), path="")
        await self._gateway.start()
        [site] = self._gateway._runner.sites
        return site._server.sockets

    async def stop(self) -> None:
        await self._gateway.close()
        await http.close()
        await asyncio.to_thread(self.model.close)

    def ask(self, name: str, asked: Received) -> HTTPResponse:
        """Send on what a provider has asked of the service of that name."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {**asked.headers, "Connection": "close"}
        connection.request(asked.method, f"/{name}{asked.path}", asked.body, headers)
        return connection.getresponse()


@dataclass
class BehindTheGateway(Protocol):
    """The gateway's own bytes, given to the very request that the provider sends."""

    gateway: RunningGateway = field(kw_only=True)

    def prepare(self, service) -> None:
        for path in ("/auth", "/create-session", self.path):
            service.on(path, self.relay)
        self._let_the_model_say(*OPENAI.pieces("Hi"))
        options = {
            "base_url": service.url,
            "stream": True,
            "extra": {"kept_as": "not for the test itself"},
        }
        asking = ipychat.ask("Hello", model=f"{self._name}:{self.model}", **options)
        assert self.gateway.run(asking).text == "Hi"
        [self._asked] = service.asked(self.path)
        service.requests.clear()
        *_, self.error = self._answer(OPENAI.text("so far"), OPENAI.error)

    def relay(self, asked: Received) -> list:
        with self.gateway.ask(self._name, asked) as response:
            self.content_type = response.headers["Content-Type"]
            pieces = iter(response.read1, b"")
            return answer(*pieces, status=response.status, content_type=self.content_type)

    def text(self, text: str) -> bytes:
        """What comes while the model goes on, which ends once nobody listens."""
        self._let_the_model_say(OPENAI.text(text), then=HANG)
        with self.gateway.ask(self._name, self._asked) as response:
            first = response.read1()
        assert self.gateway.model.requests[-1].gone.wait(5)
        return first

    def finish(self, reason: str = "stop") -> bytes:
        return b"".join(self.pieces("all", reason=reason)[1:])

    def pieces(self, *texts: str, reason: str = "stop") -> list[bytes]:
        return self._answer(*OPENAI.pieces(*texts, reason=reason))

    def _answer(self, *said: bytes) -> list[bytes]:
        self._let_the_model_say(*said)
        with self.gateway.ask(self._name, self._asked) as response:
            return list(iter(response.read1, b""))

    def _let_the_model_say(self, *said: bytes, then: bytes | str = END) -> None:
        apart = [step for one in said for step in (chunk(one), 0.01)]
        self.gateway.model.on(OPENAI.path, [head(), *apart, then])

    @property
    def _name(self) -> str:
        return self.provider.__module__.rpartition(".")[2]
