"""RobocodersAPI, beyond the contract: the login, the cache, continuations."""

import asyncio
import contextlib
import json
import stat

import pytest

from ipychat import config, errors
from ipychat.chat.answer import Answer
from ipychat.messages import Message, ModelId, Question
from ipychat.providers import RobocodersAPI, robocoders
from tests.loopback import FIN, HANG, answer, chunk, head
from tests.protocols import login_page, session_page

pytestmark = pytest.mark.usefixtures("sessions")
MESSAGES = [{"role": "user", "content": "Hello"}]
TOKEN = "token-number-one"
SECOND = "token-number-two"


def event(content: str, *, wait: bool = False) -> bytes:
    args = {"content": content, "wait_for_response": wait}
    return json.dumps({"action": "message", "args": args}).encode() + b"\n"


def said(*lines: bytes) -> list:
    return answer(*lines, content_type="application/x-ndjson")


def only(token: str, *lines: bytes):
    """A script that answers who brings `token`, and 401 to all others."""

    def script(received):
        if received.headers.get("Authorization") == f"Bearer {token}":
            return said(*lines)
        return answer(b'{"detail": "expired"}', status=401, content_type="application/json")

    return script


@pytest.fixture
def upstream(service, monkeypatch):
    monkeypatch.setenv("IPYCHAT_ROBOCODERS_URL", service.url)
    service.on("/auth", login_page(TOKEN))
    service.on("/create-session", session_page("session-1"))
    service.on("/chat", said(event("Hi")))
    return service


async def ask(model: str = "FrontEndAgent", messages: list | None = None, **options) -> str:
    given = RobocodersAPI.create_async_generator(
        model=model, messages=messages or MESSAGES, **options
    )
    return "".join([str(piece) async for piece in given])


async def reply(**options):
    request = Question(ModelId("robocoders", "FrontEndAgent"), (Message("user", "Hello"),), options)
    answering = Answer(request)
    async for _ in answering.events():
        pass
    return answering.reply()


async def test_the_first_call_logs_in_makes_a_session_and_asks(upstream):
    assert await ask() == "Hi"
    auth, create, chat = upstream.requests
    assert (auth.method, auth.path) == ("GET", "/auth")
    assert "Mozilla" in auth.headers["User-Agent"]
    assert auth.headers["Accept"].startswith("text/html,")
    assert (create.method, create.path) == ("GET", "/create-session")
    assert create.headers["Authorization"] == f"Bearer {TOKEN}"
    assert (chat.method, chat.path) == ("POST", "/chat")
    assert chat.headers["Authorization"] == f"Bearer {TOKEN}"
    assert chat.json == {"sid": "session-1", "prompt": "Hello", "agent": "FrontEndAgent"}


async def test_the_second_call_uses_what_is_kept(upstream):
    await ask()
    await ask()
    assert [r.path for r in upstream.requests] == ["/auth", "/create-session", "/chat", "/chat"]


async def test_several_messages_are_one_prompt(upstream):
    await ask(
        messages=[
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "One"},
            {"role": "assistant", "content": "Two"},
            {"role": "user", "content": " "},
            {"role": "user", "content": "Three"},
        ]
    )
    prompt = upstream.asked("/chat")[0].json["prompt"]
    assert prompt == "System: Be short.\nUser: One\nAssistant: Two\nUser: Three\nAssistant:"


async def test_what_is_kept_is_private(upstream):
    await ask()
    kept = json.loads(RobocodersAPI.CACHE_FILE.read_text())
    assert kept == {"root": upstream.url, "access_token": TOKEN, "sid": "session-1"}
    assert stat.S_IMODE(RobocodersAPI.CACHE_FILE.stat().st_mode) == 0o600
    assert stat.S_IMODE(RobocodersAPI.CACHE_DIR.stat().st_mode) == 0o700


async def test_a_reassigned_cache_file_is_honoured(upstream, tmp_path, monkeypatch):
    monkeypatch.setattr(RobocodersAPI, "CACHE_FILE", tmp_path / "elsewhere" / "mine.json")
    await ask()
    assert json.loads((tmp_path / "elsewhere" / "mine.json").read_text())["sid"] == "session-1"


async def test_a_token_never_goes_to_another_root_than_the_one_that_gave_it(upstream, monkeypatch):
    await ask()
    RobocodersAPI._update_cached_data({"root": "http://elsewhere.example"})
    upstream.requests.clear()
    await ask()
    assert [r.path for r in upstream.requests] == ["/auth", "/create-session", "/chat"]
    assert "Authorization" not in upstream.requests[0].headers


async def test_a_stale_token_is_renewed_once_and_silently(upstream):
    await ask()
    upstream.on("/auth", login_page(SECOND))
    upstream.on("/create-session", session_page("session-2"))
    upstream.on("/chat", only(SECOND, event("Hi again")))
    assert (await reply()).text == "Hi again"
    assert not (await reply()).notices
    assert RobocodersAPI._get_cached_data()["access_token"] == SECOND
    assert len(upstream.asked("/auth")) == 2


async def test_a_token_that_is_refused_anew_is_an_error_and_the_cache_is_cleared(upstream):
    upstream.on("/chat", only("nobody's token"))
    with pytest.raises(errors.AuthenticationError):
        await ask()
    assert len(upstream.asked("/chat")) == 2
    assert RobocodersAPI._get_cached_data() == {}
    assert not RobocodersAPI.CACHE_FILE.exists()


async def test_a_session_refused_for_a_kept_token_makes_a_new_login(upstream):
    RobocodersAPI._save_cached_data({"root": upstream.url, "access_token": "token-gone-stale"})
    upstream.on(
        "/create-session",
        lambda r: session_page("s") if TOKEN in r.headers["Authorization"] else answer(status=401),
    )
    assert await ask() == "Hi"
    assert len(upstream.asked("/create-session")) == 2


async def test_a_session_refused_for_a_new_token_is_an_error_and_clears(upstream):
    upstream.on("/create-session", answer(status=401))
    with pytest.raises(errors.AuthenticationError):
        await ask()
    assert RobocodersAPI._get_cached_data() == {}


async def test_twenty_parallel_first_calls_make_one_login(upstream):
    assert await asyncio.gather(*(ask() for _ in range(20))) == ["Hi"] * 20
    assert len(upstream.asked("/auth")) == 1
    assert len(upstream.asked("/create-session")) == 1


async def test_twenty_parallel_calls_with_a_stale_token_make_one_login(upstream):
    await ask()
    upstream.on("/auth", login_page(SECOND))
    upstream.on("/chat", only(SECOND, event("Hi")))
    assert await asyncio.gather(*(ask() for _ in range(20))) == ["Hi"] * 20
    assert len(upstream.asked("/auth")) == 2


async def test_a_damaged_cache_is_moved_aside_with_a_warning(upstream):
    RobocodersAPI.CACHE_DIR.mkdir(mode=0o700)
    RobocodersAPI.CACHE_FILE.write_text('{"access_token": "tok')
    with pytest.warns(UserWarning, match=r"robocoders\.json could not be read: it is not valid"):
        assert await ask() == "Hi"
    [aside] = RobocodersAPI.CACHE_DIR.glob("robocoders.json.damaged-*")
    assert aside.read_text() == '{"access_token": "tok'


async def test_a_cache_of_wrong_types_counts_as_none(upstream):
    RobocodersAPI.CACHE_DIR.mkdir(mode=0o700)
    RobocodersAPI.CACHE_FILE.write_text('{"access_token": 7, "sid": ["x"]}')
    assert await ask() == "Hi"


async def test_an_empty_cache_file_reads_as_nothing():
    assert RobocodersAPI._get_cached_data() == {}


@pytest.mark.parametrize("times", [1, 2, 5])
async def test_a_service_that_waits_is_told_to_continue_as_often_as_it_asks(upstream, times):
    parts = [said(event(f"part {i} ", wait=True)) for i in range(times)]
    upstream.on("/chat", *parts, said(event("the end")))
    assert await ask() == "".join(f"part {i} " for i in range(times)) + "the end"
    prompts = [r.json["prompt"] for r in upstream.asked("/chat")]
    assert prompts == ["Hello", *["continue"] * times]
    assert {r.json["sid"] for r in upstream.asked("/chat")} == {"session-1"}
    assert {r.json["agent"] for r in upstream.asked("/chat")} == {"FrontEndAgent"}


async def test_a_service_that_keeps_its_stream_open_while_it_waits_is_continued(upstream):
    waiting = [head(200, "application/x-ndjson"), chunk(event("a", wait=True)), HANG]
    upstream.on("/chat", waiting, said(event("b")))
    assert await ask() == "ab"


async def test_endless_continuations_stop_at_the_bound_and_say_so(upstream):
    upstream.on("/chat", said(event("more ", wait=True)))
    answered = await reply()
    assert answered.text == "more " * (robocoders.MAX_CONTINUATIONS + 1)
    assert answered.finish == "length"
    assert "32 continuations" in answered.notices[0]


async def test_a_401_in_a_continuation_keeps_the_text(upstream):
    upstream.on("/chat", said(event("so far", wait=True)), answer(status=401))
    with pytest.raises(errors.AuthenticationError) as caught:
        await reply()
    assert caught.value.reply.text == "so far"


async def test_lines_that_are_not_json_are_logged_and_skipped(upstream, caplog):
    upstream.on("/chat", said(event("a"), b"oops\n", b"[1]\n", event("b")))
    assert await ask() == "ab"
    assert "not JSON: oops" in caplog.text


async def test_a_last_line_that_is_torn_is_an_error_and_the_text_is_kept(upstream):
    torn = [head(200, "application/x-ndjson", chunked=False), event("so far"), b'{"action": ', FIN]
    upstream.on("/chat", torn)
    with pytest.raises(errors.BrokenAnswerError, match="middle of a line") as caught:
        await reply()
    assert caught.value.reply.text == "so far"


async def test_the_text_is_the_content_else_the_message(upstream):
    lines = [
        {"action": "run", "args": {"command": "ls", "thought": "look"}, "message": "Running ls. "},
        {"observation": "run", "content": "a.py", "message": "I ran it. "},
        {"action": "message", "args": {"content": "Done."}, "message": "not this"},
        {"action": "null"},
    ]
    upstream.on("/chat", said(*(json.dumps(line).encode() + b"\n" for line in lines)))
    assert await ask() == "Running ls. I ran it. Done."


async def test_a_login_page_without_a_token_is_an_error(upstream):
    upstream.on("/auth", answer(b"<html>no</html>", content_type="text/html"))
    with pytest.raises(errors.FormatError, match="holds no token"):
        await ask()


@pytest.mark.parametrize("body", [b"{}", b"[]", b"no", b'{"sid": null}', b'{"sid": ""}'])
async def test_a_session_without_an_id_is_an_error(upstream, body):
    upstream.on("/create-session", answer(body))
    with pytest.raises(errors.FormatError, match="no session id"):
        await ask()


async def test_a_422_shows_what_is_wrong(upstream):
    body = b'{"detail": [{"loc": ["body", "agent"], "msg": "not an agent", "type": "enum"}]}'
    upstream.on("/chat", answer(body, status=422, content_type="application/json"))
    with pytest.raises(errors.RequestError, match=r"body\.agent: not an agent"):
        await ask()


async def test_the_login_goes_through_the_proxy_too(upstream, proxy):
    assert await ask(proxy=proxy.url) == "Hi"
    assert [line.split()[1] for line in proxy.seen] == [
        f"{upstream.url}{path}" for path in ("/auth", "/create-session", "/chat")
    ]


async def test_without_beautifulsoup_the_error_names_the_command(upstream, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "bs4", None)
    with pytest.raises(errors.MissingRequirementsError, match="pip install beautifulsoup4"):
        await ask()


async def test_a_disk_that_cannot_be_written_costs_the_cache_and_not_the_answer(
    upstream, tmp_path, monkeypatch, caplog
):
    (tmp_path / "a file").write_text("in the way")
    monkeypatch.setattr(RobocodersAPI, "CACHE_FILE", tmp_path / "a file" / "robocoders.json")
    assert await ask() == "Hi"
    assert await ask() == "Hi"
    assert len(upstream.asked("/auth")) == 1
    assert "until it ends" in caplog.text


async def test_a_session_of_the_callers_own_can_be_given_to_the_documented_methods(upstream):
    import aiohttp

    async with aiohttp.ClientSession() as session:
        token, sid = await RobocodersAPI._get_or_create_access_and_session(session)
        assert (token, sid) == (TOKEN, "session-1")
        assert await RobocodersAPI._fetch_and_cache_access_token(session) == TOKEN
        assert await RobocodersAPI._create_and_cache_session(session, TOKEN) == "session-1"


async def test_the_documented_cache_methods_read_and_write():
    RobocodersAPI._save_cached_data({"access_token": "one"})
    RobocodersAPI._update_cached_data({"sid": "two"})
    assert RobocodersAPI._get_cached_data() == {"access_token": "one", "sid": "two"}
    RobocodersAPI._save_cached_data({"sid": "three"})
    assert RobocodersAPI._get_cached_data() == {"sid": "three"}
    RobocodersAPI._clear_cached_data()
    assert RobocodersAPI._get_cached_data() == {}


async def test_tokens_show_in_no_error_and_no_log(upstream, caplog):
    await ask()
    upstream.on("/chat", answer(f'{{"detail": "bad token {TOKEN}"}}'.encode(), status=422))
    with pytest.raises(errors.RequestError) as caught:
        await ask()
    assert TOKEN not in f"{caught.value}{caught.value!r}{caplog.text}"


async def test_the_class_has_its_documented_attributes():
    assert RobocodersAPI.label == "API Robocoders AI"
    assert RobocodersAPI.url == "https://api.robocoders.ai/docs"
    assert RobocodersAPI.api_endpoint == "https://api.robocoders.ai/chat"
    assert RobocodersAPI.agent == ["GeneralCodingAgent", "RepoAgent", "FrontEndAgent"]
    assert RobocodersAPI.models == RobocodersAPI.agent
    assert RobocodersAPI.default_model == "GeneralCodingAgent"
    assert RobocodersAPI.working is False
    assert RobocodersAPI.CACHE_FILE == RobocodersAPI.CACHE_DIR / "robocoders.json"


async def test_the_configured_address_is_used_when_asked_by_name(upstream, monkeypatch):
    monkeypatch.delenv("IPYCHAT_ROBOCODERS_URL")
    config.use(config.Config(urls={"robocoders": upstream.url}))
    assert (await reply()).text == "Hi"


async def test_closing_it_while_it_logs_in_leaves_nothing_locked(upstream):
    upstream.on("/auth", [HANG], login_page(TOKEN))
    task = asyncio.create_task(ask())
    while not upstream.asked("/auth"):
        await asyncio.sleep(0.01)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert await ask() == "Hi"
