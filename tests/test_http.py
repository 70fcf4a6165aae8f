"""The HTTP client, beyond what the contract tests through the providers."""

import asyncio
import base64
import email.utils
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time

import aiohttp
import pytest

from ipychat import config, errors, messages
from ipychat.providers import get_connector, raise_for_status
from ipychat.wire import certificates, http, limits, offload
from ipychat.wire.http import Call, Transport
from tests.loopback import Proxy, answer, head

pytestmark = pytest.mark.usefixtures("sessions")


async def get(url: str, **transport) -> bytes:
    async with Call("GET", url, transport=Transport(**transport)) as call:
        return await call.body()


async def test_one_session_serves_a_loop_and_is_made_anew_once_closed():
    one = http.session()
    assert http.session() is one
    await http.close()
    assert one.closed
    assert http.session() is not one


async def test_more_than_a_hundred_requests_run_at_once(service):
    gate = asyncio.Event()
    service.on("/", [head(200), 1.0, b"0\r\n\r\n"])

    async def one():
        async with Call("GET", service.url) as call:
            async for _ in call.send():
                pass
            if len(service.requests) >= 150:
                gate.set()
            await gate.wait()

    async with asyncio.timeout(20):
        await asyncio.gather(*(one() for _ in range(150)))


async def test_no_cookie_is_kept(service):
    service.on("/", answer(b"a", Set_Cookie="session=1"))
    await get(service.url)
    await get(service.url)
    assert "Cookie" not in service.requests[1].headers


async def test_an_answer_read_to_its_end_gives_its_connection_back(service):
    keep = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    service.on("/", [keep, 0.5])
    assert await get(service.url) == b"ok"
    assert len(http.session().connector._conns) == 1


def test_the_proxy_is_the_one_given_else_configured_else_the_environments(monkeypatch):
    far = "http://far.example/x"
    assert http.proxy_for(far) is None
    monkeypatch.setenv("HTTP_PROXY", "http://environment:1")
    assert http.proxy_for(far) == "http://environment:1"
    monkeypatch.setenv("NO_PROXY", "far.example")
    assert http.proxy_for(far) is None
    config.use(config.Config(proxy="configured:2"))
    assert http.proxy_for(far) == "http://configured:2"
    assert http.proxy_for(far, "given:3") == "http://given:3"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "[::1]", "a.localhost"])
def test_loopback_never_uses_a_proxy_that_was_not_given(monkeypatch, host):
    monkeypatch.setenv("HTTP_PROXY", "http://environment:1")
    monkeypatch.setenv("ALL_PROXY", "http://environment:1")
    config.use(config.Config(proxy="http://configured:2"))
    assert http.proxy_for(f"http://{host}:80/secret/path") is None
    assert http.proxy_for(f"http://{host}:80/", "http://given:3") == "http://given:3"


async def test_the_environments_proxy_is_used_for_a_host_elsewhere(monkeypatch, proxy, service):
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    with pytest.raises(errors.UnreachableError):
        await get("http://name.invalid/")
    assert set(proxy.seen) == {"GET http://name.invalid/"}


async def test_a_proxy_that_wants_a_login_gets_it_and_its_password_is_masked(service):
    proxy = Proxy("Basic dXNlcjp2ZXJ5LXNlY3JldC1wYXNzd29yZA==")
    service.on("/", answer(b"ok"))
    address = f"user:very-secret-password@127.0.0.1:{proxy.port}"
    try:
        assert await get(service.url, proxy=f"http://{address}") == b"ok"
        with pytest.raises(errors.ServiceError) as caught:
            await get(service.url, proxy=f"http://127.0.0.1:{proxy.port}")
        assert caught.value.status == 407
    finally:
        proxy.close()
    dead = "http://user:very-secret-password@127.0.0.1:9"
    with pytest.raises(
        errors.UnreachableError, match=r"through the proxy 127\.0\.0\.1:9"
    ) as caught:
        await get(service.url, proxy=dead)
    assert "very-secret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks4"])
async def test_a_dead_socks_proxy_is_an_error_that_names_it(service, scheme):
    with pytest.raises(errors.UnreachableError, match="the proxy 127"):
        await get(service.url, proxy=f"{scheme}://127.0.0.1:9")


async def test_socks_without_its_package_is_an_error_with_the_command(service, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "aiohttp_socks", None)
    with pytest.raises(errors.MissingRequirementsError, match="pip install aiohttp-socks"):
        await get(service.url, proxy="socks5://127.0.0.1:9")


async def test_the_documented_connector_helper():
    async with aiohttp.TCPConnector() as mine:
        assert get_connector(mine, "socks5://127.0.0.1:9") is mine
    assert get_connector() is None
    assert get_connector(proxy="http://127.0.0.1:9") is None
    async with get_connector(proxy="socks5://127.0.0.1:9") as made:
        assert made.limit == 0


@pytest.mark.parametrize("url", ["nonsense", "http://", "ftp://host/x", "http://[broken"])
async def test_what_is_no_web_address_is_an_error(url):
    with pytest.raises(errors.UnreachableError):
        await get(url)


@pytest.fixture
async def https(tmp_path, monkeypatch):
    """A service with a certificate that its own authority alone has signed."""
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem", "-days", "1"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")

    async def say_ok(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        writer.close()

    server = await asyncio.start_server(say_ok, "127.0.0.1", 0, ssl=context)
    yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    server.close()


async def test_a_certificate_that_is_not_trusted_is_named_with_what_to_set(https):
    with pytest.raises(errors.UnreachableError) as caught:
        await get(https)
    first, advice = str(caught.value).splitlines()
    assert re.match(r"The certificate of 127\.0\.0\.1:\d+ is not valid: .*self.signed", first)
    assert "SSL_CERT_FILE" in advice
    assert "REQUESTS_CA_BUNDLE" in advice


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
async def test_the_certificates_that_the_environment_names_are_trusted(
    https, tmp_path, monkeypatch, name
):
    monkeypatch.setenv(name, str(tmp_path / "cert.pem"))
    assert await get(https) == b"ok"
    monkeypatch.delenv(name)
    with pytest.raises(errors.UnreachableError):
        await get(https)


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"])
async def test_they_may_be_a_folder_of_hashed_files(https, tmp_path, monkeypatch, name):
    folder = tmp_path / "trusted"
    folder.mkdir()
    shutil.copy(tmp_path / "cert.pem", folder)
    subprocess.run(["openssl", "rehash", folder], check=True, capture_output=True)
    monkeypatch.setenv(name, str(folder))
    assert await get(https) == b"ok"


async def test_openssls_variables_go_before_the_others(https, tmp_path, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    assert await get(https) == b"ok"


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_a_bundle_that_cannot_be_read_is_named(https, tmp_path, monkeypatch, content):
    bundle = tmp_path / "bundle.pem"
    if content:
        bundle.write_text(content)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    with pytest.raises(errors.UnreachableError, match=r"REQUESTS_CA_BUNDLE names .*bundle\.pem"):
        await get(https)


async def test_no_context_is_made_where_nothing_is_named(https):
    assert await certificates.context() is None


async def test_a_service_that_accepts_and_says_nothing_times_out():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(errors.ServiceTimeoutError, match=r"sent nothing for 0\.2 s"):
            await get(f"http://127.0.0.1:{port}/", idle_timeout=0.2)


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [("0", 0, 0), ("1.5", 1.5, 1.5), ("-3", 0, 0), ("Fri, 31 Dec 1999 23:59:59 GMT", 0, 0)],
)
async def test_retry_after_is_read_in_either_form(service, value, low, high):
    service.on("/", answer(b"x", Retry_After=value))
    async with http.session().get(service.url) as response:
        assert low <= http._retry_after(response) <= high


async def test_retry_after_may_be_a_date_to_come(service):
    date = email.utils.formatdate(time.time() + 30, usegmt=True)
    service.on("/", answer(b"x", Retry_After=date), answer(b"x", Retry_After="soon"))
    async with http.session().get(service.url) as response:
        assert 25 < http._retry_after(response) < 31
    async with http.session().get(service.url) as response:
        assert http._retry_after(response) is None


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e300", "9" * 5000, "1e9"])
async def test_a_time_to_wait_that_is_none_is_not_repeated(service, value):
    service.on("/", answer(b"busy", status=429, Retry_After=value))
    with pytest.raises(errors.RateLimitError) as caught:
        await get(service.url, retries=0)
    assert caught.value.retry_after is None
    assert "as the service asks" not in str(caught.value)


@pytest.mark.parametrize("value", ["nan", "inf"])
async def test_a_limit_that_is_no_number_is_no_limit(value, monkeypatch):
    monkeypatch.setattr(limits, "_seen", {})
    for name in ("limit", "remaining", "reset"):
        headers = {f"x-ratelimit-{one}-requests": "5" for one in ("limit", "remaining", "reset")}
        limits.note("a.example", headers | {f"x-ratelimit-{name}-requests": value})
        assert not limits.seen("a.example")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, {"error": {"code": "insufficient_quota", "message": "You exceeded your quota"}}),
        (429, {"error": {"type": "exceeded_current_quota_error", "message": "not enough"}}),
        (429, {"error": {"code": "1113", "message": "Insufficient balance. Please recharge."}}),
        (429, {"error": "Your team has used all available credits"}),
        (400, {"error": {"message": "Your credit balance is too low to access the API."}}),
        (402, {"error": {"message": "pay"}}),
    ],
)
async def test_where_no_credit_is_left_nothing_is_sent_again(service, status, body):
    service.on("/", answer(json.dumps(body).encode(), status=status))
    with pytest.raises(errors.QuotaError, match=r"^No credit left at 127\.0\.0\.1:\d+ \(\d+\): ."):
        await get(service.url, retries=3)
    assert len(service.requests) == 1


async def test_a_limit_of_the_minute_is_no_lack_of_credit(service, monkeypatch):
    """Gemini's words for it."""
    monkeypatch.setattr(http, "FIRST_PAUSE", 0.01)
    body = (
        b'{"error": {"code": 429, "message": "You exceeded your current quota, check your plan"}}'
    )
    service.on("/", answer(body, status=429), answer(b"ok"))
    assert await get(service.url, retries=1) == b"ok"


async def test_a_retry_is_a_notice_of_its_own_kind(service):
    service.on("/", answer(b"busy", status=503, Retry_After="0"), answer(b"ok"))
    async with Call("GET", service.url) as call:
        [notice] = [one async for one in call.send()]
    host = service.url.removeprefix("http://")
    said = f"{host} answered 503: busy. Retrying in 0 s, as the service asks (2 more tries)."
    assert notice == messages.Notice(said, kind="retry")


@pytest.mark.parametrize("status", [300, 304, 307])
async def test_a_3xx_that_names_no_address_is_said_to_be_no_answer(service, status):
    service.on("/", [f"HTTP/1.1 {status} Said\r\nConnection: close\r\n\r\n".encode()])
    with pytest.raises(errors.ServiceError, match=f"answered {status}, which is not an answer"):
        await get(service.url)


async def test_waits_that_the_service_does_not_name_grow(service, monkeypatch, caplog):
    monkeypatch.setattr(http, "FIRST_PAUSE", 0.02)
    service.on("/", answer(b"x", status=500), answer(b"x", status=503), answer(b"ok"))
    assert await get(service.url, retries=2) == b"ok"
    assert "Retrying in" in caplog.text


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "a"}}, "a"),
        ({"error": "a"}, "a"),
        ({"message": "a"}, "a"),
        ({"detail": "a"}, "a"),
        ({"detail": [{"loc": ["body", 0, "x"], "msg": "a"}, {"msg": "b"}]}, "body.0.x: a; b"),
        ([{"error": {"message": "a"}}], "a"),
        ({"error": {"code": "bad_key"}}, "bad_key"),
        ({"error": {"type": "overloaded"}}, "overloaded"),
        ({"error": None, "message": "a"}, "a"),
        ({"other": 1}, ""),
        (7, ""),
        ("a", "a"),
    ],
)
def test_the_message_of_an_error_is_found_in_the_forms_that_services_use(body, message):
    assert http.error_message(body) == message


def test_the_words_of_a_service_are_one_line_that_is_not_too_long():
    assert http.said({"error": {"message": " out\n of   memory\t"}}) == "out of memory"
    assert http.said({"error": ["x" * 1000] * 100_000}) == "x" * 300 + " …"
    assert http.said({"error": True}) == ""


@pytest.mark.parametrize(
    "value",
    [
        {"a": ["x" * (3 << 20), 1, None, {"ü": "✓\U0001f600" * (1 << 20)}], "b": {}},
        {7: "x" * (2 << 20), None: 1, True: 2, 1.5: 3, "s": []},
        ['\\"\n' * (1 << 19), ("a", ["b"])],
        "x" * (2 << 20),
        {"small": [1, 2, {"a": "b"}]},
    ],
)
def test_large_json_is_written_in_steps_as_it_is_at_once(value):
    assert offload.dump(value) == json.dumps(value).encode()


@pytest.mark.parametrize("size", [0, 1, 2, 3, messages.STEP, messages.STEP + 1, 2_000_000])
def test_base64_in_steps_is_as_it_is_at_once(size):
    data = os.urandom(size)
    encoded = messages.to_base64(data)
    assert encoded == base64.b64encode(data).decode()
    assert messages.from_base64(encoded) == data


@pytest.mark.parametrize(
    "text", ["a", "ü", "ab c", "YQ==YQ==", "A" * (messages.STEP // 3 * 4 - 2) + "==AAAA"]
)
def test_what_is_no_base64_is_none_in_steps_either(text):
    with pytest.raises(ValueError):  # noqa: PT011 - of any kind: who asks says what it means
        messages.from_base64(text)


async def test_what_is_large_is_worked_on_in_a_thread():
    here = threading.get_ident()
    assert await offload.run(lambda _: threading.get_ident(), {"a": ["x" * 1000]}) == here
    assert await offload.run(lambda _: threading.get_ident(), {"a": ["x" * (2 << 20)]}) != here


async def test_the_documented_status_helper_raises_for_errors_only(service):
    service.on("/", answer(b"fine"), answer(b"no", status=404))
    async with http.session().get(service.url) as response:
        await raise_for_status(response)
    async with http.session().get(service.url) as response:
        with pytest.raises(errors.NotFoundError, match=r"no such address or model \(404\): no"):
            await raise_for_status(response)


async def test_an_error_body_that_breaks_off_is_still_its_status(service):
    service.on("/", [head(500), b"5\r\nhello\r\n", "reset"])
    with pytest.raises(errors.ServerError):
        await get(service.url, retries=0)


async def test_a_body_beyond_the_bound_is_refused(service, monkeypatch):
    monkeypatch.setattr(http, "MAX_BODY", 1 << 20)
    service.on("/", answer(*[b"x" * (1 << 18)] * 8))
    with pytest.raises(errors.FormatError, match="over 1 MiB"):
        await get(service.url)


async def test_the_answer_is_not_there_before_it_is_sent():
    with pytest.raises(RuntimeError, match="not sent"):
        _ = Call("GET", "http://127.0.0.1:9").response
