"""No traceback that lists values shows a key: ours, aiohttp's and IPython's frames hold masked ones."""

import asyncio
import contextlib
import json
import pickle
import reprlib
import time
import traceback

import pytest
from IPython.core.ultratb import VerboseTB

import ipychat
from ipychat import errors
from ipychat.secrets import MASK, Secret
from ipychat.store import credentials
from tests.loopback import HANG, Proxy, chunk, head
from tests.protocols import ONLINE, PROTOCOLS, Protocol, login_page, session_page

pytestmark = [
    pytest.mark.usefixtures("sessions"),
    pytest.mark.heavy,  # a Verbose traceback evaluates what stands in each frame
]

KEY = "a-key-that-is-nobodys-0123456789"
SID = "a-session-that-is-nobodys-0123456789"


def name_of(protocol: Protocol) -> str:
    return protocol.name


def prepare(protocol: Protocol, service, monkeypatch) -> None:
    """Let the protocol's service be the one on loopback, asked with KEY as the protocol has it."""
    cls, root = protocol.provider, service.url
    protocol.prepare(service)
    if variables := getattr(cls, "key_variables", ()):
        monkeypatch.setenv(variables[0], KEY)
    elif name_of(protocol) == "robocoders":
        service.on("/auth", login_page(KEY))
        service.on("/create-session", session_page(SID))
    else:
        root = root.replace("://", f"://someone:{KEY}@")
    if protocol in ONLINE:
        root += "/v1beta" if name_of(protocol) == "gemini" else ""
    monkeypatch.setenv(cls.url_variables[0], root)


def shown(error: BaseException) -> str:
    """What tools that list the values in all frames show of an error, suppressed ones too."""
    seen, waiting, texts = set(), [error], []
    while waiting:
        if (one := waiting.pop()) is None or id(one) in seen:
            continue
        seen.add(id(one))
        waiting += [one.__cause__, one.__context__]
        for frame, _ in traceback.walk_tb(one.__traceback__):
            if frame.f_globals["__name__"] != __name__:
                texts += [repr(value) for value in frame.f_locals.values()]
    kind, trace = type(error), error.__traceback__
    while trace and trace.tb_frame.f_globals["__name__"] == __name__:
        trace = trace.tb_next
    return "\n".join([*texts, VerboseTB("nocolor").text(kind, error, trace)])


async def until_asked(service, path: str) -> None:
    while not service.asked(path):
        await asyncio.sleep(0.005)


async def timed_out(asking, ready) -> None:
    async with asyncio.timeout(None) as limit:

        async def end() -> None:
            await ready
            limit.reschedule(asyncio.get_running_loop().time())

        async with asyncio.TaskGroup() as group:
            group.create_task(end())
            await asking


async def cancelled(asking, ready) -> None:
    task = asyncio.ensure_future(asking)
    await ready
    task.cancel()
    await task


async def waited_for(asking, ready) -> None:
    task = asyncio.ensure_future(asking)
    await ready
    await asyncio.wait_for(task, 0.01)


ENDINGS = [timed_out, cancelled, waited_for]


def check_that_the_key_arrived(protocol: Protocol, service) -> None:
    [asked] = service.asked(protocol.path)
    if name_of(protocol) == "robocoders":
        assert (asked.headers["Authorization"], asked.json["sid"]) == (f"Bearer {KEY}", SID)
    elif getattr(protocol.provider, "key_variables", ()):
        assert KEY in "".join(asked.headers.values())
    else:
        assert asked.headers["Authorization"].startswith("Basic ")


@pytest.mark.parametrize("streaming", [False, True], ids=["before the answer", "within it"])
@pytest.mark.parametrize("ending", ENDINGS, ids=lambda one: one.__name__)
@pytest.mark.parametrize("protocol", PROTOCOLS, ids=str)
async def test_a_question_that_is_cut_short_leaves_no_key_in_any_frame(
    protocol, ending, streaming, service, monkeypatch
):
    prepare(protocol, service, monkeypatch)
    begun = [
        head(content_type=protocol.content_type),
        *map(chunk, protocol.pieces("Hi")[:-1]),
        HANG,
    ]
    service.on(protocol.path, begun if streaming else [HANG])
    arrived = asyncio.Event()

    async def ask() -> None:
        model = f"{name_of(protocol)}:{protocol.model}"
        async for _ in ipychat.stream("Hello", model=model, stream=True):
            arrived.set()

    async def ready() -> None:
        await (arrived.wait() if streaming else until_asked(service, protocol.path))

    with pytest.raises((TimeoutError, asyncio.CancelledError)) as caught:
        await ending(ask(), ready())
    text = shown(caught.value)
    assert KEY not in text
    assert SID not in text
    assert "aiohttp" in text
    check_that_the_key_arrived(protocol, service)


@pytest.mark.parametrize("path", ["/auth", "/create-session", "/chat"])
async def test_a_login_that_is_cut_short_leaves_no_token_in_any_frame(path, service, monkeypatch):
    protocol = next(one for one in PROTOCOLS if name_of(one) == "robocoders")
    prepare(protocol, service, monkeypatch)
    service.on(path, [HANG])
    with pytest.raises(asyncio.CancelledError) as caught:
        await cancelled(ipychat.ask("Hello", model="robocoders"), until_asked(service, path))
    assert KEY not in shown(caught.value)
    assert SID not in shown(caught.value)


OPTIONS = [
    {"api_key": KEY},
    {"extra": {"extra_headers": {"x-token": KEY}}},
    {"extra": {"list": [{"password": KEY}]}},
]


@pytest.mark.parametrize("options", OPTIONS, ids=["a key", "a header", "in a list"])
async def test_a_key_that_is_given_is_in_no_frame_of_ours(options, service, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", service.url)
    service.on("/chat/completions", [HANG])
    askings = [
        lambda: ipychat.ask("Hello", model="openai:m", **options),
        lambda: ipychat.compare("Hello", ["openai:m", "openai:n"], **options),
        lambda: ipychat.map(["Hello"], "{{it}}", model="openai:m", **options),
    ]
    for ask in askings:
        service.requests.clear()
        with pytest.raises(asyncio.CancelledError) as caught:
            await cancelled(ask(), until_asked(service, "/chat/completions"))
        assert KEY not in shown(caught.value)


async def test_a_provider_that_is_called_directly_hides_the_key(service):
    service.on("/chat/completions", [HANG])

    async def ask() -> None:
        options = {"base_url": service.url, "api_key": KEY}
        hello = [{"role": "user", "content": "Hello"}]
        async for _ in ipychat.providers.OpenAI.create_async_generator("m", hello, **options):
            pass

    with pytest.raises(asyncio.CancelledError) as caught:
        await cancelled(ask(), until_asked(service, "/chat/completions"))
    assert KEY not in shown(caught.value)


async def test_the_login_of_a_proxy_is_in_no_frame(service, monkeypatch):
    proxy = Proxy("Basic " + "c29tZW9uZTphLWtleS10aGF0LWlzLW5vYm9keXMtMDEyMzQ1Njc4OQ==")
    monkeypatch.setenv("OPENAI_BASE_URL", service.url)
    service.on("/chat/completions", [HANG])
    try:
        with pytest.raises(asyncio.CancelledError) as caught:
            address = f"http://someone:{KEY}@127.0.0.1:{proxy.port}"
            asking = ipychat.ask("Hello", model="openai:m", proxy=address)
            await cancelled(asking, until_asked(service, "/chat/completions"))
    finally:
        proxy.close()
    assert proxy.seen
    text = shown(caught.value)
    assert KEY not in text
    assert "c29tZW9uZTph" not in text


async def test_an_address_with_a_login_and_a_key_is_refused(service, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", service.url.replace("://", "://me:a-password@"))
    with pytest.raises(errors.UsageError, match="contains a login, and there is a key") as caught:
        await ipychat.ask("Hello", model="openai:m")
    assert "a-password" not in shown(caught.value)
    assert not service.requests


async def test_a_kept_key_is_hidden_where_it_is_read():
    credentials.keep_key("openai", "https://api.openai.com/v1", KEY)
    assert repr(credentials.kept_key("openai", "https://api.openai.com/v1")) == repr(MASK)


def test_a_secret_is_a_text_that_is_not_shown():
    secret = Secret(KEY)
    assert (secret, hash(secret), json.dumps(secret)) == (KEY, hash(KEY), f'"{KEY}"')
    assert pickle.loads(pickle.dumps(secret)) == KEY
    for text in (
        repr(secret),
        f"{secret!r}",
        f"{[secret]}",
        repr(secret[:20]),
        reprlib.repr(secret),
    ):
        assert KEY[:6] not in text


# -- in a notebook


def in_verbose(kernel, code: str) -> str:
    """What stands in the notebook for a cell that fails, with IPython's longest tracebacks."""
    kernel.run("%xmode Verbose")
    ran = kernel.run(code)
    kernel.run("%xmode Context")
    assert ran.status == "error"
    told = [m["content"] for m in ran.messages if m["msg_type"] != "execute_input"]
    return json.dumps([ran.reply, told])


def test_a_verbose_traceback_masks_the_users_own_variables_while_the_extension_is_loaded(shared):
    kernel, _ = shared
    kernel.run("import os, ipychat\nkey = os.environ['OPENAI_API_KEY']\n%chat_setup")
    text = in_verbose(kernel, "def f(key):\n    return 1 / 0, key\nf(key)")
    assert "sk-a-key-of-the-tests" not in text
    assert "ZeroDivisionError" in text
    kernel.run("%unload_ext ipychat")
    assert "sk-a-key-of-the-tests" in in_verbose(kernel, "def f(key):\n    1 / 0\nf(key)")
    assert "Masked" not in kernel.value("repr(get_ipython()._showtraceback)")
    assert kernel.value("get_ipython()._showtraceback.__self__ is get_ipython()")
    kernel.run("%load_ext ipychat")


def test_an_interrupted_question_shows_no_key_in_a_verbose_traceback(shared):
    kernel, service = shared
    service.requests.clear()
    service.on("/chat/completions", [HANG])
    kernel.run("import ipychat\n%xmode Verbose")
    sent = kernel.send("await ipychat.ask('Hello', model='openai:m')")
    deadline = time.monotonic() + 20
    while not service.asked("/chat/completions"):
        assert time.monotonic() < deadline
        kernel.pump(0.02)
    kernel.interrupt()
    with contextlib.suppress(AssertionError):
        kernel.wait(sent, 1)
    kernel.send("1")  # its coming wakes a loop that waits for the net
    ran = kernel.wait(sent)
    kernel.run("%xmode Context")
    assert ran.status == "error"
    assert "sk-a-key-of-the-tests" not in json.dumps(
        [ran.reply, [m["content"] for m in ran.messages]]
    )
