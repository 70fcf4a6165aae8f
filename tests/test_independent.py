"""All streams of the tests, re-made shapes of what services sent, as an independent reader has them."""

import json
import random

import pytest

from ipychat import config
from ipychat.chat.answer import Answer
from ipychat.errors import ChatError
from ipychat.messages import Message, ModelId, Question
from tests import independent, test_anthropic, test_responses, test_seals
from tests.loopback import END, chunk, head
from tests.protocols import PROTOCOLS, completion, sse

pytestmark = pytest.mark.usefixtures("sessions")

READERS = {
    "OpenAI": independent.completions,
    "Anthropic": independent.anthropic,
    "Gemini": independent.gemini,
    "Ollama": independent.ollama,
    "Responses": independent.responses,
}
PROTOCOL = {str(protocol): protocol for protocol in PROTOCOLS if str(protocol) in READERS}
OF_SEALS = {
    "anthropic": "Anthropic", "gemini": "Gemini", "deepseek": "OpenAI", "openrouter": "OpenAI",
    "ollama": "Ollama", "responses": "Responses",
}  # fmt: skip


def gemini(*parts, **more):
    return sse(json.dumps({"candidates": [{"content": {"parts": parts}, **more}]}))


COUNTED = {
    "promptTokenCount": 7, "candidatesTokenCount": 2, "thoughtsTokenCount": 5, "cachedContentTokenCount": 3,
}  # fmt: skip
OTHERS = {
    "parts of a content": ("OpenAI", [completion({"content": [{"type": "text", "text": "Yes"}]}), completion(finish="stop"), sse("[DONE]")]),
    "calls at once": (
        "OpenAI",
        [
            completion({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}]}),
            completion({"tool_calls": [{"index": 1, "id": "b", "function": {"name": "g", "arguments": '{"x"'}}]}),
            completion({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}, {"index": 1, "function": {"arguments": ": 1}"}}]}),
            completion(finish="tool_calls"),
            sse(json.dumps({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4, "completion_tokens_details": {"reasoning_tokens": 1}}})),
            sse("[DONE]"),
        ],
    ),
    "a whole completion": ("OpenAI", [json.dumps({"choices": [{"message": {"content": "Yes"}, "finish_reason": "stop"}]}).encode()]),
    "thoughts and counts": (
        "Gemini",
        [gemini({"text": "Hm", "thought": True}), gemini({"text": "Yes"}, finishReason="STOP"), sse(json.dumps({"usageMetadata": COUNTED}))],
    ),
    "a list in one body": ("Gemini", [json.dumps([json.loads(gemini({"text": "a"})[5:]), json.loads(gemini({"text": "b"}, finishReason="STOP")[5:])]).encode()]),
    "enumerations as numbers": ("Gemini", [gemini({"text": "Yes"}, finishReason=1)]),
    "an object where JSON was asked for": ("OpenAI", [completion({"content": {"a": 1}}), completion(finish="stop"), sse("[DONE]")]),
}  # fmt: skip
STREAMS = {
    **{f"Anthropic: {name}": ("Anthropic", pieces) for name, (pieces, _) in test_anthropic.RECORDED.items()},
    **{f"Responses: {name}": ("Responses", pieces) for name, (pieces, _) in test_responses.RECORDED.items()},
    **{f"sealed: {make.__name__}": (OF_SEALS[make.__name__], make().pieces) for make in test_seals.EXCHANGES},
    **OTHERS,
}  # fmt: skip
DEVIATIONS = {
    "enumerations as numbers": "only who asks for `enum-encoding=int` gets them, and nobody here does",
    "an object where JSON was asked for": "Cloudflare's; it becomes text, which is what a reply has",
}
"""Where the reading differs, and why that is meant."""


def cut(body: bytes, how: str, seed: str) -> list[bytes]:
    if how == "whole":
        return [body]
    chosen, pieces = random.Random(seed), []
    while body:
        size = chosen.choice((1, 2, 3, 7, 40, 333))
        pieces.append(body[:size])
        body = body[size:]
    return pieces


def arguments(text: str):
    try:
        return json.loads(text or "{}")
    except ValueError:
        return text


@pytest.mark.parametrize("how", ["whole", "event by event", "at random"])
@pytest.mark.parametrize("name", STREAMS)
async def test_an_answer_is_what_an_independent_reader_has_of_it(service, name, how):
    kind, pieces = STREAMS[name]
    protocol = PROTOCOL[kind]
    protocol.prepare(service)
    content_type = (
        "application/json" if pieces[0][:1] in b"[{" and kind != "Ollama" else protocol.content_type
    )
    parts = pieces if how == "event by event" else cut(b"".join(pieces), how, name)
    service.on(protocol.path, [head(200, content_type), *map(chunk, parts), END])
    if kind == "OpenAI":
        config.use(config.current()._replace(protocols={"openai": "completions"}))
    options = {"base_url": service.url, "stream": True}
    question = Question(ModelId(protocol.name, protocol.model), (Message("user", "?"),), options)
    answering = Answer(question)
    try:
        async for _ in answering.events(keeps=False):
            pass
    except ChatError:
        assert name in DEVIATIONS
        return
    try:
        wanted = READERS[kind](independent.payloads(b"".join(pieces).decode()))
    except TypeError:  # the reader knows no such form
        assert name in DEVIATIONS
        return
    reply = answering.reply()
    usage = reply.usage
    got = (reply.text, reply.reasoning, reply.finish)
    assert got == (wanted.text, wanted.reasoning, wanted.finish)
    calls = [(call.name, arguments(call.arguments)) for call in reply.tool_calls]
    assert calls == [(one, arguments(given)) for one, given in wanted.calls]
    counted = usage and (usage.input, usage.output, usage.reasoning, usage.cached)
    assert counted == (wanted.usage if wanted.usage and any(wanted.usage) else counted)
    assert not wanted.error
    assert name not in DEVIATIONS, "it does not differ any more"


def test_each_deviation_is_of_a_stream():
    assert DEVIATIONS.keys() <= STREAMS.keys()
