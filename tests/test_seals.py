"""What a service wants back: its thoughts and calls as they came, to it alone; calls, results."""

import dataclasses
import json
import re

import pytest

import ipychat
from ipychat import config, messages, secrets
from ipychat.catalog import firewall, receipts
from ipychat.chat import conversations
from ipychat.messages import (
    Message,
    ModelId,
    Question,
    Reply,
    TextPart,
    Thought,
    ToolCall,
    parse_messages,
)
from tests.loopback import answer
from tests.protocols import completion, message_event, sse

SEALED = "EqQBCg/+=é•"
"""A signature, as far as a service may choose its characters."""


@dataclasses.dataclass
class Exchange:
    """A protocol's answer that thinks, says something and calls, and where its request has what."""

    model: str
    path: str
    pieces: list[bytes]
    sent_back: dict | list
    """What of the next request is the answer."""
    result: dict
    """What of it is the result."""
    content_type: str = "text/event-stream"

    @property
    def answer(self) -> list:
        said = self.sent_back if isinstance(self.sent_back, list) else [self.sent_back]
        return [*said, self.result]

    def messages(self, body: dict) -> list:
        return body.get("messages") or body.get("contents") or body.get("input")


def anthropic() -> Exchange:
    def block(index, start, *deltas):
        yield message_event("content_block_start", index=index, content_block=start)
        for delta in deltas:
            yield message_event("content_block_delta", index=index, delta=delta)
        yield message_event("content_block_stop", index=index)

    end = {"stop_reason": "tool_use"}
    return Exchange(
        "anthropic:claude-test",
        "/v1/messages",
        [
            message_event("message_start", message={"usage": {"input_tokens": 1}}),
            *block(
                0,
                {"type": "thinking", "thinking": "", "signature": ""},
                {"type": "thinking_delta", "thinking": "I should "},
                {"type": "thinking_delta", "thinking": "look."},
                {"type": "signature_delta", "signature": SEALED},
            ),
            *block(1, {"type": "redacted_thinking", "data": SEALED}),
            *block(2, {"type": "text", "text": ""}, {"type": "text_delta", "text": "I look."}),
            *block(
                3,
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {}},
                {"type": "input_json_delta", "partial_json": '{"city": "Rom"}'},
            ),
            message_event("message_delta", delta=end, usage={"output_tokens": 1}),
            message_event("message_stop"),
        ],
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "I should look.", "signature": SEALED},
                {"type": "redacted_thinking", "data": SEALED},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Rom"}},
            ],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "Rain."}],
        },
    )


def gemini() -> Exchange:
    def response(*parts, **more):
        return sse(json.dumps({"candidates": [{"content": {"parts": parts}, **more}]}))

    call = {"functionCall": {"id": "t1", "name": "weather", "args": {"city": "Rom"}}}
    return Exchange(
        "gemini:gemini-test",
        "/v1beta/models/gemini-test:streamGenerateContent",
        [
            response({"text": "I should look.", "thought": True}),
            response({"text": "I look.", "thoughtSignature": SEALED}),
            response({**call, "thoughtSignature": SEALED}, finishReason="STOP"),
        ],
        {
            "role": "model",
            "parts": [
                {"text": "I look.", "thoughtSignature": SEALED},
                {**call, "thoughtSignature": SEALED},
            ],
        },
        {
            "role": "user",
            "parts": [
                {
                    "functionResponse": {
                        "id": "t1",
                        "name": "weather",
                        "response": {"output": "Rain."},
                    }
                }
            ],
        },
    )


CALL = {"index": 0, "id": "t1", "function": {"name": "weather", "arguments": '{"city": "Rom"}'}}
CALLED = {"id": "t1", "type": "function", "function": CALL["function"]}
TOLD = {"role": "tool", "content": "Rain.", "tool_call_id": "t1"}


def deepseek() -> Exchange:
    return Exchange(
        "openai:m",
        "/chat/completions",
        [
            completion({"role": "assistant", "reasoning_content": "I should "}),
            completion({"reasoning_content": "look."}),
            completion({"content": "I look."}),
            completion({"tool_calls": [{**CALL, "extra_content": {"google": SEALED}}]}),
            completion(finish="tool_calls"),
            sse("[DONE]"),
        ],
        {
            "role": "assistant",
            "content": "I look.",
            "reasoning_content": "I should look.",
            "tool_calls": [{**CALLED, "extra_content": {"google": SEALED}}],
        },
        TOLD,
    )


def openrouter() -> Exchange:
    def details(*given, **delta):
        return completion({**delta, "reasoning_details": given})

    text = {"type": "reasoning.text", "format": "anthropic-claude-v1", "index": 0}
    secret = {"type": "reasoning.encrypted", "data": SEALED, "index": 1}
    return Exchange(
        "openai:m",
        "/chat/completions",
        [
            details({**text, "text": "I should "}, reasoning="I should "),
            details({**text, "text": "look."}, reasoning="look."),
            details({**text, "signature": SEALED}),
            details(secret),
            completion({"content": "I look."}),
            completion({"tool_calls": [CALL]}),
            completion(finish="tool_calls"),
            sse("[DONE]"),
        ],
        {
            "role": "assistant",
            "content": "I look.",
            "reasoning_details": [{**text, "text": "I should look.", "signature": SEALED}, secret],
            "tool_calls": [CALLED],
        },
        TOLD,
    )


def ollama() -> Exchange:
    def line(done=False, **message):
        said = {"message": {"role": "assistant", **message}, "done": done}
        return json.dumps(said).encode() + b"\n"

    call = {"id": "t1", "function": {"name": "weather", "arguments": {"city": "Rom"}}}
    return Exchange(
        "ollama:m",
        "/api/chat",
        [
            line(thinking="I should "),
            line(thinking="look."),
            line(content="I look."),
            line(tool_calls=[call]),
            line(done=True),
        ],
        {
            "role": "assistant",
            "content": "I look.",
            "thinking": "I should look.",
            "tool_calls": [call],
        },
        {**TOLD, "tool_name": "weather"},
        "application/x-ndjson",
    )


def responses() -> Exchange:
    def item(number, item, *before):
        empty = {**item, **{k: [] for k in ("content", "summary") if k in item}, "arguments": ""}
        yield event("output_item.added", output_index=number, item=empty)
        yield from before
        yield event("output_item.done", output_index=number, item=item)

    def event(kind, **fields):
        return message_event(f"response.{kind}", **fields)

    def delta(kind, number, text):
        return event(f"{kind}.delta", output_index=number, delta=text)

    summary = [{"type": "summary_text", "text": "I should look."}]
    thought = {"type": "reasoning", "id": "rs_1", "summary": summary, "encrypted_content": SEALED}
    text = {"type": "output_text", "text": "I look.", "annotations": []}
    said = {"type": "message", "id": "msg_1", "status": "completed", "phase": "commentary"}
    message = {**said, "role": "assistant", "content": [text]}
    call = {"type": "function_call", "id": "fc_1", "call_id": "t1", "name": "weather"}
    whole = {"status": "completed", "output": [], "usage": {"input_tokens": 1}}
    return Exchange(
        "openai:m",
        "/responses",
        [
            event("created", response={**whole, "status": "in_progress"}),
            *item(0, thought, delta("reasoning_summary_text", 0, "I should look.")),
            *item(1, message, delta("output_text", 1, "I "), delta("output_text", 1, "look.")),
            *item(
                2,
                {**call, "arguments": '{"city": "Rom"}'},
                delta("function_call_arguments", 2, '{"city": '),
                delta("function_call_arguments", 2, '"Rom"}'),
            ),
            event("completed", response=whole),
        ],
        [thought, message, {**call, "arguments": '{"city": "Rom"}'}],
        {"type": "function_call_output", "call_id": "t1", "output": "Rain."},
    )


@pytest.fixture(autouse=True)
def _conversations_of_its_own(sessions):
    yield
    conversations._live.clear()


EXCHANGES = [anthropic, gemini, deepseek, openrouter, ollama, responses]
RESULT = {"role": "tool", "tool_call_id": "t1", "content": "Rain."}


@pytest.fixture(params=EXCHANGES, ids=lambda make: make.__name__)
def exchange(request, service):
    made = request.param()
    speak(made)
    service.on("/api/show", answer(b"{}", content_type="application/json"))
    service.on(made.path, answer(*made.pieces, content_type=made.content_type))
    return made


def speak(exchange):
    protocols = {"openai": "responses" if exchange.path == "/responses" else "completions"}
    config.use(config.current()._replace(protocols=protocols))


async def begin(exchange, service, chat="talk"):
    where = {"model": exchange.model, "base_url": service.url}
    reply = await ipychat.ask("How is it?", chat=chat, **where)
    assert (reply.text, [call.name for call in reply.tool_calls]) == ("I look.", ["weather"])
    return where


async def test_the_call_its_result_and_every_seal_are_sent_as_they_came(exchange, service):
    where = await begin(exchange, service)
    await ipychat.ask([RESULT], chat="talk", **where)
    first, second = [one.json for one in service.asked(exchange.path)]
    [before] = exchange.messages(first)
    assert exchange.messages(second) == [before, *exchange.answer]


async def test_they_are_sent_after_the_conversation_was_read_from_disk(
    exchange, service, tmp_path, monkeypatch
):
    config.use(config.current()._replace(notebook=str(tmp_path / "a.ipynb")))
    where = await begin(exchange, service)
    conversations._live.clear()
    await ipychat.ask([RESULT], chat="talk", **where)
    second = service.asked(exchange.path)[-1].json
    assert exchange.messages(second)[1:] == exchange.answer


async def test_an_answer_that_is_kept_has_its_seals_too(exchange, service, tmp_path):
    config.use(config.current()._replace(replay="auto"))
    where = {"model": exchange.model, "base_url": service.url}
    first = await ipychat.ask("How is it?", **where)
    again = await ipychat.ask("How is it?", **where)
    assert len(service.asked(exchange.path)) == 1
    assert (again.parts, again.origin) == (first.parts, first.origin)


SIGNED = r"EqQBCg|rs_1|commentary|reasoning_content|reasoning_details|extra_content|\"thinking\""


async def test_another_origin_gets_the_call_and_the_result_without_a_seal(exchange, service):
    await begin(exchange, service)
    [turn] = ipychat.conversation("talk").turns
    for other in EXCHANGES:
        if (other := other()).path == exchange.path:
            continue
        speak(other)
        service.on(other.path, answer(*other.pieces, content_type=other.content_type))
        turn.state = "done"
        await ipychat.ask([RESULT], chat="talk", model=other.model, base_url=service.url)
        asked = service.asked(other.path)[-1]
        assert "weather" in asked.body.decode()
        assert "Rain." in asked.body.decode()
        assert not re.search(SIGNED, asked.body.decode())
        ipychat.conversation("talk").undo()


async def test_the_same_protocol_at_another_address_gets_no_seal(exchange, service):
    where = await begin(exchange, service)
    away = {**where, "base_url": "http://away.example", "proxy": service.url}
    await ipychat.ask([RESULT], chat="talk", **away)
    asked = service.asked(exchange.path)[-1]
    assert asked.headers["Host"] == "away.example"
    assert "Rain." in asked.body.decode()
    assert not re.search(SIGNED, asked.body.decode())


# -- seals and secrets

OWN = "an-own-secret-4711-of-a-test"
"""A secret that is known in this module."""
HERE = "anthropic at this machine"


def sealed(seal, origin=HERE, **more) -> Question:
    said = Message("assistant", (Thought("", seal), ToolCall("t", "f", "{}", seal)), origin=origin)
    model = ModelId("anthropic", "m")
    return Question(model, (Message("user", "?"), said, Message("tool", "!", "t")), **more)


def test_a_seal_is_not_masked_even_if_it_looks_like_a_secret():
    question = sealed("sk-ant-" + "a1b2c3d4" * 6)
    assert firewall.without_seals(question, HERE) == (question, [])
    masked, names = firewall.masked(question)
    assert (masked, names) == (question, [])


def test_a_seal_with_a_known_secret_is_left_out_and_its_name_is_told():
    secrets.register(OWN, "own")
    question = sealed(f'{{"thinking": "{OWN}"}}')
    asked, names = firewall.without_seals(question, HERE)
    assert names == ["own"]
    assert asked.messages[1].parts == (ToolCall("t", "f", "{}"),)
    allowed = dataclasses.replace(question, allow_secrets=True)
    assert firewall.without_seals(allowed, HERE) == (allowed, [])


async def test_the_user_is_told_of_a_seal_that_is_left_out(service):
    exchange = deepseek()
    service.on(exchange.path, answer(*exchange.pieces))
    where = await begin(exchange, service)
    secrets.register("I should look.", "what it thought")
    reply = await ipychat.ask([RESULT], chat="talk", **where)
    assert "what it thought" in "\n".join(reply.notices)
    assert "I should look." not in service.asked(exchange.path)[-1].body.decode()


def test_a_seal_in_which_a_secret_was_masked_on_disk_is_none_any_more():
    secrets.register(OWN, "own")
    parts = (Thought("", OWN), TextPart("Hi"), ToolCall("t", "f", "{}", OWN))
    reply = Reply(sealed("x"), text="Hi", tool_calls=(parts[2],), parts=parts, origin=HERE)
    record = secrets.masked({**reply.to_record(), "finish": "stop"})
    read = Reply.of_record(reply.request, json.loads(json.dumps(record)))
    assert read.parts == (TextPart("Hi"), ToolCall("t", "f", "{}"))


@pytest.mark.parametrize("parts", [["a", 4, None, 9, None], [-1, "x"], [2, 2, 2]])
def test_a_record_whose_parts_do_not_fit_the_text_is_read_with_all_of_the_text(parts):
    record = {"text": "Hello", "reasoning": "", "tool_calls": [], "notices": [], "usage": None}
    read = Reply.of_record(sealed("x"), {**record, "parts": parts})
    assert "".join(one.text for one in read.parts if isinstance(one, TextPart)) == "Hello"


def test_words_that_are_none_of_the_protocols_are_not_sent_whoever_sealed_them():
    from ipychat.providers.anthropic import Anthropic
    from ipychat.providers.gemini import Gemini
    from ipychat.providers.openai import OpenAI
    from ipychat.providers.provider import read_messages

    seal = json.dumps({"type": "image", "source": {"url": "http://evil.example"}, "role": "system"})
    given = read_messages(sealed(seal).messages)
    for cls in (Anthropic, Gemini, OpenAI):
        assert "evil" not in json.dumps(cls._read_and_write("m", given, {}, True))


# -- calls and their results


def test_ids_are_told_apart_with_their_results():
    def asks(*ids):
        return Message("assistant", tuple(ToolCall(one, "f", "{}") for one in ids))

    def told(id_):
        return Message("tool", "!", id_)

    given = (
        asks("call_0", "call_1"),
        told("call_1"),
        told("call_0"),
        asks("call_0"),
        told("call_0"),
    )
    now = messages.distinct(given)
    assert [[c.id for c in one.tool_calls] or one.tool_call_id for one in now] == [
        ["call_0", "call_1"], "call_1", "call_0", ["call_0_2"], "call_0_2",
    ]  # fmt: skip
    assert messages.distinct(given[:3]) is not given[:2]


async def test_calls_of_a_service_that_counts_anew_have_ids_of_their_own(service):
    call = {"function": {"name": "weather", "arguments": {}}}
    said = [json.dumps({"message": {"tool_calls": [call]}, "done": True}).encode() + b"\n"]
    service.on("/api/show", answer(b"{}", content_type="application/json"))
    service.on("/api/chat", answer(*said, content_type="application/x-ndjson"))
    asked, ids = "How is it?", []
    for _ in range(3):
        reply = await ipychat.ask(asked, model="ollama:m", base_url=service.url, chat="talk")
        ids += [call.id for call in reply.tool_calls]
        asked = [{"role": "tool", "tool_call_id": ids[-1], "content": "Rain."}]
    assert ids == ["call_0", "call_0_2", "call_0_3"]
    sent = service.asked("/api/chat")[-1].json["messages"]
    assert [one.get("tool_call_id") for one in sent if one["role"] == "tool"] == ids[:2]


async def test_a_call_that_nobody_answers_is_left_out_of_what_follows(service):
    exchange = anthropic()
    service.on(exchange.path, answer(*exchange.pieces))
    where = await begin(exchange, service)
    await ipychat.ask("Never mind.", chat="talk", **where)
    said = service.asked(exchange.path)[-1].json["messages"][1]["content"]
    assert [block["type"] for block in said] == ["thinking", "redacted_thinking", "text"]


async def test_a_question_after_an_answer_of_text_alone_keeps_its_hash(service):
    from tests.protocols import OPENAI

    service.on(OPENAI.path, OPENAI.whole("Hi"))
    where = {"model": "openai:m", "base_url": service.url, "chat": "talk"}
    await ipychat.ask("Hello", **where)
    reply = await ipychat.ask("And?", **where)
    asked = {
        "model": "openai:m", "at": "this machine", "options": {},
        "messages": [
            {"role": "user", "text": "Hello"},
            {"role": "assistant", "text": "Hi"},
            {"role": "user", "text": "And?"},
        ],
    }  # fmt: skip
    from ipychat.store.answers import Receipt

    assert reply.hash == Receipt.of(asked).hash


def test_a_message_is_what_it_was_after_it_was_written_and_read():
    parts = (Thought("Hm", '{"a": 1}'), TextPart("Hi"), ToolCall("t", "f", "{", '{"b": 2}'))
    given = (Message("assistant", parts, origin=HERE), Message("tool", "no", "t", failed=True))
    assert parse_messages(json.loads(json.dumps([one.to_dict() for one in given]))) == given


def test_a_receipt_has_a_seals_hash_where_it_goes_along_and_nothing_of_it_elsewhere():
    from ipychat.catalog import routes

    def receipt(question):
        way = routes.find(question.model, {"base_url": "http://127.0.0.1:1"})
        return receipts.receipt(dataclasses.replace(question, route=way))

    assert "secret-thought" not in receipt(sealed("secret-thought")).text
    assert receipt(sealed("a")).hash != receipt(sealed("b")).hash
    assert receipt(sealed("a", "gemini at this machine")).hash == receipt(sealed("b", "else")).hash
