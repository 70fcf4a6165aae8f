"""Every way in which a service is known to fail or to be odd, against every protocol, for real.

`python -m tests.faults` writes what came of it to `docs/faults.md`; a test compares.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ipychat import secrets
from ipychat.chat.answer import Answer
from ipychat.errors import ChatError
from ipychat.messages import Message, ModelId, Question
from ipychat.wire import http
from tests.loopback import (
    END,
    FIN,
    HANG,
    RESET,
    Service,
    answer,
    byte_by_byte,
    chunk,
    gzipped,
    head,
)
from tests.protocols import PROTOCOLS, Protocol, completion, message_event, sse

PAGE = Path(__file__).parents[1] / "docs" / "faults.md"
TEXT = "Hel", "lo ✓"
JSON = "application/json"

Script = list[Any]
Fault = Callable[[Protocol], Iterable[Script] | None]


def refused(
    status: int, body: bytes = b'{"error": {"message": "because"}}', **headers: str
) -> Fault:
    return lambda _: [answer(body, status=status, content_type=JSON, **headers)]


def once(status: int) -> Fault:
    return lambda protocol: [
        answer(b"busy", status=status, Retry_After="0"),
        protocol.whole(*TEXT),
    ]


def after_some(*then: Any) -> Fault:
    """What happens once some text has come."""

    def script(protocol: Protocol) -> list[Script]:
        steps = [one(protocol) if callable(one) else one for one in then]
        return [[head(200, protocol.content_type), chunk(protocol.text(TEXT[0])), *steps]]

    return script


def body(change: Callable[[bytes], bytes]) -> Fault:
    return lambda protocol: [
        answer(change(protocol.body(*TEXT)), content_type=protocol.content_type)
    ]


def piece(of: Callable[[Protocol], bytes | None]) -> Fault:
    """A line in mid-stream, the stream goes on; None where the protocol has no such thing."""

    def script(protocol: Protocol) -> list[Script] | None:
        line = of(protocol)
        return None if line is None else after_some(chunk(line), chunk(protocol.finish()), END)(protocol)  # fmt: skip

    return script


def trickling(protocol: Protocol) -> list[Script]:
    first, *rest = protocol.whole(*TEXT)
    slow = [step for i in range(len(first)) for step in (first[i : i + 1], 0.002)]
    return [[*slow, *rest]]


def extras(protocol: Protocol) -> list[Script] | None:
    if protocol.content_type != "text/event-stream":
        return None
    lines = [b": ping\n\nid: 7\nretry: 5\n" + one for one in protocol.pieces(*TEXT)]
    return [answer(*lines, content_type=protocol.content_type)]


def without_space(protocol: Protocol) -> list[Script] | None:
    changed = protocol.body(*TEXT).replace(b"data: ", b"data:")
    return [answer(changed)] if protocol.content_type == "text/event-stream" else None


def two_lines(protocol: Protocol) -> list[Script] | None:
    """One event over two `data:` lines, broken between two words of its JSON."""
    if protocol.content_type != "text/event-stream" or b'": ' not in protocol.text("x"):
        return None
    first = protocol.text(TEXT[0]).replace(b'": ', b'":\ndata: ', 1)
    return [answer(first, protocol.text(TEXT[1]), protocol.finish())]


def nothing(protocol: Protocol) -> bytes | None:
    """Events that are legal and say nothing."""
    return {
        "OpenAI": completion({"content": None}) + sse('{"choices": []}') + completion({"role": "assistant"}),
        "AutonomousAI": completion({"content": None}) + sse('{"choices": []}'),
        "Responses": message_event("response.in_progress", response={}) + message_event("keepalive"),
        "Anthropic": message_event("ping") + message_event("content_block_stop", index=0),
        "Gemini": sse('{"candidates": [{"content": {"role": "model"}}]}') + sse('{"usageMetadata": {}}'),
        "Ollama": b'{"message": {"role": "assistant", "content": ""}, "done": false}\n',
        "RobocodersAPI": b'{"action": "think"}\n',
    }.get(str(protocol))  # fmt: skip


def reasoning(protocol: Protocol) -> bytes | None:
    block = {"type": "thinking", "thinking": ""}
    delta = {"type": "thinking_delta", "thinking": "hm"}
    thought = {"parts": [{"text": "hm", "thought": True}]}
    return {
        "OpenAI": completion({"reasoning_content": "hm"}),
        "AutonomousAI": completion({"reasoning_content": "hm"}),
        "Responses": message_event("response.reasoning_text.delta", output_index=1, delta="hm"),
        "Anthropic": message_event("content_block_start", index=1, content_block=block)
        + message_event("content_block_delta", index=1, delta=delta),
        "Gemini": sse(json.dumps({"candidates": [{"content": thought}]})),
        "Ollama": b'{"message": {"role": "assistant", "thinking": "hm"}, "done": false}\n',
    }.get(str(protocol))


def one_json_body(protocol: Protocol) -> list[Script] | None:
    text = "".join(TEXT)
    completed = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
    message = {
        "type": "message", "role": "assistant", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": text}],
    }  # fmt: skip
    output = {"type": "output_text", "text": text}
    candidate = {"content": {"parts": [{"text": text}]}, "finishReason": "STOP"}
    said = {
        "OpenAI": completed,
        "AutonomousAI": completed,
        "Responses": {"status": "completed", "output": [{"type": "message", "content": [output]}]},
        "Anthropic": message,
        "Gemini": {"candidates": [candidate]},
        "Ollama": {"message": {"content": text}, "done": True, "done_reason": "stop"},
        "Koala": {"text": text},
    }.get(str(protocol))
    return None if said is None else [answer(json.dumps(said).encode(), content_type=JSON)]


def cut(reason: str) -> Fault:
    return lambda protocol: (
        [answer(*protocol.pieces(*TEXT, reason=reason), content_type=protocol.content_type)]
        if protocol.ends_with_finish
        else None
    )


def long_line(size: int) -> Fault:
    return lambda protocol: [protocol.whole("x" * size)]


def no_done(protocol: Protocol) -> list[Script] | None:
    pieces = [one.replace(sse("[DONE]"), b"") for one in protocol.pieces(*TEXT)]
    return [answer(*pieces)] if sse("[DONE]") in protocol.finish() else None


def open_end(protocol: Protocol) -> list[Script] | None:
    whole = protocol.body(*TEXT).replace(sse("[DONE]"), b"")
    script = [head(200, protocol.content_type), chunk(whole), HANG]
    return [script] if protocol.ends_with_finish else None


FAULTS: dict[str, Fault] = {
    "400": refused(400),
    "401": refused(401),
    "404": refused(404),
    "429 for ever": refused(429, Retry_After="0"),
    "429, no credit left": refused(429, b'{"error": {"code": "insufficient_quota"}}'),
    "429 once": once(429),
    "500 once": once(500),
    "500 for ever": refused(500, Retry_After="0"),
    "502 with a page": refused(502, b"<html>bad gateway</html>", Retry_After="0"),
    "200 with an error body": refused(200),
    "the connection drops": after_some(FIN),
    "the connection is reset": after_some(RESET),
    "it ends without a finish": after_some(END),
    "an error in mid-stream": lambda p: after_some(chunk(p.error), chunk(p.finish()), END)(p),
    "a malformed line": piece(lambda protocol: protocol.malformed),
    "cut at the limit of tokens": cut("length"),
    "cut by a content filter": cut("content_filter"),
    "headers that trickle": trickling,
    "silence before the answer": lambda _: [[HANG]],
    "silence within it": after_some(HANG),
    "blank lines without end": after_some(*[chunk(b"\n\n"), 0.05] * 100),
    "byte by byte": lambda p: [byte_by_byte(p.body(*TEXT), p.content_type)],
    "CRLF line ends": body(lambda data: data.replace(b"\n", b"\r\n")),
    "CR line ends": body(lambda data: data.replace(b"\n", b"\r")),
    "no space after `data:`": without_space,
    "a byte order mark": body(lambda data: b"\xef\xbb\xbf" + data),
    "gzip": lambda p: [gzipped(p.body(*TEXT), p.content_type)],
    "comments, `id:`, `retry:`": extras,
    "one event over two lines": two_lines,
    "no line end at the end": body(lambda data: data.rstrip(b"\n")),
    "no `[DONE]`": no_done,
    "whole, but the connection stays open": open_end,
    "events that say nothing": piece(nothing),
    "reasoning": piece(reasoning),
    "a line of 100 KiB": long_line(100 << 10),
    "a line of 1.5 MiB": long_line(3 << 19),
    "one JSON body": one_json_body,
}


async def outcome(protocol: Protocol, fault: str, service: Service) -> str:
    """What a user gets of it, in a few words."""
    scripts = FAULTS[fault](protocol)
    if scripts is None:
        return "·"
    protocol.prepare(service)
    service.on(protocol.path, *scripts)
    options = {"base_url": service.url, "idle_timeout": 0.4, "stream": True, "kept_as": fault}
    model = ModelId(protocol.name, protocol.model)
    asking = Answer(Question(model, (Message("user", "Hello"),), options))
    said = ""
    try:
        async with contextlib.aclosing(asking.events()) as events:
            async for _ in events:
                pass
    except ChatError as error:
        said = type(error).__name__
    reply = asking.reply()
    told = "" if reply.finish in {"stop", None} else f", told: {reply.finish}"
    retried = ", retries shown" if any("Retrying in" in one for one in reply.notices) else ""
    if not said:
        whole = reply.text in {"".join(TEXT), TEXT[0]} or set(reply.text) == {"x"}
        thought = ", apart" if reply.reasoning else ""
        return f"{'whole' if whole else 'NOT WHOLE'}{thought}{told}{retried}"
    kept = ", text kept" if reply.text == TEXT[0] else ", TEXT LOST" if reply.text else ""
    return f"{said}{kept}{retried}"


async def outcomes(protocol: Protocol) -> dict[str, str]:
    found = {}
    with contextlib.closing(Service()) as service:
        for fault in FAULTS:
            found[fault] = await outcome(protocol, fault, service)
    await http.close()
    return found


def page(found: dict[str, dict[str, str]]) -> str:
    heads = list(found)
    rows = [f"| {fault} | {' | '.join(found[head][fault] for head in heads)} |" for fault in FAULTS]
    return "\n".join([
        "# What becomes of faults",
        "",
        "Every known way in which a service fails or behaves oddly, and what the user gets, for each protocol. `python -m tests.faults` made",
        "this table by trying them all over real HTTP, and a test checks it. The presets and your own endpoints speak OpenAI's protocol.",
        "",
        "*whole*: all of the text, and no error. *text kept*: an error that says what happened; the text received stays in the cell, in the reply",
        "and on disk. *retries shown*: each wait is shown while it lasts. *told*: the answer is whole and says how it ended. ·: the protocol has no such thing.",
        "",
        f"| fault | {' | '.join(heads)} |",
        f"|---|{'---|' * len(heads)}",
        *rows,
        "",
    ])  # fmt: skip


def main() -> None:
    os.environ["IPYCHAT_HOME"] = "/nonexistent"  # no login is kept
    secrets.log.setLevel("CRITICAL")
    found = {protocol.heading: asyncio.run(outcomes(protocol)) for protocol in PROTOCOLS}
    PAGE.write_text(page(found))


if __name__ == "__main__":
    main()
