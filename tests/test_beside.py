"""What comes with an answer's text: sources, images, what is not shown, and pauses."""

import base64
import json

import pytest

import ipychat
from ipychat import config
from ipychat.display import _beside
from ipychat.messages import Image, ModelId, Question, Reply, Source
from ipychat.store import replay
from tests.loopback import answer
from tests.protocols import OPENAI, ResponsesProtocol, completion, sse
from tests.test_anthropic import begin, block, end, text_block
from tests.test_context_attachments import PNG as PICTURE
from tests.test_responses import message, said as said_item, stream as responses_stream

pytestmark = pytest.mark.usefixtures("sessions")

ENCODED = base64.b64encode(PICTURE).decode()
PAGE, OTHER = Source("https://a.example/1", "One"), Source("https://b.example/2")


def anthropic(citations):
    deltas = [{"type": "text_delta", "text": "Yes"}]
    deltas += [{"type": "citations_delta", "citation": one} for one in citations]
    return "/v1/messages", [begin(), *block(0, "text", *deltas, text=""), *end()]


def gemini(*parts, **candidate):
    content = {"parts": [{"text": "Yes"}, *parts]}
    said = {"candidates": [{"content": content, "finishReason": "STOP", **candidate}]}
    return "/v1beta/models/m:streamGenerateContent", [sse(json.dumps(said))]


def completions(*deltas, **more):
    said = [completion({"content": "Yes"}), *map(completion, deltas)]
    return OPENAI.path, [*said, completion(finish="stop", **more), sse("[DONE]")]


def responses(*events, annotations=()):
    item = message("Yes")
    item["content"][0]["annotations"] = list(annotations)
    done = [ResponsesProtocol.event("output_item.done", output_index=0, item=item), *events]
    return "/responses", responses_stream(said_item(0, "Yes")[:-1], done)


def cited(source):
    return {"type": "url_citation", "url": source.url, "title": source.title}


WEB = {"type": "web_search_result_location", "url": PAGE.url, "title": PAGE.title}
SOURCES = {
    "Anthropic": ("anthropic:m", *anthropic([WEB, WEB, {"type": "char_location", "document_title": "a.pdf"}])),
    "Gemini": (
        "gemini:m",
        *gemini(groundingMetadata={"groundingChunks": [{"web": {"uri": PAGE.url, "title": "One"}}, {"web": {"title": "a.pdf"}}]}),
    ),
    "annotations": (
        "openai:m",
        *completions({"annotations": [{"type": "url_citation", "url_citation": {"url": PAGE.url, "title": "One"}}]},
                     {"annotations": [{"type": "file", "file": {"name": "a.pdf"}}]}),
    ),
    "Responses": ("openai:m", *responses(annotations=[cited(PAGE), {"type": "file_citation", "filename": "a.pdf"}])),
}  # fmt: skip


@pytest.fixture
def ask(service):
    async def run(model, path, pieces, **options):
        protocols = {"openai": "responses" if path == "/responses" else "completions"}
        config.use(config.current()._replace(protocols=protocols))
        service.on(path, answer(*pieces))
        return await ipychat.ask("?", model=model, base_url=service.url, **options)

    return run


@pytest.mark.parametrize(("model", "path", "pieces"), SOURCES.values(), ids=SOURCES)
async def test_what_an_answer_cites_is_known_once_each(ask, model, path, pieces):
    reply = await ask(model, path, pieces)
    assert reply.sources == (PAGE, Source("", "a.pdf"))
    assert reply.text == "Yes"


async def test_perplexitys_sources_stand_beside_the_choices(ask):
    found = [{"url": PAGE.url, "title": PAGE.title}]
    more = {"search_results": found, "citations": [PAGE.url, OTHER.url]}
    assert (await ask("openai:m", *completions(**more))).sources == (PAGE, OTHER)


IMAGES = {
    "Gemini": ("gemini:m", *gemini({"inlineData": {"mimeType": "image/png", "data": ENCODED}})),
    "OpenRouter": (
        "openai:m",
        *completions({"images": [{"image_url": {"url": f"data:image/png;base64,{ENCODED}"}}]}),
    ),
    "Responses": (
        "openai:m",
        *responses(
            ResponsesProtocol.event(
                "output_item.done",
                output_index=1,
                item={"type": "image_generation_call", "id": "ig", "result": ENCODED},
            )
        ),
    ),
}


@pytest.mark.parametrize(("model", "path", "pieces"), IMAGES.values(), ids=IMAGES)
async def test_an_image_is_in_the_reply(ask, model, path, pieces):
    reply = await ask(model, path, pieces)
    assert reply.images == (Image("image/png", PICTURE),)
    assert not reply.notices


async def test_what_says_that_it_is_an_image_and_is_none_is_a_notice(ask):
    data = base64.b64encode(b"<svg onload='alert(1)'/>").decode()
    reply = await ask("gemini:m", *gemini({"inlineData": {"mimeType": "image/png", "data": data}}))
    assert not reply.images
    assert "isn't a PNG" in reply.notices[0]


@pytest.mark.parametrize(
    ("pieces", "says"),
    [
        (block(1, "a_new_block"), "a_new_block"),
        (block(1, "code_execution_tool_result", content={}), "code_execution_tool_result"),
        (block(1, "fallback", to={"model": "claude-x"}), "let another model answer: claude-x"),
        (block(1, "web_search_tool_result", content={"error_code": "unavailable"}), "failed: unavailable"),
        (block(1, "server_tool_use", name="web_search", input={}), None),
        (block(1, "web_search_tool_result", content=[]), None),
    ],
)  # fmt: skip
async def test_a_block_that_is_not_shown_is_named_and_a_fall_back_is_told(ask, pieces, says):
    stream = [begin(), *text_block(0, "Yes"), *pieces, *end()]
    reply = await ask("anthropic:m", "/v1/messages", stream)
    assert reply.text == "Yes"
    assert len(reply.notices) == (says is not None)
    assert (says or "") in "".join(reply.notices)


# -- pauses

SEARCH = {"type": "web_search_20250305", "name": "web_search"}


def searched(index, query):
    call = {"type": "input_json_delta", "partial_json": json.dumps({"query": query})}
    result = [{"type": "web_search_result", "url": PAGE.url, "encrypted_content": "abc/+="}]
    return [
        *block(index, "server_tool_use", call, id=f"s{index}", name="web_search", input={}),
        *block(index + 1, "web_search_tool_result", tool_use_id=f"s{index}", content=result),
    ]


async def test_an_answer_in_which_the_service_pauses_goes_on(service):
    paused = [begin(), *text_block(0, "I look. "), *searched(1, "a"), *end("pause_turn")]
    again = [begin(), *searched(0, "b"), *end("pause_turn")]
    whole = [begin(), *text_block(0, "Found."), *end()]
    service.on("/v1/messages", answer(*paused), answer(*again), answer(*whole))
    where = {"model": "anthropic:m", "base_url": service.url, "tools": [SEARCH]}
    reply = await ipychat.ask("?", **where)
    assert (reply.text, reply.finish) == ("I look. Found.", "stop")
    assert (reply.usage.input, reply.usage.output) == (75, 45)
    first, second, third = (one.json["messages"] for one in service.requests)
    assert second[:1] == third[:1] == first
    result = {"type": "web_search_result", "url": PAGE.url, "encrypted_content": "abc/+="}
    assert second[1]["role"] == "assistant"
    assert second[1]["content"][:2] == [
        {"type": "text", "text": "I look. "},
        {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "a"}},
    ]
    assert second[1]["content"][2]["content"] == [result]
    assert len(third[1]["content"]) == 5


async def test_pauses_without_end_end(service):
    service.on("/v1/messages", answer(begin(), *text_block(0, "."), *end("pause_turn")))
    where = {"model": "anthropic:m", "base_url": service.url, "tools": [SEARCH]}
    reply = await ipychat.ask("?", **where)
    assert (reply.finish, len(service.requests)) == ("pause_turn", 11)


# -- what is shown and stored


def shown(**reply):
    return Reply(Question(ModelId("openai", "m"), ()), **reply)


def test_sources_are_numbered_links_that_run_nothing():
    evil = Source('https://a.example/"><script>', "<img src=x onerror=alert(1)>")
    page = _beside.html(shown(sources=(PAGE, Source("", "a.pdf"), evil)))
    assert '<a href="https://a.example/1" target="_blank" rel="noopener noreferrer">One</a>' in page
    assert "<li>a.pdf</li>" in page
    assert "<script" not in page
    assert "<img" not in page
    assert _beside.plain(shown(sources=(PAGE, OTHER))).splitlines() == [
        "1. One https://a.example/1",
        "2. https://b.example/2",
    ]


@pytest.mark.parametrize("url", ["javascript:alert(1)", "data:text/html,x", "file:///etc/passwd"])
async def test_a_source_that_is_no_web_address_is_no_link(ask, url):
    reply = await ask("openai:m", *completions(citations=[url]))
    assert [one.url for one in reply.sources] in ([], [""])
    assert url not in _beside.html(reply)


def test_an_image_is_shown_in_the_page():
    page = _beside.html(shown(images=(Image("image/png", PICTURE),)))
    assert f"data:image/png;base64,{ENCODED}" in page


async def test_an_image_is_stored_beside_its_entry_by_its_hash_and_comes_back(ask, tmp_path):
    config.use(config.Config(replay="auto", cassette=str(tmp_path / "c")))
    _, path, pieces = IMAGES["Gemini"]
    asked = ("gemini:m", path, pieces)
    first = await ask(*asked)
    [image] = first.images
    assert (tmp_path / "c" / image.name).read_bytes() == PICTURE
    config.use(config.current()._replace(replay="replay"))
    again = await ask(*asked)
    assert again.images == first.images
    (tmp_path / "c" / image.name).write_bytes(b"something else")
    assert not (await ask(*asked)).images
    [entry] = replay.place().all()
    assert replay.place().forget(entry.receipt.hash, "")
    assert not (tmp_path / "c" / image.name).exists()
