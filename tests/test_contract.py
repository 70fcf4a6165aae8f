"""What every provider owes, over real HTTP: the same suite for all of them."""

import asyncio
import contextlib
import time

import pytest

from ipychat import errors
from ipychat.chat.answer import Answer
from ipychat.messages import FinishReason, Message, ModelId, Notice, Question, Text
from tests.loopback import END, FIN, HANG, RESET, answer, byte_by_byte, chunk, gzipped, head
from tests.protocols import OFFLINE, PROTOCOLS, BehindTheGateway, RunningGateway

pytestmark = pytest.mark.usefixtures("sessions")

CLOUDFLARE = b"<!DOCTYPE html><html><title>Just a moment...</title>cloudflare</html>"


@pytest.fixture
def gateway(monkeypatch):
    with contextlib.closing(RunningGateway()) as gateway:
        monkeypatch.setenv("OPENAI_BASE_URL", gateway.model.url)
        yield gateway


@pytest.fixture(
    params=[*((p, "") for p in PROTOCOLS), *((p, " behind the gateway") for p in OFFLINE)],
    ids=lambda param: "".join(map(str, param)),
)
def protocol(request, service):
    protocol, behind = request.param
    if behind:
        gateway = request.getfixturevalue("gateway")
        protocol = BehindTheGateway(**vars(protocol), gateway=gateway)
    protocol.prepare(service)
    return protocol


@pytest.fixture
def request_(protocol, service):
    options = {"base_url": service.url, "idle_timeout": 5, "stream": True}
    model = ModelId(protocol.name, protocol.model)
    return Question(model, (Message("user", "Hello"),), options)


def events(question):
    return Answer(question).events(keeps=False)


@pytest.fixture
def ask(protocol, request_, service):
    """Script the service, ask, and return what came; an error carries it in `reply`."""

    async def run(*scripts, **options):
        service.on(protocol.path, *scripts)
        answering = Answer(
            Question(request_.model, request_.messages, {**request_.options, **options})
        )
        async with contextlib.aclosing(answering.events()) as given:
            async for _ in given:
                pass
        return answering.reply()

    return run


async def test_the_text_comes_whole_and_in_order(ask, protocol):
    reply = await ask(protocol.whole("Hel", "lo", " wörld ✓"))
    assert reply.text == "Hello wörld ✓"
    assert reply.finish == "stop"
    assert not reply.notices


async def test_it_finishes_once_and_last(protocol, request_, service):
    service.on(protocol.path, protocol.whole("a", "b"))
    given = [event async for event in events(request_)]
    assert [e for e in given if isinstance(e, FinishReason)] == [given[-1]]


async def test_text_is_given_before_the_answer_is_whole(protocol, request_, service):
    script = [head(200, protocol.content_type), chunk(protocol.text("first")), HANG]
    service.on(protocol.path, script)
    async with contextlib.aclosing(events(request_)) as given:
        async with asyncio.timeout(5):
            assert await anext(given) == Text("first")


async def test_closing_it_closes_the_connection_at_once(protocol, request_, service):
    service.on(protocol.path, [head(200, protocol.content_type), chunk(protocol.text("a")), HANG])
    async with contextlib.aclosing(events(request_)) as given:
        await anext(given)
    [received] = service.asked(protocol.path)
    assert await asyncio.to_thread(received.gone.wait, 2)


async def test_cancelling_it_closes_the_connection_at_once(ask, protocol, service):
    script = [head(200, protocol.content_type), chunk(protocol.text("a")), HANG]
    task = asyncio.create_task(ask(script))
    while not service.asked(protocol.path):
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(service.asked(protocol.path)[0].gone.wait, 2)


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        (400, errors.RequestError, "rejected the request"),
        (401, errors.AuthenticationError, "key or token"),
        (402, errors.QuotaError, "credit"),
        (403, errors.ForbiddenError, "refused"),
        (404, errors.NotFoundError, "no such"),
        (422, errors.RequestError, "invalid"),
        (429, errors.RateLimitError, "Too many"),
        (500, errors.ServerError, "failed"),
        (502, errors.ServerError, "bad gateway"),
        (503, errors.ServerError, "failed"),
        (504, errors.ServerError, "time-out"),
        (520, errors.ServerError, "unknown error"),
    ],
)
async def test_a_status_is_its_error_with_the_services_message(
    ask, protocol, service, status, error, says
):
    body = b'{"error": {"message": "because of this"}}'
    refused = answer(body, status=status, content_type="application/json")
    with pytest.raises(error, match=says) as caught:
        await ask(refused, retries=0)
    assert type(caught.value) is error
    assert caught.value.status == status
    assert "because of this" in str(caught.value)
    times = 2 if status == 401 and str(protocol) == "RobocodersAPI" else 1  # it renews its token
    assert len(service.asked(protocol.path)) == times


@pytest.mark.parametrize("status", [400, 402, 403, 404, 422])
async def test_no_other_4xx_is_asked_again(ask, protocol, service, status):
    with pytest.raises(errors.ServiceError):
        await ask(answer(b"no", status=status), retries=3)
    assert len(service.asked(protocol.path)) == 1


@pytest.mark.parametrize("status", [429, 500])
async def test_one_refusal_is_waited_out_visibly_then_the_answer_is_whole(
    ask, protocol, service, status
):
    begin = time.monotonic()
    reply = await ask(answer(b"busy", status=status, Retry_After="0.3"), protocol.whole("Hello"))
    assert time.monotonic() - begin >= 0.3
    assert reply.text == "Hello"
    [notice] = reply.notices
    assert str(status) in notice
    assert "Retrying in 0.3 s, as the service asks (2 more tries)." in notice


async def test_a_service_that_stays_busy_is_asked_as_often_as_set_and_then_an_error(
    ask, protocol, service
):
    with pytest.raises(errors.RateLimitError) as caught:
        await ask(answer(b"busy", status=429, Retry_After="0"), retries=2)
    assert len(service.asked(protocol.path)) == 3
    [last] = caught.value.reply.notices  # it took the place of the one before
    assert last.endswith("(1 more try).")


async def test_a_service_that_asks_to_wait_for_long_is_not_waited_for(ask, protocol, service):
    with pytest.raises(errors.RateLimitError, match="Retry in 3600 s, as the service asks"):
        await ask(answer(b"busy", status=429, Retry_After="3600"))
    assert len(service.asked(protocol.path)) == 1


@pytest.mark.parametrize("status", [400, 502, 503])
async def test_a_page_of_html_is_never_shown(ask, protocol, status):
    page = b"<html><body><h1>Oh no</h1><script>evil()</script></body></html>"
    with pytest.raises(errors.ServiceError) as caught:
        await ask(answer(page, status=status, content_type="text/html"), retries=0)
    assert "<" not in str(caught.value)
    assert "Oh no" not in str(caught.value)


async def test_cloudflare_is_named(ask, protocol):
    with pytest.raises(errors.CloudflareError, match="Cloudflare blocked the request"):
        await ask(answer(CLOUDFLARE, status=403, content_type="text/html"))


async def test_a_web_page_with_status_200_is_an_error(ask, protocol):
    with pytest.raises(errors.AnswerError) as caught:
        await ask(answer(b"<!DOCTYPE html><html>hello</html>\n", content_type="text/html"))
    assert "<" not in str(caught.value)


async def test_a_redirect_is_refused_and_named(ask, protocol, service):
    elsewhere = answer(b"", status=307, Location="http://other.example/x?secret=1")
    with pytest.raises(errors.ServiceError, match=r"redirects to other\.example \(307\)"):
        await ask(elsewhere)


@pytest.mark.parametrize("how", [FIN, RESET])
async def test_a_connection_that_breaks_is_an_error_and_the_text_is_kept(ask, protocol, how):
    script = [head(200, protocol.content_type), chunk(protocol.text("so far")), how]
    with pytest.raises(errors.BrokenAnswerError, match="broke off") as caught:
        await ask(script)
    assert caught.value.reply.text == "so far"
    assert caught.value.reply.finish is None


async def test_a_connection_that_closes_without_a_word_is_an_error(ask, protocol):
    with pytest.raises(errors.UnreachableError, match="closed the connection"):
        await ask([FIN])


async def test_an_end_without_a_finish_is_an_error_where_the_protocol_has_one(ask, protocol):
    if not protocol.ends_with_finish:
        assert (await ask(answer(protocol.text("all"), content_type=protocol.content_type))).text
        return
    for script in (
        [head(200, protocol.content_type), chunk(protocol.text("so far")), END],
        [head(200, protocol.content_type, chunked=False), protocol.text("so far"), FIN],
    ):
        with pytest.raises(errors.BrokenAnswerError, match="without saying") as caught:
            await ask(script)
        assert caught.value.reply.text == "so far"


async def test_an_error_in_mid_stream_is_shown_and_the_text_is_kept(ask, protocol):
    pieces = [protocol.text("so far"), protocol.error, protocol.text("after")]
    with pytest.raises(errors.ServerError, match="the model fell over") as caught:
        await ask(answer(*pieces, content_type=protocol.content_type))
    assert caught.value.reply.text == "so far"


async def test_an_error_in_the_same_packet_keeps_the_text_before_it(ask, protocol):
    packet = protocol.text("so far") + protocol.error
    with pytest.raises(errors.ServerError) as caught:
        await ask(answer(packet, content_type=protocol.content_type))
    assert caught.value.reply.text == "so far"


async def test_a_malformed_line_is_an_error_and_the_text_is_kept(ask, protocol):
    if protocol.malformed is None:
        pytest.skip("this protocol skips such lines, which its own tests hold")
    pieces = [protocol.text("so far"), protocol.malformed + b"\n\n", *protocol.pieces("after")]
    with pytest.raises(errors.FormatError, match="not valid JSON") as caught:
        await ask(answer(*pieces, content_type=protocol.content_type))
    assert caught.value.reply.text == "so far"


@pytest.mark.parametrize("tokens", [0, 3])
async def test_a_hang_ends_in_a_timeout_and_the_text_is_kept(ask, protocol, tokens):
    pieces = [chunk(protocol.text(f"{i} ")) for i in range(tokens)]
    script = [head(200, protocol.content_type), *pieces, HANG]
    with pytest.raises(errors.ServiceTimeoutError, match=r"nothing for 0\.3 s") as caught:
        await ask(script, idle_timeout=0.3)
    assert caught.value.reply.text == "0 1 2 "[: 2 * tokens]


async def test_a_hang_before_the_headers_ends_in_a_timeout(ask, protocol):
    with pytest.raises(errors.ServiceTimeoutError, match=r"nothing for 0\.3 s"):
        await ask([HANG], idle_timeout=0.3)


async def test_an_answer_that_takes_too_long_as_a_whole_ends_in_a_timeout(ask, protocol):
    slow = [x for i in range(50) for x in (chunk(protocol.text(f"{i} ")), 0.1)]
    with pytest.raises(errors.ServiceTimeoutError, match=r"did not finish within 0\.5 s"):
        await ask([head(200, protocol.content_type), *slow], timeout=0.5)


async def test_headers_that_trickle_are_waited_for(ask, protocol):
    whole = protocol.whole("Hello")
    trickle = [x for i in range(len(whole[0])) for x in (whole[0][i : i + 1], 0.004)]
    assert (await ask([*trickle, *whole[1:]], idle_timeout=1)).text == "Hello"


async def test_an_answer_byte_by_byte_is_whole(ask, protocol):
    text = "Hello ✓ wörld 😀"
    script = byte_by_byte(protocol.body(text), protocol.content_type)
    assert (await ask(script)).text == text


@pytest.mark.parametrize("end", [b"\r\n", b"\r"])
async def test_other_line_ends_are_legal(ask, protocol, end):
    body = protocol.body("Hel", "lo").replace(b"\n", end)
    assert (await ask(answer(body, content_type=protocol.content_type))).text == "Hello"


async def test_gzip_is_undone(ask, protocol):
    body = protocol.body("Hel", "lo")
    assert (await ask(gzipped(body, protocol.content_type))).text == "Hello"


async def test_a_byte_order_mark_is_no_text(ask, protocol):
    body = b"\xef\xbb\xbf" + protocol.body("Hello")
    assert (await ask(answer(body, content_type=protocol.content_type))).text == "Hello"


async def test_a_missing_last_line_end_loses_nothing(ask, protocol):
    body = protocol.body("Hel", "lo").rstrip(b"\n")
    assert (await ask(answer(body, content_type=protocol.content_type))).text == "Hello"


@pytest.mark.parametrize("size", [100 << 10, 3 << 19], ids=["100 KiB", "1.5 MiB"])
async def test_a_very_long_line_is_whole(ask, protocol, size):
    text = "x" * size
    assert (await ask(protocol.whole(text))).text == text


async def test_event_stream_extras_are_legal(ask, protocol):
    if protocol.content_type != "text/event-stream":
        pytest.skip("not an event stream")
    body = b": hello\n\nretry: 100\n\n" + b"".join(
        b": ping\n\nevent: message\nid: 7\nretry: 5\n" + piece.replace(b"data: ", b"data:")
        for piece in protocol.pieces("Hel", "lo")
    )
    assert (await ask(answer(body, content_type=protocol.content_type))).text == "Hello"


async def test_a_dead_service_is_an_error_that_names_it(protocol, request_):
    options = {**request_.options, "base_url": "http://127.0.0.1:9"}
    with pytest.raises(
        errors.UnreachableError, match=r"No connection to 127\.0\.0\.1:9: Connection refused\."
    ):
        async for _ in events(Question(request_.model, request_.messages, options)):
            pass


async def test_every_request_goes_through_the_proxy_that_is_given(ask, protocol, service, proxy):
    assert (await ask(protocol.whole("Hello"), proxy=proxy.url)).text == "Hello"
    assert len(proxy.seen) == len(service.requests)
    assert all(line.split()[1].startswith(service.url) for line in proxy.seen)


async def test_every_request_goes_through_a_socks_proxy(ask, protocol, service, socks_proxy):
    assert (await ask(protocol.whole("Hello"), proxy=socks_proxy.url)).text == "Hello"
    assert set(socks_proxy.seen) == {f"127.0.0.1:{service.port}"}


async def test_a_proxy_of_the_environment_is_never_used_for_loopback(ask, protocol, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert (await ask(protocol.whole("Hello"))).text == "Hello"


async def test_an_error_is_one_to_five_lines(ask, protocol):
    body = b'{"error": {"message": "' + b"very long " * 1000 + b'"}}'
    with pytest.raises(errors.ServiceError) as caught:
        await ask(answer(body, status=400, content_type="application/json"))
    lines = caught.value._render_traceback_()
    assert 1 <= len(lines) <= 5
    assert all(len(line) < 600 for line in lines)


async def test_notices_come_while_it_waits(protocol, request_, service):
    service.on(protocol.path, answer(b"busy", status=503, Retry_After="30"))
    async with contextlib.aclosing(events(request_)) as given:
        async with asyncio.timeout(5):
            assert isinstance(await anext(given), Notice)


async def test_an_error_body_with_status_200_is_an_error(ask, protocol):
    body = b'{"error": {"message": "no such luck"}}'
    with pytest.raises(errors.ServerError, match="no such luck"):
        await ask(answer(body, content_type="application/json"))


async def test_an_answer_without_a_byte_is_an_error_where_text_is_owed(ask, protocol):
    if str(protocol) == "RobocodersAPI":
        pytest.skip("an agent may have nothing to say")
    with pytest.raises(errors.FormatError, match="empty answer"):
        await ask(answer(b"", content_type=protocol.content_type))
