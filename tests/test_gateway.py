"""The services' server side, asked by the providers unchanged and by bare HTTP."""

import asyncio
import base64
import contextlib
import io
import json
import subprocess
import sys
import time

import aiohttp
import pytest

import ipychat
from ipychat import config, errors
from ipychat.catalog import registry
from ipychat.gateway import replies, server, tokens
from ipychat.gateway.backend import Backend
from ipychat.gateway.server import Gateway
from ipychat.messages import FinishReason, Reasoning, Usage
from ipychat.providers import RobocodersAPI
from tests.loopback import END, chunk, head
from tests.protocols import PROTOCOLS

pytestmark = pytest.mark.usefixtures("sessions")
THREE = ["robocoders:FrontEndAgent", "autonomous:qwen_coder", "koala:gpt-4o-mini"]


class Model:
    """The model behind the gateway: yields what it is told, and remembers what it was asked."""

    pieces: tuple = ()
    asked: list = []
    closed = 0
    default_model = "m"

    @classmethod
    async def create_async_generator(cls, model, messages, **options):
        cls.asked.append({"model": model, "messages": messages, **options})
        try:
            for piece in cls.pieces:
                if isinstance(piece, BaseException):
                    raise piece
                if isinstance(piece, int | float):
                    await asyncio.sleep(piece)
                else:
                    yield piece
        finally:
            cls.closed += 1


@pytest.fixture(autouse=True)
def model(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    registry.register(Model)
    Model.pieces, Model.asked, Model.closed = ("Hel", "lo ✓"), [], 0
    return Model


@pytest.fixture
async def root():
    gateway = Gateway(Backend(model="model:m"))
    yield await gateway.start()
    await gateway.close()


@pytest.fixture
def ask(root):
    async def run(name, prompt="Hi", **options):
        url = f"{root}/{name.partition(':')[0]}"
        if name.startswith("openai"):
            url += "/v1"
        return await ipychat.ask(prompt, model=name, base_url=url, **options)

    return run


@pytest.mark.parametrize("name", [*THREE, "openai:default", "openai:model:m"])
async def test_each_protocol_is_answered(ask, name):
    reply = await ask(name)
    assert (reply.text, reply.finish) == ("Hello ✓", "stop")


@pytest.mark.parametrize("name", THREE)
async def test_an_error_before_the_answer_is_an_error_of_the_service(ask, model, name):
    model.pieces = (errors.RateLimitError("too many of you", 429),)
    with pytest.raises(errors.RateLimitError, match="too many of you"):
        await ask(name, retries=0)


@pytest.mark.parametrize("name", THREE)
async def test_an_error_in_mid_answer_keeps_the_text(ask, model, name):
    model.pieces = ("so far", errors.BrokenAnswerError("it broke"))
    with pytest.raises(errors.ChatError, match="it broke") as caught:
        await ask(name)
    assert caught.value.reply.text == "so far"


@pytest.mark.parametrize("name", THREE)
async def test_a_refused_key_behind_the_gateway_is_not_the_clients_login(ask, model, name):
    model.pieces = (errors.AuthenticationError("bad key", 401),)
    with pytest.raises(errors.ServerError, match="bad key"):
        await ask(name, retries=0)


@pytest.mark.parametrize("name", THREE)
async def test_a_client_that_vanishes_ends_what_was_asked_for_it(root, model, name):
    model.pieces = ("first", 30)
    url = f"{root}/{name.partition(':')[0]}"
    given = ipychat.stream("Hi", model=name, base_url=url, stream=True)
    async with contextlib.aclosing(given) as texts:
        assert await anext(texts) == "first"
    async with asyncio.timeout(5):
        while not model.closed:
            await asyncio.sleep(0.01)


async def test_the_histories_arrive(ask, model):
    talk = [
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "Two"},
        {"role": "user", "content": "Three"},
    ]
    await ask("koala:gpt-4o-mini", talk)
    assert model.asked[-1]["messages"] == talk
    await ask("autonomous:hermes", talk)
    assert model.asked[-1]["messages"][1:] == talk
    assert model.asked[-1]["messages"][0]["role"] == "system"
    await ask("robocoders:FrontEndAgent", talk)
    assert model.asked[-1]["messages"][-1]["content"].startswith("User: One\nAssistant: Two\n")


async def test_an_answer_that_its_model_cuts_off_is_continued_up_to_a_bound(ask, model):
    model.pieces = ("part ", FinishReason("length"))
    reply = await ask("robocoders:FrontEndAgent")
    assert reply.text.startswith("part " * 5)
    assert "limit of tokens" in reply.text
    assert len(model.asked) == 5
    assert model.asked[-1]["messages"][-2]["content"] == "part "


async def test_openai_streams_reasoning_and_usage(ask, model):
    model.pieces = (Reasoning("hm"), "yes", Usage(3, 4), FinishReason("length"))
    reply = await ask("openai:default")
    assert (reply.reasoning, reply.text, reply.finish) == ("hm", "yes", "length")
    assert reply.usage == Usage(3, 4)
    whole = await ask("openai:default", stream=False)
    assert (whole.reasoning, whole.text, whole.finish) == ("hm", "yes", "length")


async def test_openai_lists_what_is_ready(root):
    async with aiohttp.ClientSession() as http, http.get(f"{root}/openai/v1/models") as response:
        names = [one["id"] for one in (await response.json())["data"]]
    assert names[0] == "default"
    assert "koala:gpt-4o-mini" not in names


async def test_a_model_that_is_not_there_is_404(ask):
    with pytest.raises(errors.NotFoundError, match="nonsense"):
        await ask("openai:nonsense")


def test_a_token_is_accepted_until_it_expires_or_is_tampered_with(monkeypatch):
    token = tokens.issue()
    assert tokens.accept(token)
    expires, _, rest = token.partition(".")
    later = int(expires) + 1
    for other in (f"{later}.{rest}", token[:-1] + "x", "", "a.b.c", "9" * 30 + ".x.y", "²." + rest):
        assert not tokens.accept(other), other
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + tokens.LIFETIME + 1)
    assert not tokens.accept(token)


async def test_a_token_of_one_kernel_is_accepted_by_the_next_kernels_gateway(model):
    for _ in range(2):
        gateway = Gateway(Backend(model="model:m"))
        root = await gateway.start()
        options = {"base_url": f"{root}/robocoders", "kept_as": "gateway"}
        reply = await ipychat.ask("Hi", model="robocoders:RepoAgent", **options)
        kept = RobocodersAPI._get_cached_data()
        assert reply.text == "Hello ✓"
        assert kept["root"] == "gateway"
        await gateway.close()
    assert RobocodersAPI._get_cached_data() == kept


async def call(url: str, method: str = "POST", **how) -> tuple[int, str]:
    async with aiohttp.ClientSession() as http, http.request(method, url, **how) as response:
        return response.status, await response.text()


def bearer() -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens.issue()}"}


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("robocoders/chat", b"not json", "not valid JSON"),
        ("robocoders/chat", b"[]", "JSON object"),
        ("robocoders/chat", b'{"sid": "s", "prompt": "", "agent": "RepoAgent"}', "prompt"),
        (
            "robocoders/chat",
            b'{"sid": "s", "prompt": "x", "agent": "Nobody"}',
            "GeneralCodingAgent",
        ),
        ("robocoders/chat", b"[" * 100_000, "not valid JSON"),
        ("koala/api/gpt/", b'{"input": 7}', "input must be a text"),
        ("koala/api/gpt/", b'{"input": " "}', "empty"),
        ("autonomous/api/v1/ai/chat", b'{"aiAgent": "llama", "messages": "@"}', "base64"),
        ("autonomous/api/v1/ai/chat", b'{"aiAgent": "hermes", "messages": ""}', "aiAgent"),
        ("autonomous/api/v1/ai/chat", b'{"aiAgent": "llama", "messages": "W10="}', "empty"),
        ("openai/v1/chat/completions", b'{"messages": [{"role": "robot"}]}', "dict"),
    ],
)
async def test_a_bad_body_is_422_with_what_is_wrong(root, model, path, body, says):
    status, text = await call(f"{root}/{path}", data=body, headers=bearer())
    assert status == 422
    assert says in text
    assert not model.asked


async def test_a_plain_json_body_is_given_to_who_asks_for_it(root):
    messages = base64.b64encode(json.dumps([{"role": "user", "content": "Hi"}]).encode()).decode()
    body = {"aiAgent": "llama", "messages": messages, "stream": False}
    url = f"{root}/autonomous/api/v1/ai/chat"
    status, text = await call(url, json=body, headers={"Accept": "application/json"})
    assert status == 200
    assert json.loads(text)["choices"][0]["message"]["content"] == "Hello ✓"


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer x"}, {"Authorization": "Basic x"}]
)
async def test_without_a_good_token_there_is_no_session_and_no_answer(root, headers):
    for method, path in (("GET", "create-session"), ("POST", "chat")):
        status, text = await call(f"{root}/robocoders/{path}", method, headers=headers)
        assert status == 401
        assert "Log in again" in text


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Host": "evil.example:80"}, {"Host": "x@127.0.0.1"}, {"Origin": "https://evil.example"},
     {"Origin": "null"}],
)  # fmt: skip
async def test_web_pages_and_other_names_for_the_host_are_refused(root, headers, caplog):
    caplog.set_level("INFO", "ipychat")
    status, _ = await call(f"{root}/openai/v1/models", "GET", headers=headers)
    assert status == 403
    assert caplog.text.endswith(" 403\n")


@pytest.mark.heavy
@pytest.mark.parametrize("origin", ["https://koala.sh", "https://www.autonomous.ai"])
async def test_a_page_of_a_service_that_is_gone_is_a_page_like_others(standing_alone, origin):
    _, root = standing_alone("--token-path", "off")
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200)):
        headers = {"Origin": origin, "Sec-Fetch-Site": site}  # the last is what the clients say
        assert (await call(f"{root}/openai/v1/models", "GET", headers=headers))[0] == status


async def test_nobody_gets_in_without_the_path(root):
    base = root.rpartition("/")[0]
    for path in ("/openai/v1/models", "/robocoders/auth", "/", "/x/openai/v1/models"):
        assert (await call(base + path, "GET"))[0] == 404


async def test_the_path_is_a_secret_in_errors_and_logs(root, caplog):
    path = root.rpartition("/")[2]
    caplog.set_level("INFO", "ipychat")
    await call(f"{root}/openai/v1/models", "GET")
    assert "GET" in caplog.text
    assert path not in caplog.text
    with pytest.raises(errors.ChatError) as caught:
        await ipychat.ask("Hi", model="openai:m", base_url=f"{root}/nowhere")
    assert path not in f"{caught.value}"


@pytest.mark.heavy
async def test_two_hundred_clients_at_once_are_answered(ask, model):
    model.pieces = ("a", 0.2, "b")
    async with asyncio.timeout(30):
        replies = await asyncio.gather(*(ask(THREE[i % 3]) for i in range(200)))
    assert {reply.text for reply in replies} == {"ab"}


async def test_a_body_that_is_too_large_is_refused(root, monkeypatch):
    body = b'{"input": "' + b"x" * (server.MAX_BODY + 1) + b'"}'
    with contextlib.suppress(aiohttp.ClientError):  # it may hang up before all of it is sent
        assert (await call(f"{root}/koala/api/gpt/", data=io.BytesIO(body)))[0] == 413


async def test_bodies_that_are_never_finished_fill_no_memory(root, monkeypatch):
    monkeypatch.setattr(replies, "MAX_READING", 8 << 20)
    url = f"{root}/koala/api/gpt/"
    port, _, path = url.removeprefix("http://127.0.0.1:").partition("/")
    unfinished = []
    for _ in range(2):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
        writer.write(f"POST /{path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n".encode())
        writer.write(b"Content-Length: 60000000\r\n\r\n" + b"x" * (7 << 19))
        unfinished.append((reader, writer))
    while replies._reading < 2 * (7 << 19):
        await asyncio.sleep(0.01)
    body = json.dumps({"input": "x" * (2 << 20)}).encode()
    status, text = await call(url, data=io.BytesIO(body))
    assert (status, "sent at once" in text) == (503, True)
    assert (await call(url, data=b'{"input": "small"}'))[0] == 200
    for _, writer in unfinished:
        writer.close()
    while replies._reading:
        await asyncio.sleep(0.01)
    assert (await call(url, data=io.BytesIO(body)))[0] == 200


async def test_a_body_that_takes_too_long_is_refused(root, monkeypatch):
    monkeypatch.setattr(replies, "BODY_WITHIN", 0.1)

    async def slowly():
        yield b'{"input": '
        await asyncio.sleep(30)

    status, text = await call(f"{root}/koala/api/gpt/", data=slowly())
    assert (status, "took over" in text) == (408, True)
    assert replies._reading == 0


@pytest.mark.parametrize(
    "prompt", ["x" * 50_000_000, "\u2713\n" * 8_000_000], ids=["text", "escapes"]
)
@pytest.mark.slow("50 MB are written, read and checked several times")
async def test_fifty_megabytes_are_answered_and_others_meanwhile(ask, model, prompt):
    async with asyncio.timeout(60):
        large = asyncio.create_task(ask("robocoders:FrontEndAgent", prompt, large=True))
        small = [await ask("koala:gpt-4o-mini", "hi") for _ in range(5)]
        assert {reply.text for reply in [*small, await large]} == {"Hello \u2713"}
    assert prompt in {asked["messages"][-1]["content"] for asked in model.asked}


async def test_a_picture_reaches_the_model_that_answers_for_vision(ask, model):
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    asked = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, part]}]
    await ask("autonomous:vision", asked)
    assert model.asked[-1]["messages"][-1]["content"][1] == part
    assert "images" in model.asked[-1]["messages"][0]["content"]


async def test_its_root_says_what_it_is(root):
    for place in (root, f"{root}/"):
        status, text = await call(place, "GET")
        assert status == 200
        assert "ipychat's gateway" in text
        assert "robocoders" in text


async def test_nobody_guesses_the_path(root):
    base, _, path = root.rpartition("/")
    guesses = [
        path[:-1],
        path + "x",
        path.swapcase(),
        path[:-1] + "%00",
        "..",
        "%2e%2e",
        "*",
        "robocoders",
    ]
    for guess in guesses:
        for rest in ("openai/v1/models", "robocoders/auth"):
            status, text = await call(f"{base}/{guess}/{rest}", "GET")
            assert status in {400, 404}, guess
            assert path not in text
    assert len(path) >= 32


async def test_what_anyone_sends_to_the_port_is_printed_nowhere(root, caplog, capfd):
    host, _, port = root.split("/")[2].partition(":")
    for sent in (
        b"GET /x\0 ANY TEXT HTTP/1.1\r\n\r\n",
        b"GET /%0aANY%20TEXT%1b]0; HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(sent)
        assert b" 40" in await asyncio.wait_for(reader.read(2000), 5)
        writer.close()
        await writer.wait_closed()
    assert "ANY TEXT" not in caplog.text + "".join(capfd.readouterr())
    assert "\x1b" not in caplog.text


@pytest.mark.parametrize(
    "body",
    [{"stream_options": "x"}, {"model": ["a"]}, {"model": 5}, {"messages": "x"}, {"messages": [5]}],
)
async def test_wrong_types_are_422(root, body):
    asked = {"messages": [{"role": "user", "content": "hi"}], "stream": True, **body}
    assert (await call(f"{root}/openai/v1/chat/completions", json=asked))[0] == 422


async def test_null_is_as_if_it_were_not_there(root):
    asked = {
        "messages": [{"role": "user", "content": "hi"}],
        "n": None,
        "model": None,
        "stream_options": None,
    }
    assert (await call(f"{root}/openai/v1/chat/completions", json=asked))[0] == 200


async def test_a_compressed_body_is_refused_unread(root):
    headers = {"Content-Encoding": "gzip"}
    assert (await call(f"{root}/koala/api/gpt/", data=b"x", headers=headers))[0] == 415


async def test_an_odd_token_is_401(root):
    reader, writer = await asyncio.open_connection(*root.split("/")[2].split(":"))
    path = "/" + root.split("/", 3)[3]
    writer.write(
        f"GET {path}/robocoders/create-session HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer 123.x.".encode()
        + b"\xff\r\n\r\n"
    )
    assert b" 401 " in await asyncio.wait_for(reader.readline(), 5)
    writer.close()
    await writer.wait_closed()


async def test_a_full_disk_is_told_by_the_service_in_words(ask, monkeypatch):
    def full(*_):
        raise errors.StoreError("Can't write gateway.key: No space left on device.")

    monkeypatch.setattr(tokens.files, "update_json", full)
    monkeypatch.setattr(tokens.files, "read_json", lambda _: {})
    with pytest.raises(errors.ServerError, match="No space left"):
        await ask("robocoders:FrontEndAgent", retries=0)


@pytest.mark.parametrize(
    ("name", "finish", "says"),
    [
        ("koala:gpt-4o-mini", "length", "limit of tokens"),
        ("koala:gpt-4o-mini", "content_filter", "content filter"),
        ("robocoders:FrontEndAgent", "content_filter", "content filter"),
    ],
)
async def test_where_the_protocol_has_no_finish_the_text_says_how_it_ended(
    ask, model, name, finish, says
):
    model.pieces = ("part ", FinishReason(finish))
    assert says in (await ask(name)).text


async def test_closing_finishes_what_is_streaming(model):
    model.pieces = ("a", 0.5, "b")
    gateway = Gateway(Backend(model="model:m"))
    root = await gateway.start()
    asked = asyncio.create_task(
        ipychat.ask("Hi", model="koala:gpt-4o-mini", base_url=f"{root}/koala")
    )
    while not model.asked:
        await asyncio.sleep(0.01)
    await gateway.close()
    assert (await asked).text == "ab"


@pytest.fixture
async def notebook():
    """As after `%load_ext ipychat`: services that are gone are served here."""
    config.use(config.Config(gateway=server.in_kernel, model="model:m"))
    yield
    await server.close()


@pytest.mark.parametrize("name", THREE)
async def test_a_service_that_is_gone_is_served_here_and_the_answer_says_so(notebook, name):
    reply = await ipychat.ask("Hi", model=name)
    assert reply.text == "Hello ✓"
    assert "upstream is offline, served here by model:m" in reply.notices[0]


async def test_who_is_slow_behind_it_is_waited_for_as_if_asked_directly(notebook, model):
    config.use(config.current()._replace(idle_timeout=0.2))
    model.pieces = (0.6, "late")
    assert (await ipychat.ask("Hi", model="FrontEndAgent")).text == "late"


async def test_a_service_with_an_address_is_asked_there_and_nowhere_else(notebook, monkeypatch):
    monkeypatch.setenv("IPYCHAT_KOALA_URL", "http://127.0.0.1:9")
    with pytest.raises(errors.UnreachableError):
        await ipychat.ask("Hi", model="koala:gpt-4o-mini")
    assert not server._running


async def test_a_dead_proxy_of_the_environment_does_not_matter(notebook, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert (await ipychat.ask("Hi", model="FrontEndAgent")).text == "Hello ✓"


async def test_an_agent_as_the_default_does_not_ask_itself(notebook, monkeypatch):
    config.use(config.current()._replace(model="FrontEndAgent"))
    monkeypatch.setenv("IPYCHAT_MODEL", "model:other")
    await ipychat.ask("Hi")
    assert Model.asked[-1]["model"] == "other"


async def test_outside_a_notebook_nothing_is_served(model):
    config.use(config.Config(proxy="http://127.0.0.1:9"))  # so that nothing leaves this machine
    with pytest.raises(errors.UnreachableError, match="koala"):
        await ipychat.ask("Hi", model="koala:gpt-4o-mini")


# -- by itself


@pytest.fixture
def standing_alone(service, monkeypatch, tmp_path):
    """Start `python -m ipychat.gateway` over a scripted model, and return it with its root URL."""
    monkeypatch.setenv("OPENAI_BASE_URL", service.url)
    started = []

    def start(*arguments: str):
        command = [sys.executable, "-m", "ipychat.gateway", "--model", "openai:m", *arguments]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process, process.stdout.readline().strip()

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.heavy
async def test_by_itself_its_first_line_is_its_root(standing_alone, service):
    service.on("/chat/completions", PROTOCOLS[0].whole("Hello"))
    _, root = standing_alone("--port", "0")
    reply = await ipychat.ask("Hi", model="robocoders:RepoAgent", base_url=f"{root}/robocoders")
    assert reply.text == "Hello"
    assert "no repository" in service.requests[0].json["messages"][0]["content"]


@pytest.mark.heavy
async def test_a_plain_root_is_for_loopback(standing_alone):
    _, root = standing_alone("--token-path", "off")
    assert root.count("/") == 2
    assert (await call(f"{root}/openai/v1/models", "GET"))[0] == 200


@pytest.mark.heavy
async def test_any_other_host_needs_a_key(standing_alone):
    process, root = standing_alone("--host", "0.0.0.0")
    assert root == ""
    assert process.wait(20) == 1
    assert "IPYCHAT_GATEWAY_KEY" in process.stderr.read()


@pytest.mark.heavy
async def test_an_unknown_model_is_told_at_the_start(standing_alone):
    process, _ = standing_alone("--model", "nonsense")
    assert process.wait(20) == 1
    assert "There is no model 'nonsense'" in process.stderr.read()


@pytest.mark.heavy
async def test_sigterm_finishes_what_is_streaming(standing_alone, service):
    body = [head(), chunk(PROTOCOLS[0].text("a")), 0.7, chunk(PROTOCOLS[0].pieces("b")[0])]
    service.on("/chat/completions", [*body, chunk(PROTOCOLS[0].finish()), END])
    process, root = standing_alone()
    asked = asyncio.create_task(
        ipychat.ask("Hi", model="koala:gpt-4o-mini", base_url=f"{root}/koala")
    )
    while not service.requests:
        await asyncio.sleep(0.01)
    process.terminate()
    assert (await asked).text == "ab"
    assert process.wait(20) == 0
    log = process.stderr.read()
    assert "POST" in log
    assert "Hi" not in log
    assert root.rpartition("/")[2] not in log
