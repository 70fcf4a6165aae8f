"""Answers that are kept: who finds which again, what is never taken for one, cassettes, receipts."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given, strategies

import ipychat
from ipychat import batch, config, errors
from ipychat.catalog import receipts, registry, resolve, routes
from ipychat.chat import conversations
from ipychat.chat.question import question as request
from ipychat.messages import FilePart, ImagePart, Message, ModelId, TextPart, date
from ipychat.store import files, ledger, replay
from ipychat.store.answers import AnswerStore, Entry, Receipt
from tests.loopback import Service, answer
from tests.protocols import OPENAI, completion, sse
from tests.test_magics import PATH
from tests.test_usage import counted

pytestmark = pytest.mark.usefixtures("sessions")
KEY = "sk-a-key-of-the-tests"


def use(**settings):
    config.use(config.Config(**settings))


@pytest.fixture(autouse=True)
def _a_kernel_of_its_own(monkeypatch):
    """Nothing that an earlier test's kernel has asked is known."""
    for name in ("_stood_for", "_asked"):
        monkeypatch.setattr(replay, name, {})
    for name in ("_unsaved", "_told"):
        monkeypatch.setattr(replay, name, set())
    monkeypatch.setattr(conversations, "_live", {})


@pytest.fixture
def openai(service, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", service.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    service.on(PATH, counted("one"), counted("two"), counted("three"))
    return service


@pytest.fixture
def cassette(tmp_path):
    """The notebook `n.ipynb` keeps its answers beside it; gives the folder."""
    folder = tmp_path / "__chat__"

    def mode(name="off", notebook="n.ipynb"):
        use(cassette=str(folder), replay=name, notebook=str(tmp_path / notebook))
        return folder

    mode.folder = folder
    return mode


def entries(folder):
    return [path for path in folder.glob("*.json") if path.name != "names.json"]


async def ask(question="Hi", **how):
    return await ipychat.ask(question, **{"model": "openai:m", **how})


# -- looked up before anything is sent


async def test_an_answer_that_is_kept_is_given_again_says_so_and_costs_nothing(openai):
    use(replay="auto")
    first, again = await ask(), await ask()
    assert len(openai.asked(PATH)) == 1
    assert (first.text, again.text) == ("one", "one")
    assert again.cached
    assert not first.cached
    assert again.cost == 0
    assert again.usage.input == 1000
    assert again.notices == (
        f"Cached: answered by openai:m at {date(first.at)}. Nothing was sent.",
    )
    assert len(list(ledger.entries())) == 1, "what was not asked is not counted"


async def test_by_default_nothing_is_looked_up_and_nothing_kept(openai):
    assert [(await ask()).text for _ in range(2)] == ["one", "two"]
    assert not (files.home() / "answers").exists()


async def test_refresh_asks_anew_and_keeps_the_new_answer(openai):
    use(replay="auto")
    await ask()
    use(replay="refresh")
    assert (await ask()).text == "two"
    use(replay="auto")
    assert (await ask()).text == "two"


async def test_one_question_may_take_what_is_kept(openai):
    assert [(await ask(cached=True)).text for _ in range(2)] == ["one", "one"]
    assert (await ask()).text == "two"


async def test_a_stream_from_disk_has_the_same_text(openai):
    use(replay="auto")
    said = ["".join([text async for text in ipychat.stream("Hi", model="openai:m")]) for _ in "12"]
    assert said == ["one", "one"]


async def test_the_environment_goes_before_the_setting(openai, monkeypatch):
    use(replay="auto")
    await ask()
    monkeypatch.setenv("IPYCHAT_REPLAY", "off")
    assert (await ask()).text == "two"


async def test_a_mode_that_is_none_is_refused(openai, monkeypatch):
    monkeypatch.setenv("IPYCHAT_REPLAY", "always")
    with pytest.raises(errors.UsageError, match="one of off, auto, refresh, replay, not 'always'"):
        await ask()
    assert not openai.requests


@pytest.mark.parametrize("finish", ["length", "content_filter", "something_else"])
async def test_an_answer_that_was_cut_off_is_not_kept(openai, finish):
    use(replay="auto")
    cut = answer(completion({"content": "cu"}), completion(finish=finish), sse("[DONE]"))
    openai.on(PATH, cut, counted("whole"))
    assert [(await ask()).text for _ in range(2)] == ["cu", "whole"]


async def test_an_answer_that_broke_off_is_not_kept(openai):
    use(replay="auto")
    openai.on(PATH, answer(completion({"content": "cu"})), counted("whole"))
    with pytest.raises(errors.BrokenAnswerError):
        await ask()
    assert (await ask()).text == "whole"


async def test_a_stream_that_was_closed_is_not_kept(openai):
    use(replay="auto")
    openai.on(PATH, [*counted("one")[:2], 0.2, *counted("one")[2:]], counted("two"))
    stream = ipychat.stream("Hi", model="openai:m")
    assert await anext(stream) == "one"
    await stream.aclose()
    assert (await ask()).text == "two"


async def test_what_looks_at_more_than_the_question_is_not_taken_from_disk():
    use(replay="auto")
    for name in ("helper:notebook", "helper"):
        await ipychat.ask("what variables", model=name)
        assert not (await ipychat.ask("what variables", model=name)).cached


async def test_another_that_spoke_in_place_of_the_model_is_not_taken_for_it(openai):
    use(replay="auto", fallbacks={"openai:m": ("openai:other",)})
    broken = answer(b"{}", status=400)
    openai.on(PATH, broken, counted("the other's"), counted("its own"))
    assert (await ask()).text == "the other's"
    assert (await ask()).text == "its own"


# -- what counts


ASKED = {"model": "openai:m", "system": "Be brief.", "options": {"temperature": 0.5, "seed": 1}}
PROMPT = [Message("user", "What is up?"), Message("assistant", "You."), Message("user", "And?")]
PICTURE = ImagePart.of_bytes(b"picture", "image/png")


def receipt_of(prompt=PROMPT, **changed):
    asked = ASKED | changed
    return receipts.receipt(request(prompt, **asked))


def more(**options):
    return {"options": ASKED["options"] | options}


def unchecked(**options):
    return {"options": ASKED["options"] | {"extra": options}}


def with_part(part):
    return {"prompt": [Message("user", (TextPart("See:"), part))]}


@pytest.mark.parametrize(
    "changed",
    [
        {"prompt": [*PROMPT[:2], Message("user", "And!")]},
        {"prompt": [*PROMPT[:2], Message("user", "And? ")]},
        {"prompt": [PROMPT[1], PROMPT[0], PROMPT[2]]},
        {"prompt": PROMPT[2:]},
        {"prompt": [*PROMPT[:2], Message("assistant", "And?")]},
        {"model": "openai:n"},
        {"model": "groq:m"},
        {"system": None},
        {"system": "Be brief!"},
        more(temperature=0.6),
        more(seed=None),
        more(tools=[{"type": "function", "function": {"name": "f"}}]),
        more(response_format={"type": "json_schema", "json_schema": {"name": "a"}}),
        more(stop=["\n"]),
        more(base_url="https://models.example/v1"),
        with_part(PICTURE),
    ],
    ids=str,
)
def test_whatever_can_change_the_answer_is_another_question(changed):
    assert receipt_of(**changed).hash != receipt_of().hash


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (PICTURE, ImagePart.of_bytes(b"pictures", "image/png")),
        (FilePart("a.txt", b"a"), FilePart("a.txt", b"b")),
        (FilePart("a.txt", b"a"), FilePart("b.txt", b"a")),
        (ImagePart("https://a.example/x.png"), ImagePart("https://a.example/y.png")),
        (TextPart("a\nb"), TextPart("a\n\nb")),
    ],
)
def test_another_attachment_is_another_question(one, other):
    assert receipt_of(**with_part(one)).hash != receipt_of(**with_part(other)).hash


def test_a_text_of_lines_is_no_list_of_lines():
    one, other = more(stop="a\nb"), more(stop=["a\n", "b"])
    assert receipt_of(**one).hash != receipt_of(**other).hash


@pytest.mark.parametrize(
    "changed",
    [
        more(timeout=5),
        more(idle_timeout=5, connect_timeout=1, retries=0),
        more(api_key="sk-another-key-of-the-tests"),
        more(proxy="http://me:a-long-password@proxy.example:3128"),
        more(stream=False),
        more(cached=True),
        {"options": {"seed": 1, "temperature": 0.5}},
    ],
    ids=str,
)
def test_how_a_question_travels_makes_no_other_of_it(changed):
    assert receipt_of(**changed).hash == receipt_of().hash


@pytest.mark.parametrize(
    "other", ["http://127.0.0.1:2/v2", "http://localhost:9", "http://[::1]:3/x"]
)
def test_a_server_on_this_machine_counts_by_its_model_whatever_port_and_path(other):
    here = receipt_of(**more(base_url="http://127.0.0.1:1/v1"))
    assert receipt_of(**more(base_url=other)).hash == here.hash
    assert receipt_of(**more(base_url="http://10.0.0.1/v1")).hash != here.hash


def test_a_login_in_the_address_makes_no_other_question():
    one, other = (
        more(base_url=f"https://{who}@models.example/v1") for who in ("me:pw1", "you:pw2")
    )
    assert receipt_of(**one).hash == receipt_of(**other).hash
    assert "pw1" not in receipt_of(**one).text


async def test_behind_the_gateway_the_model_that_answers_counts(monkeypatch):
    async def gateway():
        return "http://127.0.0.1:1"

    use(gateway=gateway)
    before = receipt_of(model="FrontEndAgent")
    assert json.loads(before.text)["at"] == "helper:notebook"
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-a-key-of-the-tests")
    assert receipt_of(model="FrontEndAgent").hash != before.hash


def test_the_hash_is_of_the_text_that_is_shown():
    receipt = receipt_of()
    assert receipt.hash == hashlib.sha256(receipt.text.encode()).hexdigest()
    assert '"text": "What is up?"' in receipt.text


def test_a_question_that_utf8_cannot_write_has_a_receipt_too():
    assert receipt_of(prompt="\ud83d!").hash != receipt_of(prompt="\ud83e!").hash


class Schema:
    """Stands for a pydantic model."""

    fields = ("a",)

    @classmethod
    def model_json_schema(cls):
        return {"properties": dict.fromkeys(cls.fields)}


class Other(Schema):
    fields = ("b",)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Schema, Other),
        ("//a@x", "//b@x"),
        ("https://a.example/?page_token=1", "https://a.example/?page_token=2"),
        (1, 1.5),
        (True, "true"),
        ([1, 2], [2, 1]),
        ({"a": {"b": 1}}, {"a": {"b": 2}}),
    ],
)
def test_options_that_differ_make_another_question(one, other):
    assert receipt_of(**unchecked(schema=one)).hash != receipt_of(**unchecked(schema=other)).hash
    assert not receipt_of(**unchecked(schema=one)).unwritable


@pytest.mark.parametrize(
    "value",
    [object(), {1: 2}, {1, 2}, b"a", len, int, 10**5000],
    ids=lambda v: type(v).__name__,
)
async def test_an_option_that_cannot_be_written_down_keeps_the_answer_out(openai, cassette, value):
    assert "the option schema, a" in receipt_of(**unchecked(schema=value)).unwritable


async def test_an_option_that_holds_itself_is_refused(openai):
    endless = []
    endless.append(endless)
    with pytest.raises(errors.UsageError, match="contains itself"):
        await ask(schema=endless)


async def test_what_cannot_be_written_down_is_said_where_it_should_be_kept(cassette, monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})

    @ipychat.register
    class Own:
        @classmethod
        async def create_async_generator(cls, model, messages, **options):
            yield repr(options["tool"])

    folder = cassette("auto")
    for _ in range(2):
        reply = await ipychat.ask("Hi", model="own:m", tool={1})
        assert reply.notices == (
            "Not kept in the cassette: a question with the option tool, a set, can't be written down.",
        )
    assert not entries(folder)
    cassette("replay")
    with pytest.raises(errors.NotRecordedError, match="the option tool, a set"):
        await ipychat.ask("Hi", model="own:m", tool={1})


@pytest.mark.parametrize(
    "options",
    [
        {"password": "short"},
        {"extra": {"auth": ["u", "pw12345"]}},
        {"place": "https://u:pw12345@x.example/y"},
    ],
)
def test_what_is_a_credential_by_its_name_is_not_written_down_however_short(options):
    written = receipt_of(**unchecked(**options)).text
    assert "short" not in written
    assert "pw12345" not in written


def test_a_login_in_an_images_address_is_not_written_down():
    image = ImagePart("https://u:pw12345@x.example/y.png?sig_token=abc123")
    written = receipt_of(**with_part(image)).text
    assert "pw12345" not in written
    assert "abc123" not in written


async def test_an_agent_that_looks_at_the_notebook_is_asked_anew(openai):
    async def gateway():
        return "http://127.0.0.1:1"

    use(gateway=gateway)
    for agent, sees in (
        ("GeneralCodingAgent", True),
        ("RepoAgent", True),
        ("FrontEndAgent", False),
    ):
        assert receipt_of(model=agent).repeatable != sees


# -- nothing wrong is ever taken for an answer


def torn(content):
    return content[: len(content) // 2]


def another_answer(content):
    return content.replace(b'"one"', b'"two"')


def another_question(content):
    return content.replace(b'"text": "Hi"', b'"text": "Ho"')


def another_form(content):
    return json.dumps(json.loads(content) | {"answered": []}).encode()


DAMAGES = [
    torn,
    another_answer,
    another_question,
    another_form,
    lambda _: b"",
    lambda _: b"[" * 10**5,
]


JSON = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.text(),
    lambda inner: strategies.lists(inner) | strategies.dictionaries(strategies.text(), inner),
    max_leaves=20,
)


@pytest.mark.heavy
@given(asked=strategies.dictionaries(strategies.text(), JSON), said=JSON)
def test_an_entry_is_written_as_json_writes_it_and_read_as_it_was(asked, said):
    entry = Entry(Receipt.of(asked), {"text": said}, ("a.ipynb",))
    content = entry.to_json()
    given = json.loads(content)
    assert given["asked"] == asked
    assert (
        content.decode() == json.dumps(given, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    )
    assert Entry.of_json(entry.receipt.hash, content) == entry


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_entry_is_never_an_answer(openai, cassette, damage):
    folder = cassette()
    await ask()
    [path] = entries(folder)
    path.write_bytes(damage(path.read_bytes()))
    damaged = path.read_bytes()
    cassette("replay")
    with pytest.raises(errors.StoreError, match="damaged"):
        await ask()
    assert path.read_bytes() == damaged, "a replay changes nothing"
    cassette("auto")
    with pytest.warns(UserWarning, match="Kept as"):
        assert (await ask()).text == "two"
    [aside] = folder.glob("*.damaged-*")
    assert aside.read_bytes() == damaged
    cassette("replay")
    assert (await ask()).text == "two"


async def test_an_entry_under_another_name_is_no_answer_to_that_question(openai, cassette):
    folder = cassette()
    await ask()
    other = receipt_of(prompt="Ho", system=None, options={})
    entries(folder)[0].rename(folder / f"{other.hash}.json")
    cassette("replay")
    with pytest.raises(errors.StoreError, match="does not match its name"):
        await ask("Ho")


async def test_other_spacing_in_an_entry_is_no_damage(openai, cassette):
    folder = cassette()
    await ask()
    [path] = entries(folder)
    path.write_text(json.dumps(json.loads(path.read_bytes()), indent=4, sort_keys=True))
    cassette("replay")
    assert (await ask()).text == "one"


@pytest.mark.parametrize("kind", ["fifo", "endless", "folder", "large"])
async def test_what_is_no_file_in_a_cassette_is_not_read(openai, cassette, kind):
    folder = cassette()
    await ask()
    [path] = entries(folder)
    path.unlink()
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "endless":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()
        case "large":
            with path.open("wb") as file:
                file.truncate(17 << 20)
    cassette("replay")
    with pytest.raises(errors.StoreError, match=r"damaged|Is a directory"):
        await ask()


@pytest.mark.parametrize("link", [".cassette.lock", ".gitignore"])
async def test_nothing_is_read_or_written_through_a_link_of_a_cassette(openai, cassette, link):
    precious = cassette.folder.parent / "precious"
    precious.write_text("precious" * 100)
    cassette.folder.mkdir()
    (cassette.folder / link).symlink_to(precious)
    cassette("auto")
    reply = await ask(model=None)
    assert reply.text == "one"
    assert precious.read_text() == "precious" * 100
    assert ("a link" in "".join(reply.notices)) == (link == ".cassette.lock")


async def test_names_and_entries_that_are_links_are_none(openai, cassette):
    folder = cassette()
    await ask()
    [path] = entries(folder)
    path.rename(elsewhere := folder.parent / "elsewhere.json")
    path.symlink_to(elsewhere)
    cassette("replay")
    with pytest.raises(errors.StoreError, match="it is a link"):
        await ask()
    (folder / "names.json").rename(elsewhere := folder.parent / "names.json")
    (folder / "names.json").symlink_to(elsewhere)
    with pytest.raises(errors.StoreError, match=r"(?s)names\.json is damaged.*Delete it"):
        await ask(model="a name")


async def test_a_cassette_that_is_a_link_is_refused_with_the_folder_to_name(openai, cassette):
    elsewhere = cassette.folder.parent / "private"
    elsewhere.mkdir()
    cassette.folder.symlink_to(elsewhere)
    for mode in ("auto", "replay"):
        cassette(mode)
        with pytest.raises(errors.StoreError) as caught:
            await ask(model=None)
        first, second = caught.value._render_traceback_()
        assert "__chat__ is a link" in first
        assert str(elsewhere) in second
    assert not [*elsewhere.iterdir()]
    assert not openai.requests


ODD = [
    {"usage": {"input": "x"}},
    {"usage": {"cost": "free"}},
    {"usage": [1]},
    {"usage": {"input": -1}},
    {"seconds": float("inf")},
    {"seconds": "long"},
    {"text": 5},
    {"notices": 5},
    {"finish": "length"},
    {"model": "openai:\x1b[2J"},
    {"tool_calls": [{"id": 1}]},
]


@pytest.mark.parametrize("odd", ODD, ids=str)
async def test_an_entry_of_another_version_is_an_error_in_a_replay_and_asked_anew_else(
    openai, cassette, odd
):
    folder = cassette()
    await ask()
    [path] = entries(folder)
    entry = Entry.of_json(path.stem, path.read_bytes())
    path.write_bytes(Entry(entry.receipt, {**entry.answered, **odd}).to_json())
    cassette("replay")
    with pytest.raises(errors.StoreError, match=r"another version|was not stored by"):
        await ask()
    cassette("auto")
    assert (await ask()).text == "two"


async def test_an_answer_that_was_cut_off_leaves_the_earlier_one_and_says_so(openai, cassette):
    cassette()
    cut = answer(completion({"content": "cu"}), completion(finish="length"), sse("[DONE]"))
    openai.on(PATH, counted("one"), cut)
    await ask()
    assert (await ask()).notices == (
        "Not kept in the cassette: it ended with length. An earlier answer stays there.",
    )


async def test_whoever_leaves_at_the_finish_has_the_answer_kept(openai):
    use(replay="auto")
    async for event in ipychat.events("Hi", model="openai:m"):
        if isinstance(event, ipychat.FinishReason):
            break
    assert (await ask()).cached


async def test_a_later_versions_entry_with_more_in_it_is_read(openai, cassette):
    folder = cassette()
    await ask()
    [path] = entries(folder)
    entry = Entry.of_json(path.stem, path.read_bytes())
    later = Entry(entry.receipt, {**entry.answered, "mood": "good"}, entry.notebooks)
    path.write_bytes(later.to_json())
    cassette("replay")
    assert (await ask()).text == "one"


async def test_what_a_foreign_cassette_says_does_not_act(openai, cassette):
    folder = cassette()
    await ask()
    [path] = entries(folder)
    entry = Entry.of_json(path.stem, path.read_bytes())
    hostile = {**entry.answered, "notices": ["\x1b[2Jgone"], "text": "<script>alert(1)</script>"}
    path.write_bytes(Entry(entry.receipt, hostile).to_json())
    cassette("replay")
    reply = await ask()
    assert reply.notices == ("[2Jgone",)
    assert "<script" not in reply._repr_mimebundle_()["text/html"]


# -- cassettes


async def test_a_cassette_is_readable_and_lists_who_asked(openai, cassette):
    folder = cassette()
    openai.on(PATH, OPENAI.whole("first line\nsecond line"))
    await ask("a question\nin two lines")
    cassette(notebook="other.ipynb")
    await ask("a question\nin two lines")
    [path] = entries(folder)
    lines = [line.strip() for line in path.read_text().splitlines()]
    assert {'"a question\\n",', '"in two lines"', '"first line\\n",', '"second line"'} <= {*lines}
    assert json.loads(path.read_bytes())["notebooks"] == ["n.ipynb", "other.ipynb"]
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_second_hit_changes_no_byte_of_the_cassette(openai, cassette):
    folder = cassette("auto")
    await ask()
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.glob("*.json")}
    await ask()
    assert before == {
        path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.glob("*.json")
    }


async def test_a_hit_lists_the_notebook_that_had_not_asked_before(openai, cassette):
    folder = cassette("auto")
    await ask()
    cassette("auto", notebook="other.ipynb")
    assert (await ask()).cached
    assert json.loads(entries(folder)[0].read_bytes())["notebooks"] == ["n.ipynb", "other.ipynb"]
    assert set(AnswerStore(folder, shared=True).names()) == {"n.ipynb", "other.ipynb"}


async def test_locks_and_leftovers_are_not_for_committing(openai, cassette):
    folder = cassette()
    await ask()
    subprocess.run(["git", "init", "-q", folder.parent], check=True)
    listed = subprocess.run(
        ["git", "-C", folder.parent, "ls-files", "-o", "--exclude-standard", "__chat__"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    names = {line.removeprefix("__chat__/") for line in listed.stdout.split()}
    assert names == {".gitignore", "names.json", entries(folder)[0].name}


async def test_a_replay_asks_nothing_and_shows_everything_as_it_was(openai, cassette):
    cassette()
    first = await ask()
    cassette("replay")
    again = await ask()
    assert again == first
    assert len(openai.requests) == 1
    ledger.save()
    assert len(ledger._file().read()) == 1, "a replay is counted in memory only"


async def test_a_replay_needs_no_key_and_no_address(openai, cassette, monkeypatch):
    cassette()
    monkeypatch.setenv("IPYCHAT_MODEL", "openai:m")
    await ipychat.ask("Hi")
    for name in ("OPENAI_API_KEY", "IPYCHAT_MODEL"):
        monkeypatch.delenv(name)
    cassette("replay")
    for elsewhere in ("http://127.0.0.1:1/elsewhere", ""):
        monkeypatch.setenv("OPENAI_BASE_URL", elsewhere)
        assert str((await ipychat.ask("Hi")).model) == "openai:m"


async def test_a_question_that_was_never_asked_is_an_error_with_the_difference(openai, cassette):
    folder = cassette()
    await ask("A long question about the sea", temperature=0.5)
    await ask("Something else entirely")
    cassette("replay")
    with pytest.raises(errors.NotRecordedError) as caught:
        await ask("A long question about the sky", temperature=0.5)
    lines = caught.value._render_traceback_()
    assert lines[0].endswith(f"kept in the folder {folder.name}.")
    assert '-   "text": "A long question about the sea"' in lines
    assert '+   "text": "A long question about the sky"' in lines
    assert "IPYCHAT_REPLAY=auto" in lines[-1]
    assert len(openai.requests) == 2


async def test_a_difference_of_many_lines_is_cut_and_says_so(openai, cassette):
    cassette()
    await ask("\n".join(map(str, range(100))))
    cassette("replay")
    with pytest.raises(errors.NotRecordedError) as caught:
        await ask("\n".join(map(str, range(1000, 1100))))
    lines = caught.value._render_traceback_()
    assert len(lines) <= 17
    assert "more lines" in lines[-2]


async def test_an_empty_cassette_says_that_it_is_empty(cassette):
    cassette("replay")
    with pytest.raises(errors.NotRecordedError, match="__chat__, which is empty"):
        await ask()


async def test_a_replay_tells_who_spoke_in_place_of_whom(openai, cassette):
    def settings(mode):
        use(cassette=str(cassette.folder), replay=mode, fallbacks={"openai:m": ("openai:other",)})

    settings("off")
    openai.on(PATH, answer(b"{}", status=400), counted("the other's"))
    first = await ask()
    settings("replay")
    again = await ask()
    assert (again.text, str(again.model), again.notices) == (
        "the other's", "openai:other", first.notices,
    )  # fmt: skip
    assert again.hash == first.hash


async def test_what_is_not_kept_is_said(openai, cassette):
    cassette()
    cut = answer(completion({"content": "cu"}), completion(finish="length"), sse("[DONE]"))
    openai.on(PATH, cut)
    assert (await ask()).notices == ("Not kept in the cassette: it ended with length.",)


async def test_a_full_disk_costs_the_entry_and_not_the_answer(openai, cassette, monkeypatch):
    folder = cassette("auto")

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        reply = await ask()
    assert reply.text == "one"
    assert "No space left on device" in reply.notices[0]
    assert "not stored for replay" in reply.notices[0]
    assert not entries(folder)
    assert (await ask()).text == "two"
    assert not (await ask()).notices[0].startswith("Can't")


async def test_nothing_else_reaches_the_network_while_answers_are_replayed(openai, monkeypatch):
    from ipychat.catalog import offers

    use(replay="replay")
    faults = await offers.refresh()
    assert not openai.requests
    assert all("Nothing is sent" in fault for fault in faults.values())


# -- conversations


async def test_recording_and_replaying_begin_with_an_empty_conversation(openai, cassette):
    use(notebook=str(cassette.folder.parent / "n.ipynb"))
    await ask("before", chat="talk")
    conversations._live.clear()
    cassette()
    await ask("first", chat="talk")
    await ask("second", chat="talk")
    assert [m["content"] for m in openai.requests[-1].json["messages"]] == [
        "first",
        "two",
        "second",
    ]
    for _ in range(2):
        conversations._live.clear()
        cassette("replay")
        assert str(await ask("first", chat="talk")) == "two"
        assert str(await ask("second", chat="talk")) == "three"
    assert len(openai.requests) == 3


async def test_a_replay_writes_nothing_but_what_it_reads(openai, cassette, monkeypatch, tmp_path):
    cassette()
    await ask("first", chat="talk")
    ledger.save()
    monkeypatch.setenv("IPYCHAT_HOME", str(tmp_path / "nowhere"))
    before = {path: path.stat().st_mtime_ns for path in cassette.folder.rglob("*")}
    conversations._live.clear()
    cassette("replay")
    await ask("first", chat="talk")
    assert before == {path: path.stat().st_mtime_ns for path in cassette.folder.rglob("*")}
    ledger.save()
    assert not (tmp_path / "nowhere").exists()


async def test_a_recording_leaves_the_notebooks_own_conversation_alone(openai, cassette):
    own = {"notebook": str(cassette.folder.parent / "n.ipynb")}
    use(**own)
    await ask("before", chat="talk")
    conversations._live.clear()
    cassette()
    await ask("recorded", chat="talk")
    conversations._live.clear()
    use(**own)
    await ask("after", chat="talk")
    conversations._live.clear()
    talk = ipychat.conversation("talk")
    assert [turn.question[0].text for turn in talk.turns] == ["before", "after"]


async def test_a_recording_begins_without_the_model_of_an_earlier_one(openai, cassette):
    cassette()
    talk = ipychat.conversation("talk")
    talk.model, talk.system = "openai:another", "Be brief."
    await ask("recorded", chat="talk")
    conversations._live.clear()
    again = ipychat.conversation("talk")
    assert (again.turns, again.model, again.system) == ([], None, None)


# -- names


async def test_an_alias_of_the_users_stands_for_the_model_that_it_stood_for(openai, cassette):
    settings = {
        "cassette": str(cassette.folder),
        "notebook": str(cassette.folder.parent / "n.ipynb"),
    }
    use(**settings, aliases={"quick": "openai:m"})
    await ipychat.ask("Hi", model="quick")
    cassette("replay")
    assert str(await ipychat.ask("Hi", model="quick")) == "one"
    use(**settings, replay="replay", aliases={"quick": "openai:another"})
    with pytest.raises(errors.NotRecordedError):
        await ipychat.ask("Hi", model="quick")


async def test_a_default_that_has_changed_is_said_and_never_guessed(openai, cassette, monkeypatch):
    cassette()
    assert (await ipychat.ask("Hi", model=None)).notices == ()
    monkeypatch.setenv("IPYCHAT_MODEL", "openai:m2")
    assert (await ipychat.ask("Hi")).notices == (
        "This can't be replayed as it is: the default model has stood for several models in this kernel.",
    )
    assert (await ipychat.ask("Ho")).notices == (), "once is enough"
    cassette("replay")
    with pytest.raises(errors.UsageError, match=r"(?s)openai:m2 in n\.ipynb.*record the whole"):
        await ipychat.ask("Hi")


async def test_without_a_key_what_was_recorded_comes_before_the_helper(
    openai, cassette, monkeypatch
):
    cassette()
    named = (await ipychat.ask("Hi")).model
    monkeypatch.setattr(replay, "_stood_for", {})
    monkeypatch.delenv("OPENAI_API_KEY")
    cassette("auto")
    assert str(await ipychat.ask("Hi")) == "one"
    other = await ipychat.ask("Ho")
    assert other.provider == "helper"
    assert other.notices[0] == (
        f"The default model stood for {named} when the cassette was recorded; "
        "your own settings ask helper:notebook."
    )
    assert "has stood for several models" in other.notices[-1]
    assert len(openai.requests) == 1


HOSTILE = {
    "the default": {"n.ipynb": {"": ["openai:gpt-any"]}},
    "a full name": {"n.ipynb": {"ollama:private": ["openai:gpt-any"]}},
    "an alias": {"n.ipynb": {"mine": ["openai:gpt-any"]}},
    "a provider": {"n.ipynb": {"ollama": ["openai:gpt-any"]}},
    "a bare name": {"n.ipynb": {"private": ["openai:gpt-any"]}},
    "another notebook's": {"other.ipynb": {"": ["openai:gpt-any"], "mine": ["openai:gpt-any"]}},
    "a notebook that is not known": {"": {"": ["openai:gpt-any"], "mine": ["openai:gpt-any"]}},
    "several": {"n.ipynb": {"": ["openai:gpt-any", "openai:another"], "mine": ["openai:x"]}},
    "weights beside the notebook": {"n.ipynb": {"": ["local:./__chat__/evil.gguf"]}},
    "weights by their name": {"n.ipynb": {"": ["local:evil.gguf"]}},
    "markup": {"n.ipynb": {"": ["openai:<img src=x>"], "mine": ["openai:<img src=x>"]}},
    "no provider": {"n.ipynb": {"": ["nosuch"], "mine": ["nosuch:m"]}},
    "no name": {"n.ipynb": {"": ["openai:"], "mine": ["helper:"]}},
    "an agent": {"n.ipynb": {"": ["robocoders:RepoAgent"], "(the gateway)": ["openai:gpt-any"]}},
    "the gateway": {"n.ipynb": {"(the gateway)": ["openai:gpt-any"]}},
    "a place": {"n.ipynb": {"@ollama:private": ["http://evil.example/v1"]}},
    "a way out": {"n.ipynb": {"": ["openai:../../v2/gpt-any"], "mine": ["openai:a/../b"]}},
}
"""What a cassette that was cloned may say of names."""


@pytest.fixture
def mine(openai, monkeypatch):
    """A service of the user's own, which alone is named for anything: gives it."""
    own = Service()
    ok = b'{"message":{"role":"assistant","content":"mine"},"done":true,"done_reason":"stop"}\n'
    own.on("/api/chat", *[answer(ok, content_type="application/x-ndjson")] * 20)
    monkeypatch.setenv("OLLAMA_HOST", own.url)
    monkeypatch.setenv("IPYCHAT_MODEL", "ollama:private")
    yield own
    own.close()


@pytest.mark.parametrize("mode", ["off", "auto", "refresh"])
@pytest.mark.parametrize("said", HOSTILE)
async def test_a_cassette_decides_for_no_question_whom_it_goes_to(
    openai, mine, cassette, said, mode
):
    cassette.folder.mkdir()
    (cassette.folder / "names.json").write_text(json.dumps(HOSTILE[said]))
    cassette(mode)
    settings = config.current()._replace(
        aliases={"mine": "ollama:private"}, fallbacks={"ollama:private": ("mine",)}
    )
    config.use(settings)
    for name in (None, "mine", "ollama:private"):
        assert str(await ipychat.ask("a secret", model=name, cached=False)) == "mine"
    [one] = await ipychat.compare("a secret of a race", ["mine"])
    assert one.reply.text == "mine"
    assert (await ipychat.map(["a secret of a row"], "{{it}}")).values == ["mine"]
    talk = ipychat.conversation("talk")
    talk.model = resolve.lasting("mine")
    assert str(await ipychat.ask("a secret of a talk", chat="talk")) == "mine"
    assert resolve.answering() == resolve.resolve() == ModelId("ollama", "private")
    assert routes.address(request("?")) == f"{mine.url}/api/chat"
    for unknown in ("private", "gone"):
        with contextlib.suppress(errors.UsageError):
            await ipychat.ask("a secret", model=unknown)
    assert not openai.requests


async def test_a_name_that_the_cassette_alone_knows_is_looked_up_and_never_asked(
    openai, mine, cassette
):
    folder = cassette()
    config.use(config.current()._replace(aliases={"quick": "openai:m"}))
    await ask("Hi", model="quick")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for name in ("n.ipynb", "copied.ipynb"):
        cassette("auto", notebook=name)
        assert (await ask("Hi", model="quick")).text == "one"
        with pytest.raises(errors.ModelNotSupportedError) as caught:
            await ask("Ho", model="quick")
        assert caught.value._render_traceback_() == [
            "ModelNotSupportedError: No answer to this is kept, "
            "and only the cassette says who quick is: nothing was sent.",
            "There is no model 'quick'.",
            "For a model that isn't listed, write provider:name, such as openai:quick.",
        ]
        with pytest.raises(errors.ModelNotSupportedError):
            await ipychat.map(["Ho"], "{{it}}", model="quick")
        if name == "n.ipynb":
            assert {path: path.read_bytes() for path in folder.iterdir()} == before
    cassette("replay", notebook="copied.ipynb")
    assert (await ask("Hi", model="quick")).text == "one"
    assert len(openai.requests) == 1
    assert not mine.requests


async def test_rows_that_were_recorded_are_found_under_what_a_name_stood_for(
    openai, mine, cassette, monkeypatch
):
    cassette()
    monkeypatch.setenv("IPYCHAT_MODEL", "openai:m")
    await ipychat.map(["a"], "{{it}}")
    monkeypatch.setattr(replay, "_stood_for", {})
    monkeypatch.setenv("IPYCHAT_MODEL", "ollama:private")
    cassette("auto")
    assert batch.plan(["a", "b"], "{{it}}").kept == 1
    results = await ipychat.map(["a", "b"], "{{it}}")
    assert results.values == ["one", "mine"]
    assert len(openai.requests) == 1


async def test_the_receipt_of_an_answer_that_was_found_so_is_found_again(
    openai, mine, cassette, monkeypatch
):
    cassette()
    monkeypatch.setenv("IPYCHAT_MODEL", "openai:m")
    await ask("Hi", model=None, chat="talk")
    conversations._live.clear()
    cassette("auto")
    monkeypatch.setenv("IPYCHAT_MODEL", "ollama:private")
    reply = await ask("Hi", model=None, chat="talk")
    talk = ipychat.conversation("talk")
    assert (str(reply.model), str(talk.turns[0].model)) == ("openai:m", "openai:m")
    receipt = talk.receipt(talk.turns[0])
    assert receipt.hash == reply.hash
    assert '"model": "openai:m"' in receipt.text


async def test_what_a_replay_says_of_a_name_ends_with_it(openai, mine, cassette):
    cassette()
    config.use(config.current()._replace(aliases={"quick": "openai:m"}))
    await ask("Hi", model="quick")
    cassette("replay")
    talk = ipychat.conversation("talk")
    talk.model = resolve.lasting("quick")
    assert str(await ask("Hi", model=None, chat="talk")) == "one"
    use(notebook=config.current().notebook, aliases={"quick": "ollama:private"})
    assert str(await ask("Ho", model=None, chat="talk")) == "mine"
    assert len(openai.requests) == 1


def test_cells_tell_who_is_asked_whatever_a_cassette_says(kernel, mine, tmp_path):
    (tmp_path / "__chat__").mkdir()
    said = {
        "a notebook.ipynb": {name: ["openai:gpt-any"] for name in ("", "mine", "ollama:private")}
    }
    (tmp_path / "__chat__" / "names.json").write_text(json.dumps(said))
    notebook = kernel(IPYCHAT_MODEL="ollama:private")
    notebook.run("%config IPyChat.cassette = True\n%config IPyChat.replay = 'auto'")
    notebook.run("%config IPyChat.aliases = {'mine': 'ollama:private'}")
    assert "ollama:private" in notebook.run("%chat_setup").shown().splitlines()[0]
    for flags in ("", "-m mine", "-m ollama:private"):
        shown = notebook.run(f"%chat --dry-run {flags} a secret").shown()
        assert "ollama:private" in shown.splitlines()[1]
        assert f"{mine.url}/api/chat" in shown
        ran = notebook.run(f"%chat --no-history {flags} a secret {flags}")
        assert "mine" in ran.shown(), ran.error
        assert "openai" not in ran.shown("text/html").partition("stood for")[0]
    assert "ollama:private" in notebook.run("%chat_use mine\n%chat_setup").shown()
    assert notebook.run("%chat in the conversation").status == "ok"
    assert {received.path for received in mine.requests} >= {"/api/chat"}


async def test_another_address_in_the_environment_is_asked_anew(openai, cassette, monkeypatch):
    cassette("auto")
    await ask()
    monkeypatch.setenv("OPENAI_BASE_URL", "http://models.example/v1")
    asked = request("Hi", model="openai:m")
    assert '"at": "http://models.example/v1"' in receipts.receipt(asked).text
    cassette("replay")
    assert '"at": "this machine"' in receipts.receipt(asked).text


async def test_a_notebook_that_was_renamed_finds_its_names(openai, cassette, monkeypatch):
    monkeypatch.setenv("IPYCHAT_MODEL", "openai:m")
    cassette()
    await ipychat.ask("Hi")
    monkeypatch.delenv("IPYCHAT_MODEL")
    cassette("replay", notebook="renamed.ipynb")
    assert str(await ipychat.ask("Hi")) == "one"


async def test_two_notebooks_whose_names_are_not_known_have_to_agree(openai, cassette, monkeypatch):
    for model in ("openai:m", "openai:m2"):
        monkeypatch.setattr(replay, "_stood_for", {})
        monkeypatch.setenv("IPYCHAT_MODEL", model)
        use(cassette=str(cassette.folder), notebook="kernel-1")
        await ipychat.ask("Hi")
    use(cassette=str(cassette.folder), replay="replay", notebook="kernel-2")
    with pytest.raises(errors.UsageError, match="stood for several"):
        await ipychat.ask("Hi")


async def test_a_notebook_elsewhere_is_listed_by_its_way_from_the_cassette(openai, tmp_path):
    (tmp_path / "sub").mkdir()
    use(cassette=str(tmp_path / "sub" / ".." / "all"), notebook=str(tmp_path / "sub" / "a.ipynb"))
    await ask()
    assert json.loads(entries(tmp_path / "all")[0].read_bytes())["notebooks"] == ["sub/a.ipynb"]


@pytest.mark.parametrize(
    "names",
    [b'{"n.ipynb": {"": "openai:m"}}', b'{"n.ipynb": {"": ["\\u001b[2J"]}}', b"<<<<<<< HEAD"],
)
async def test_names_that_are_none_are_no_names(openai, cassette, names):
    cassette()
    await ask()
    (cassette.folder / "names.json").write_bytes(names)
    cassette("replay")
    with pytest.raises(errors.StoreError, match=r"(?s)damaged, perhaps by a merge.*record"):
        await ask()


async def test_what_answers_by_default_is_what_answered_then(openai, cassette, monkeypatch):
    cassette()
    await ipychat.ask("Hi", model=None)
    [named] = json.loads((cassette.folder / "names.json").read_bytes())["n.ipynb"][""]
    assert named.startswith("openai:")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-a-key-of-the-tests")
    cassette("replay")
    assert str(await ipychat.ask("Hi")) == "one"


async def test_a_notebook_that_is_not_known_takes_what_all_agree_on(openai, cassette, monkeypatch):
    monkeypatch.setenv("IPYCHAT_MODEL", "openai:m")
    cassette()
    await ipychat.ask("Hi")
    cassette(notebook="other.ipynb")
    await ipychat.ask("Hi")
    monkeypatch.delenv("IPYCHAT_MODEL")
    use(cassette=str(cassette.folder), replay="replay", notebook="kernel-1")
    assert str(await ipychat.ask("Hi")) == "two"
    monkeypatch.setenv("IPYCHAT_MODEL", "openai:n")
    cassette(notebook="third.ipynb")
    await ipychat.ask("Hi")
    use(cassette=str(cassette.folder), replay="replay", notebook="kernel-1")
    with pytest.raises(errors.UsageError, match=r"openai:m in .*, openai:n in third\.ipynb"):
        await ipychat.ask("Hi")


# -- many kernels, and kills

RECORD = """
import asyncio, os, sys, ipychat
from ipychat import config

who = sys.argv[1]
config.use(config.Config(cassette=os.environ["FOLDER"], notebook=os.path.join(os.path.dirname(os.environ["FOLDER"]), f"{who}.ipynb")))

async def main():
    for number in range(20):
        print(await ipychat.ask(f"question {number}", model="openai:m"), flush=True)

asyncio.run(main())
"""


def recorder(folder, who):
    return subprocess.Popen(
        [sys.executable, "-c", RECORD, str(who)],
        stdout=subprocess.PIPE,
        env={**os.environ, "FOLDER": str(folder)},
    )


def echo(received):
    return counted(f"re {received.json['messages'][-1]['content']}")


def whole(folder):
    """Every entry of a cassette, by its question; a damaged one raises."""
    read = [Entry.of_json(path.stem, path.read_bytes()) for path in entries(folder)]
    return {json.loads(one.receipt.text)["messages"][-1]["text"]: one for one in read}


@pytest.mark.slow("eight interpreters write 20 entries each")
def test_of_eight_kernels_on_one_cassette_no_entry_and_no_notebook_is_lost(openai, cassette):
    openai.on(PATH, echo)
    running = [recorder(cassette.folder, who) for who in range(8)]
    for process in running:
        process.communicate(timeout=100)
        assert process.returncode == 0
    kept = whole(cassette.folder)
    assert len(kept) == 20
    for question, entry in kept.items():
        assert entry.answered["text"] == f"re {question}"
        assert sorted(entry.notebooks) == [f"{who}.ipynb" for who in range(8)]
    assert len(AnswerStore(cassette.folder, shared=True).names()) == 8


@pytest.mark.slow("13 interpreters start one after the other")
def test_a_kernel_that_is_killed_leaves_whole_entries_only(openai, cassette):
    openai.on(PATH, echo)
    for number in range(12):
        process = recorder(cassette.folder, number)
        for _ in range(1 + number):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
    kept = whole(cassette.folder)
    assert len(kept) >= 11, "what was shown is kept, but for the last"
    for question, entry in kept.items():
        assert entry.answered["text"] == f"re {question}"
    recorder(cassette.folder, "last").communicate(timeout=60)
    assert len(whole(cassette.folder)) == 20


# -- receipts


async def test_a_reply_carries_the_hash_of_what_was_asked(openai):
    first = await ask(temperature=0.5)
    asked = request("Hi", model="openai:m", options={"temperature": 0.5})
    assert first.hash == receipts.receipt(asked).hash
    assert first.at.startswith(time.strftime("%Y-", time.gmtime()))


async def test_after_another_spoke_the_hash_is_of_what_it_was_asked(openai):
    use(fallbacks={"openai:m": ("openai:other",)})
    openai.on(PATH, answer(b"{}", status=400), counted("the other's"))
    first = await ask()
    assert first.hash == receipts.receipt(request("Hi", model="openai:other")).hash


async def test_the_receipt_of_a_turn_is_found_again_after_a_restart(openai, cassette):
    use(notebook=str(cassette.folder))
    await ask("first", chat="talk")
    await ask("second", chat="talk", temperature=1)
    hashes = [turn.reply.hash for turn in ipychat.conversation("talk").turns]
    conversations._live.clear()
    talk = ipychat.conversation("talk")
    assert [talk.receipt(turn).hash for turn in talk.turns] == hashes
    talk.drop(1)
    assert talk.receipt(talk.turns[0]) is None, "what went along has changed"


def test_a_dry_run_shows_what_the_receipt_will_say(notebook, service):
    service.on(PATH, counted("one"))
    dry = notebook.run("%%chat --dry-run --temperature 0.5\nHi\nthere").shown()
    ran = notebook.run("%%chat --temperature 0.5\nHi\nthere")
    receipt = notebook.run("%chat_receipt").shown()
    [shown] = ran.outputs
    digest = shown["metadata"]["ipychat"]["hash"]
    text = dry[dry.index("{") :]
    assert hashlib.sha256(text.encode()).hexdigest() == digest
    assert receipt.endswith(text)
    for said in (f"hash        {digest}", "asked at", "openai:m", "1,000 tokens in, 200 out"):
        assert said in receipt, said


def test_a_receipt_of_a_turn_that_is_not_there_is_an_error(notebook):
    assert "There is no turn 0" in notebook.run("%chat_receipt").error
    assert "the number of a turn" in notebook.run("%chat_receipt last").error


def test_the_outputs_metadata_say_where_the_text_came_from(notebook, service):
    service.on(PATH, counted("one"))
    [shown] = notebook.run("%chat Hi").outputs
    known = shown["metadata"]["ipychat"]
    assert (known["model"], known["provider"]) == ("openai:m", "openai")
    assert {"hash", "at", "usage", "cost", "finish", "seconds"} <= known.keys()


# -- the magics


def test_a_cell_takes_what_is_kept_and_says_so(notebook, service):
    service.on(PATH, counted("one"), counted("two"))
    cell = "%%chat --cached --no-history\nHi"
    assert notebook.run(cell).shown() == "one"
    again = notebook.run(cell)
    assert again.shown() == "one"
    assert "Cached: answered by openai:m at" in again.shown("text/html")
    assert "$0" in again.shown("text/html")
    assert again.outputs[0]["metadata"]["ipychat"]["cached"] is True
    assert notebook.run("%chat --no-history Hi").shown() == "two"


def test_the_cassette_lists_shows_and_prunes(notebook, service, tmp_path):
    service.on(PATH, counted("one"), counted("two"))
    assert "has no cassette" in notebook.run("%chat_cassette").error
    notebook.run("%config IPyChat.cassette = True")
    assert notebook.run("%chat_cassette").stdout.startswith("0 answers in")
    notebook.run("%chat --no-history first question")
    notebook.run("%chat --no-history second question")
    folder = tmp_path / "__chat__"
    listed = notebook.run("%chat_cassette")
    assert listed.stdout.startswith("2 answers in __chat__")
    assert "first question" in listed.shown()
    assert "a notebook.ipynb" in listed.shown()
    name = next(path.stem for path in entries(folder) if b"first question" in path.read_bytes())
    shown = notebook.run(f"%chat_cassette show {name[:8]}")
    assert "one" in shown.shown()
    assert "No entries begin with" in notebook.run("%chat_cassette show 0x").error
    assert (
        "takes nothing, show ENTRY, or prune [--yes]" in notebook.run("%chat_cassette wipe").error
    )
    assert notebook.run("%chat_cassette prune").stdout.startswith("0 answers no longer asked for")


def test_what_is_asked_no_more_is_pruned(kernel, service, tmp_path):
    service.on(PATH, echo)
    path = tmp_path / "a notebook.ipynb"
    cassette = {"IPYCHAT_CASSETTE": "__chat__"}
    before = kernel(**cassette)
    shown = before.run("%chat --no-history shown").outputs[0]["metadata"]
    for question in ("asked again", "asked no more"):
        before.run(f"%chat --no-history {question}")
    path.write_text(json.dumps({"cells": [{"outputs": [{"metadata": shown}]}]}))
    other = tmp_path / "other.ipynb"
    other.touch()
    kernel(**cassette, JPY_SESSION_NAME=str(other)).run("%chat --no-history the other's")
    gone = tmp_path / "gone.ipynb"
    kernel(**cassette, JPY_SESSION_NAME=str(gone)).run(
        "%chat --no-history of a notebook that is gone"
    )
    now = kernel(**cassette)
    assert "run the whole notebook first" in now.run("%chat_cassette prune --yes").error
    now.run("%chat --no-history asked again")
    before = whole(tmp_path / "__chat__")
    listed = now.run("%chat_cassette prune")
    assert listed.stdout.startswith("2 answers no longer asked for")
    assert "asked no more" in listed.shown()
    assert whole(tmp_path / "__chat__") == before, "it only lists them"
    assert now.run("%chat_cassette prune --yes").stdout.startswith("Removed 2 answers")
    assert {*whole(tmp_path / "__chat__")} == {"shown", "asked again", "the other's"}
    assert "gone.ipynb" not in AnswerStore(tmp_path / "__chat__", shared=True).names()


LONG = "\n\n".join(
    f"Paragraph {n} of an answer that is long enough to be frozen. " * 4 for n in range(30)
)


def test_a_recorded_output_is_the_same_watched_or_not(kernel, service):
    service.on(PATH, [*answer(*OPENAI.pieces(*LONG.split(" ")))])
    shown = []
    for watched in (True, False):
        one = kernel(IPYCHAT_CASSETTE="__chat__")
        shown.append([output["data"] for output in one.run("%chat long", watched=watched).outputs])
    assert shown[0] == shown[1]
    assert len(shown[0]) == 1


def test_a_background_answer_is_replayed_whenever_it_ends(kernel, service):
    service.on(
        PATH,
        lambda received: (
            [0.3, *echo(received)]
            if b"slow" in received.body.split(b'"content"')[-1]
            else echo(received)
        ),
    )
    cells = ["%%chat -b\nslow", "%chat two", "%chat_jobs wait", "%chat three"]
    recording = kernel(IPYCHAT_CASSETTE="__chat__")
    ids = [recording.send(cell, watched=False) for cell in cells]
    recorded = [recording.wait(one) for one in ids]
    assert all(ran.status == "ok" for ran in recorded), [ran.error for ran in recorded]
    replaying = kernel(IPYCHAT_CASSETTE="__chat__", IPYCHAT_REPLAY="replay")
    replayed = [replaying.run(cell, watched=False) for cell in cells]
    for cell, before, after in zip(cells, recorded, replayed, strict=True):
        assert after.status == "ok", after.error
        if cell != "%chat_jobs wait":
            assert [o["data"] for o in after.outputs] == [o["data"] for o in before.outputs]


def test_an_error_is_told_alike_in_every_kernel(kernel, service):
    service.on(PATH, echo)
    said = []
    for _ in range(2):
        one = kernel()
        one.run("import json\ndef f(): return json.loads('{')\nf()")
        assert one.run("%chat_fix").status == "ok"
        said.append(service.requests[-1].json["messages"][-1]["content"])
        one.run("%chat_new")
    assert said[0] == said[1]
    assert 'File "json/decoder.py"' in said[0] or 'File "json/__init__.py"' in said[0]
    assert "Cell In[" in said[0]
    assert "/tmp/" not in said[0]
