"""What a question is asked with: options that are known, those that go unchecked, and its size."""

import base64
import inspect

import pytest

import ipychat
from ipychat import batch, config, errors
from ipychat.catalog import lists, receipts, registry
from ipychat.chat.question import question as request
from ipychat.messages import FilePart, ImagePart, Message, Notice, TextPart
from ipychat.providers.provider import AsyncGeneratorProvider, Card
from tests.loopback import answer
from tests.protocols import PROTOCOLS

pytestmark = pytest.mark.usefixtures("sessions")

OPENAI = PROTOCOLS[0]
PATH = OPENAI.path
MODEL = "openai:m"
LONG = "word " * 100_000
"""About 125,000 tokens."""


@pytest.fixture
def openai(service, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", service.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-a-key-of-the-tests")
    service.on(PATH, OPENAI.whole("Hello"))
    return service


@pytest.fixture
def own(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    return ipychat.register


async def ask(**options):
    return await ipychat.ask("Hi", model=MODEL, **options)


async def stream(**options):
    return [text async for text in ipychat.stream("Hi", model=MODEL, **options)]


async def events(**options):
    return [event async for event in ipychat.events("Hi", model=MODEL, **options)]


async def compare(**options):
    return await ipychat.compare("Hi", [MODEL, "openai:n"], **options)


async def of_rows(**options):
    return await ipychat.map(["Hi"], "{{it}}", model=MODEL, **options)


def begin(chat, prompt, options):
    talk = ipychat.conversation(chat)
    return talk.begin(talk.question(prompt, model=MODEL, options=options))


async def turn(**options):
    return begin("options", "Hi", options)


WAYS = [ask, stream, events, compare, of_rows, turn]


# -- options that nobody knows


@pytest.mark.parametrize("way", WAYS)
async def test_an_unknown_option_is_refused_before_anything_is_sent(openai, way):
    with pytest.raises(TypeError, match=r"'modle'\. Did you mean model\?") as caught:
        await way(modle="openai")
    assert isinstance(caught.value, errors.UsageError)
    assert len(str(caught.value).splitlines()) == 2
    assert not openai.requests


@pytest.mark.parametrize("way", WAYS)
async def test_an_option_near_a_known_one_is_told_which(openai, way):
    with pytest.raises(errors.UnknownOptionError, match=r"Did you mean temperature\?"):
        await way(temprature=0)


async def test_a_run_over_rows_knows_its_own_words(openai):
    with pytest.raises(errors.UnknownOptionError, match=r"Did you mean schema\?"):
        await of_rows(schemas=int)


@pytest.mark.parametrize("way", [ask, stream, events, compare, of_rows])
async def test_what_is_in_extra_goes_to_the_service_unchecked(openai, way):
    await way(temperature=0.5, extra={"modle": "openai", "large": 1})
    body = openai.asked(PATH)[0].json
    assert (body["modle"], body["large"], body["temperature"]) == ("openai", 1, 0.5)
    assert "extra" not in body


def test_an_option_in_extra_asks_the_same_question():
    def hash_of(**options):
        return receipts.receipt(request("Hi", model=MODEL, options=options)).hash

    assert hash_of(extra={"seed": 1}, top_p=0.5) == hash_of(seed=1, top_p=0.5)
    assert hash_of(seed=1, large=True, extra=None) == hash_of(seed=1)


async def test_an_option_that_is_given_twice_is_refused(openai):
    with pytest.raises(errors.UsageError, match="top_p is given twice"):
        await ask(top_p=0.5, extra={"top_p": 1})
    with pytest.raises(errors.UsageError, match="extra must be a dict"):
        await ask(extra=["top_p"])
    assert not openai.requests


@pytest.mark.parametrize("name", sorted(registry.BUILT_IN))
def test_what_is_documented_is_known_to_each_protocol(name):
    known = registry.known_options(name, registry.load(name))
    assert {"temperature", "max_tokens", "top_p", "stop", "tools", "tool_choice"} <= known
    assert {"response_format", "timeout", "proxy", "retries", "idle_timeout", "stream"} <= known
    named = set(inspect.signature(registry.load(name).create_async_generator).parameters)
    assert named - {"model", "messages", "options", "hints"} <= known


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("openai", "reasoning_effort"), ("openai", "seed"), ("openrouter", "provider"),
        ("anthropic", "thinking"), ("gemini", "generationConfig"), ("ollama", "num_ctx"),
        ("ollama", "think"), ("local", "context"), ("koala", "connector"), ("openai", "api_key"),
    ],
)  # fmt: skip
def test_what_only_one_of_them_takes_is_known_to_it(name, option):
    assert option in registry.known_options(name, registry.load(name))


async def test_a_provider_of_another_package_takes_any_option(own):
    @own
    class Any(AsyncGeneratorProvider):
        @classmethod
        async def create_async_generator(cls, model, messages, **options):
            yield repr(options)

    assert (await ipychat.ask("Hi", model="any:m", modle=1)).text == "{'modle': 1}"


async def test_one_whose_signature_ends_takes_what_it_names(own):
    @own
    class Few:
        @classmethod
        async def create_async_generator(cls, model, messages, pause=0):
            yield str(pause)

    assert (await ipychat.ask("Hi", model="few:m", pause=3)).text == "3"
    with pytest.raises(errors.UnknownOptionError, match=r"'paus'\. Did you mean pause\?"):
        await ipychat.ask("Hi", model="few:m", paus=3)


def test_in_a_cell_an_option_goes_unchecked(shared):
    kernel, service = shared
    service.on(PATH, OPENAI.whole("Hello"))
    assert kernel.run("%chat --no-history --option modle=x --option seed=1 hi").status == "ok"
    body = service.asked(PATH)[-1].json
    assert (body["modle"], body["seed"]) == ("x", 1)
    ran = kernel.run("%chat --no-history --temperature 1 --option temperature=0 hi")
    assert "temperature is given twice" in ran.error


def test_in_a_cell_the_error_is_two_lines(shared):
    kernel, _ = shared
    ran = kernel.run("import ipychat\nawait ipychat.ask('x', modle='openai')")
    assert ran.status == "error"
    assert len(ran.error.splitlines()) == 2
    assert "UnknownOptionError: openai takes no option 'modle'. Did you mean model?" in ran.error


def test_the_panel_asks_again_with_an_option_that_went_unchecked(shared):
    kernel, service = shared
    service.on(PATH, OPENAI.whole("Hello"))
    code = (
        "import ipychat\n"
        "talk = ipychat.conversation('again')\n"
        "await ipychat.ask('hi', chat='again', extra={'modle': 1})\n"
        "shown = ipychat.panel(chat='again')\n"
        "await shown._exchange._ask(talk.turns[0].question[-1], talk.turns[0])\n"
        "for run in shown._exchange.runs: await run.wait()\n"
        "shown.close()"
    )
    ran = kernel.run(code)
    assert ran.status == "ok", ran.error
    assert [one.json["modle"] for one in service.asked(PATH)[-2:]] == [1, 1]


# -- how large it may be


@pytest.mark.parametrize("way", [stream, events, ask, turn])
async def test_a_large_question_is_refused_before_anything_is_sent(openai, way):
    async def asked(**options):
        question = begin("large", LONG, options)
        return [event async for event in question.events()]

    with pytest.raises(errors.UsageError, match=r"about 125,\d\d\d tokens.*more than 100,000"):
        await (asked() if way is turn else _asking(way))
    assert not openai.requests
    await (asked(large=True) if way is turn else _asking(way, large=True))
    [sent] = openai.asked(PATH)
    assert "large" not in sent.json


async def _asking(way, **options):
    if way is ask:
        return await ipychat.ask(LONG, model=MODEL, **options)
    asking = getattr(ipychat, way.__name__)
    return [one async for one in asking(LONG, model=MODEL, **options)]


async def test_the_price_of_a_large_question_is_said_where_it_is_known(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-a-key-of-the-tests")
    with pytest.raises(errors.UsageError, match=r"tokens, \$0\.\d+ to read: more than"):
        await ipychat.ask(LONG, model="openai:gpt-6-luna")


async def test_what_was_said_before_counts(openai):
    for _ in range(2):
        await ipychat.ask(LONG[:190_000], model=MODEL, chat="long")
    with pytest.raises(errors.UsageError, match="more than 100,000"):
        await ipychat.ask(LONG[:400_000], model=MODEL, chat="long")
    assert len(openai.requests) == 2


@pytest.mark.parametrize("limit", [0, None])
async def test_the_limit_is_a_setting_and_can_be_switched_off(openai, limit):
    config.use(config.current()._replace(large=limit))
    await ipychat.ask(LONG, model=MODEL)
    config.use(config.current()._replace(large=10))
    with pytest.raises(errors.UsageError, match="more than 10"):
        await ipychat.ask("Not long, but longer than that: forty characters and more.", model=MODEL)
    assert len(openai.requests) == 1


async def test_a_large_question_that_is_answered_already_is_not_refused(openai):
    config.use(config.current()._replace(large=None))
    await ipychat.ask(LONG, model=MODEL, cached=True)
    config.use(config.Config())
    assert (await ipychat.ask(LONG, model=MODEL, cached=True)).cached


async def test_each_of_a_race_is_held_to_it(openai):
    results = await ipychat.compare(LONG, [MODEL, "openai:n"])
    assert all("more than 100,000" in str(one.error) for one in results)
    assert not openai.requests


async def test_rows_are_looked_at_before_the_first_is_sent(openai):
    with pytest.raises(errors.UsageError, match="Row 2: The question has about 125,"):
        await batch.map(["a", "b", LONG, "c"], "{{it}}", model=MODEL)
    assert not openai.requests
    results = await batch.map(["a", LONG], "{{it}}", model=MODEL, large=True)
    assert results.counts["done"] == 2


async def test_rows_that_were_sent_before_a_large_one_keep_their_answers(openai):
    rows = [*map(str, range(batch.run.LOOKUP_BATCH)), LONG]
    results = await batch.map(rows, "{{it}}", model=MODEL)
    assert results.counts["done"] == batch.run.LOOKUP_BATCH
    assert "Row 64" in str(results.stopped)


def test_pictures_and_files_count_by_what_they_cost():
    picture = ImagePart("data:image/png;base64," + base64.b64encode(bytes(3_000_000)).decode())
    pdf = FilePart("a.pdf", bytes(300_000), "application/pdf")
    text = FilePart("a.txt", b"word" * 1000, "text/plain")

    def tokens(*parts):
        asked = request([Message("user", (TextPart("See:"), *parts))], model=MODEL)
        return lists.estimate_tokens(asked)

    assert tokens(picture) == 1005
    assert tokens(pdf) == 10_005
    assert tokens(text) == 1005


def test_in_a_cell_a_flag_sends_it(shared):
    kernel, service = shared
    service.on(PATH, OPENAI.whole("Hello"))
    before = len(service.requests)
    kernel.run("long = 'word ' * 100_000")
    ran = kernel.run("%chat --no-history {{long}}")
    assert "--large (in Python large=True) sends it" in ran.error
    assert len(ran.error.splitlines()) == 2
    assert len(service.requests) == before
    assert kernel.run("%chat --no-history --large {{long}}").status == "ok"
    kernel.run("%config IPyChat.large = 10")
    assert "more than 10" in kernel.run(f"%chat --no-history {'long ' * 20}").error
    kernel.run("%config IPyChat.large = 100_000")


# -- notices that change


async def test_a_notice_of_a_retry_takes_the_place_of_the_one_before(own):
    @own
    class Busy:
        @classmethod
        async def create_async_generator(cls, model, messages, **options):
            yield Notice("First of all")
            yield Notice("Retrying in 1 s", kind="retry")
            yield Notice("Retrying in 2 s", kind="retry")
            yield "Hello"

    reply = await ipychat.ask("Hi", model="busy:m")
    assert reply.notices == ("First of all", "Retrying in 2 s")
    given = [event async for event in ipychat.events("Hi", model="busy:m")]
    assert [one.kind for one in given if isinstance(one, Notice)] == ["", "retry", "retry"]


def test_what_a_notice_is_of_makes_it_no_other_one():
    assert Notice("a", kind="retry") == Notice("a")


# -- models that the service does not have


async def test_a_model_that_is_not_there_is_told_what_comes_near(openai):
    body = b'{"error": {"message": "The model does not exist"}}'
    openai.on(PATH, answer(body, status=404))
    lists.keep("openai", openai.url, [Card("gpt-6-luna"), Card("other")])
    with pytest.raises(errors.NotFoundError) as caught:
        await ipychat.ask("Hi", model="openai:gpt-6-lunar")
    first, second = str(caught.value).splitlines()
    assert first == "openai has no model gpt-6-lunar (404). Did you mean gpt-6-luna?"
    assert second.endswith("The model does not exist")
    assert caught.value.status == 404
    assert len(openai.requests) == 1, "no list is asked for"


@pytest.mark.parametrize("name", ["gpt-6-luna", "unlike-any"])
async def test_nothing_is_guessed_where_the_model_is_listed_or_nothing_comes_near(openai, name):
    openai.on(PATH, answer(b"no such path", status=404, content_type="text/plain"))
    lists.keep("openai", openai.url, [Card("gpt-6-luna")])
    with pytest.raises(errors.NotFoundError) as caught:
        await ipychat.ask("Hi", model=f"openai:{name}")
    assert "Did you mean" not in str(caught.value)
