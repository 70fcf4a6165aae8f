"""Scripted models that call tools, in each protocol: rounds of calls, then words."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.loopback import Received, answer
from tests.protocols import completion, message_event, sse

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63606060000000040001f61738550000000049454e44ae426082"
)
"""A PNG."""
Call = tuple[str, Any]
"""A tool's name on the wire, and its arguments: a dict, or a text that is no JSON."""
Round = str | Sequence[Call]


@dataclass(frozen=True)
class Speaker:
    """How a protocol says words and calls, and what its requests tell of results."""

    model: str
    path: str
    env: str
    say: Callable[[str], list[bytes]]
    call: Callable[[Sequence[tuple[str, str, str]]], list[bytes]]
    """Ids, names and arguments."""
    results: Callable[[dict], list[str]]
    content_type: str = "text/event-stream"

    def script(self, *rounds: Round) -> Callable[[Received], list]:
        """Answer each request with the round that follows on the results in it."""

        def respond(received: Received) -> list:
            told = len(self.results(received.json))
            at = done = 0
            for one in rounds:
                if done >= told:
                    break
                done += 0 if isinstance(one, str) else len(one)
                at += 1
            said = rounds[at]
            if isinstance(said, str):
                pieces = self.say(said)
            else:
                pieces = self.call(
                    [
                        (
                            f"c{done + number}",
                            name,
                            given if isinstance(given, str) else json.dumps(given),
                        )
                        for number, (name, given) in enumerate(said)
                    ]
                )
            return answer(*pieces, content_type=self.content_type)

        return respond


def _completions(model: str, path: str, env: str) -> Speaker:
    def call(calls):
        for index, (id_, name, arguments) in enumerate(calls):
            function = {"name": name, "arguments": arguments}
            yield completion({"tool_calls": [{"index": index, "id": id_, "function": function}]})
        yield completion({}, "tool_calls")
        yield sse("[DONE]")

    return Speaker(
        model,
        path,
        env,
        lambda text: [completion({"content": text}), completion({}, "stop"), sse("[DONE]")],
        lambda calls: [*call(calls)],
        lambda body: [m["content"] for m in body["messages"] if m["role"] == "tool"],
    )


def _anthropic() -> Speaker:
    def message(stop: str, *blocks):
        yield message_event("message_start", message={"usage": {"input_tokens": 1}})
        for index, (start, delta) in enumerate(blocks):
            yield message_event("content_block_start", index=index, content_block=start)
            yield message_event("content_block_delta", index=index, delta=delta)
            yield message_event("content_block_stop", index=index)
        yield message_event(
            "message_delta", delta={"stop_reason": stop}, usage={"output_tokens": 1}
        )
        yield message_event("message_stop")

    def call(calls):
        blocks = [
            (
                {"type": "tool_use", "id": id_, "name": name, "input": {}},
                {"type": "input_json_delta", "partial_json": arguments},
            )
            for id_, name, arguments in calls
        ]
        return [*message("tool_use", *blocks)]

    def results(body):
        parts = [
            p for m in body["messages"] if isinstance(m["content"], list) for p in m["content"]
        ]
        return [json.dumps(p["content"]) for p in parts if p["type"] == "tool_result"]

    text = {"type": "text", "text": ""}
    return Speaker(
        "anthropic:claude-test",
        "/v1/messages",
        "ANTHROPIC",
        lambda said: [*message("end_turn", (text, {"type": "text_delta", "text": said}))],
        call,
        results,
    )


def _gemini() -> Speaker:
    def response(*parts):
        said = {"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]}
        return [sse(json.dumps(said))]

    def call(calls):
        return response(
            *(
                {"functionCall": {"id": id_, "name": name, "args": json.loads(arguments)}}
                for id_, name, arguments in calls
            )
        )

    def results(body):
        parts = [p for m in body["contents"] for p in m["parts"]]
        return [json.dumps(p["functionResponse"]) for p in parts if "functionResponse" in p]

    return Speaker(
        "gemini:gemini-test",
        "/v1beta/models/gemini-test:streamGenerateContent",
        "GEMINI",
        lambda said: response({"text": said}),
        call,
        results,
    )


def _responses() -> Speaker:
    def event(kind, **fields):
        return sse(json.dumps({"type": kind, **fields}))

    def done(*output):
        response = {"status": "completed", "output": list(output), "usage": None}
        return event("response.completed", response=response)

    def say(text):
        return [event("response.output_text.delta", delta=text), done()]

    def call(calls):
        for index, (id_, name, arguments) in enumerate(calls):
            item = {
                "type": "function_call", "id": f"f{id_}", "call_id": id_, "name": name,
                "arguments": arguments, "status": "completed",
            }  # fmt: skip
            yield event(
                "response.output_item.added", output_index=index, item={**item, "arguments": ""}
            )
            yield event("response.output_item.done", output_index=index, item=item)
        yield done()

    def results(body):
        return [
            json.dumps(i["output"])
            for i in body["input"]
            if i.get("type") == "function_call_output"
        ]

    return Speaker("openai:gpt-6-luna", "/responses", "OPENAI", say, lambda c: [*call(c)], results)


def _ollama() -> Speaker:
    def line(message, **more):
        said = {"model": "m", "message": {"role": "assistant", **message}, "done": False, **more}
        return json.dumps(said).encode() + b"\n"

    def call(calls):
        several = [
            {"function": {"name": name, "arguments": json.loads(arguments)}}
            for _, name, arguments in calls
        ]
        end = {"done": True, "done_reason": "stop"}
        return [line({"content": "", "tool_calls": several}), line({"content": ""}, **end)]

    return Speaker(
        "ollama:m",
        "/api/chat",
        "OLLAMA",
        lambda text: [
            line({"content": text}),
            line({"content": ""}, done=True, done_reason="stop"),
        ],
        call,
        lambda body: [m["content"] for m in body["messages"] if m["role"] == "tool"],
        "application/x-ndjson",
    )


COMPLETIONS = _completions("openai:m", "/chat/completions", "OPENAI")
SPEAKERS = {
    "completions": COMPLETIONS,
    "responses": _responses(),
    "anthropic": _anthropic(),
    "gemini": _gemini(),
    "ollama": _ollama(),
}
