"""What a service, a user's slip or a broken disk can do to a cell: it ends, and says so in words."""

import json
import time
from pathlib import Path

import pytest

from tests.loopback import HANG, answer, chunk, head
from tests.protocols import PROTOCOLS, completion, sse
from tests.test_magics import PATH, echo, sent

OPENAI = PROTOCOLS[0]
KEY = "sk-0123456789-of-the-user"


def payload(**fields) -> bytes:
    return sse(json.dumps({"id": "x", **fields}))


def choice(**fields) -> bytes:
    return payload(choices=[{"index": 0, **fields}])


def is_short(ran) -> bool:
    """Whether a failed cell shows one to five lines of ours and no traceback."""
    lines = ran.reply["traceback"]
    return ran.status == "error" and 1 <= len(lines) <= 5 and "Traceback" not in ran.error


@pytest.mark.parametrize(
    "line",
    [
        choice(delta={"reasoning": 5}),
        choice(delta={"content": 5}),
        choice(delta={"content": [{"type": "text", "text": 5}]}),
        choice(delta={"tool_calls": "x"}),
        choice(delta="x"),
        choice(delta={}, finish_reason={"a": 1}),
        payload(choices={"a": 1}),
        payload(choices=["x"]),
        sse("[" * 100_000),
    ],
)
def test_a_line_of_another_shape_is_an_error_and_the_conversation_goes_on(shared, line):
    kernel, service = shared
    kernel.run("%chat_new")
    service.on(PATH, answer(OPENAI.text("so far"), line), echo)
    ran = kernel.run("%chat hi")
    assert is_short(ran)
    assert ran.reply["ename"] == "FormatError"
    assert "so far" in ran.shown()
    assert "so far" in kernel.run("%chat_history").shown()
    assert kernel.run("%chat again").status == "ok"


CONTROLS = "\x1b]52;c;aGFja2Vk\x07\x1b[2J\x9b2J\x1b]8;;http://evil.example\x1b\\ \u202ereversed"
CODE = f"Do this:\n\n```python\nprint('{CONTROLS}')\n```\n"


@pytest.mark.parametrize(
    "way",
    [
        *(f"%chat --no-history -f {form} hi" for form in ("markdown", "text", "code", "html")),
        "%chat -m openai:a -m openai:b --no-history hi",
        "_ = await ipychat.ask('hi', chat='controls'); _",
        "%chat_history controls",
        "ipychat.conversation('controls').turns",
        "await ipychat.map(['a'], '{{it}}')",
        "job = %chat -b --no-history hi\nawait job",
    ],
)
def test_no_control_character_of_an_answer_reaches_an_output(shared, way):
    kernel, service = shared
    reasoning = choice(delta={"reasoning_content": CONTROLS})
    text = choice(delta={"content": CODE})
    service.on(PATH, answer(reasoning, text, choice(delta={}, finish_reason="stop")))
    kernel.run("import ipychat")
    ran = kernel.run(way)
    assert ran.status == "ok", ran.error
    assert ran.outputs
    said = json.dumps([one["content"] for one in ran.messages], ensure_ascii=False)
    for character in CONTROLS:
        if not character.isprintable():
            assert character not in json.loads(json.dumps(said)), way
            assert json.dumps(character)[1:-1] not in said.replace(json.dumps(way)[1:-1], ""), way


def test_code_goes_into_the_next_cell_without_control_characters_and_this_is_said(shared):
    kernel, service = shared
    service.on(
        PATH, answer(choice(delta={"content": CODE}), choice(delta={}, finish_reason="stop"))
    )
    ran = kernel.run("%chat --no-history -f code hi")
    assert ran.next_input == "print(']52;c;aGFja2Vk[2J2J]8;;http://evil.example\\ reversed')"
    assert "without them" in ran.stdout


@pytest.mark.parametrize(
    "usage",
    [
        '"x"',
        "[1]",
        '{"prompt_tokens": 1e400, "cost": 1e400}',
        '{"prompt_tokens": -5, "completion_tokens": true, "cost": true}',
        '{"prompt_tokens": %s, "cost": %s}' % ("9" * 4000, "9" * 400),  # noqa: UP031 - braces
        '{"prompt_tokens": 1.5, "cost": NaN}',
    ],
    ids=str.__len__,
)
def test_a_count_that_is_none_harms_neither_the_answer_nor_the_sums(shared, usage):
    kernel, service = shared
    line = sse(f'{{"choices": [], "usage": {usage}}}')
    service.on(PATH, answer(OPENAI.text("all of it"), completion(finish="stop"), line))
    ran = kernel.run("%chat --no-history hi")
    assert ran.status == "ok", ran.error
    assert "all of it" in ran.shown()
    sums = kernel.run("%chat_usage")
    assert sums.status == "ok", sums.error
    assert "nan" not in sums.shown()
    assert "inf" not in sums.shown()


@pytest.mark.parametrize("form", ["markdown", "text", "code", "json", "html"])
def test_half_a_character_reaches_no_message(shared, form):
    kernel, service = shared
    body = completion({"content": "```\na\ud800b\n```"}) + OPENAI.finish("st\udfffop")
    service.on(PATH, answer(body))
    ran = kernel.run(f"%chat -f {form} hi")
    assert ran.reply, "it hangs"
    assert kernel.run("print(_ if _ is not None else 1)").status == "ok"


def test_half_a_character_in_an_error_reaches_no_message(shared):
    kernel, service = shared
    service.on(PATH, answer(b'{"error": {"message": "a\\ud800b"}}', status=400))
    ran = kernel.run("%chat hi")
    assert is_short(ran)
    assert "a\N{REPLACEMENT CHARACTER}b" in ran.error


def test_a_services_error_sends_no_escapes(shared):
    kernel, service = shared
    body = json.dumps({"error": {"message": "\x1b]0;owned\x07 \x1b[31mred\u202e \x00"}}).encode()
    service.on(PATH, answer(body, status=400))
    ran = kernel.run("%chat hi")
    assert not set("\x1b\x07\x00\u202e") & set(ran.error)


def test_a_lexer_that_takes_for_ever_leaves_the_code_plain(shared):
    kernel, service = shared
    service.on(PATH, OPENAI.whole("```perl\n" + "m{" * 20_000 + "\n```"))
    ran = kernel.run("%chat hi")
    assert ran.status == "ok"
    assert "m{m{" in ran.shown("text/html")


def test_json_that_only_its_indentation_makes_huge_is_shown_as_it_came(shared):
    kernel, service = shared
    bomb = "[" * 900 + "1," * 40_000 + "1" + "]" * 900
    service.on(PATH, OPENAI.whole(bomb))
    ran = kernel.run("%chat -f json hi")
    assert ran.status == "ok", ran.error
    assert len(ran.shown()) < 2 * len(bomb)


def test_koalas_values_without_line_ends_are_read_in_time(shared):
    kernel, service = shared
    body = b"data: " + b'"a" ' * 200_000 + b"\n\n"
    service.on("/api/gpt/", answer(body))
    code = f"%chat -m koala:gpt-4o-mini --no-history --option base_url={service.url} hi"
    begin = time.monotonic()
    ran = kernel.run(code)
    assert ran.status == "ok", ran.error
    assert time.monotonic() - begin < 20


# -- secrets


@pytest.mark.parametrize(
    "code",
    [
        "%chat --option api_key={KEY} echo {KEY}",
        "print(_)",
        "_",
        "[_]",
        "print(_.text)",
        "print(repr(_), _.request, [_])",
        "%chat --dry-run --option api_key={KEY} --option base_url=http://me:{KEY}@localhost hi",
        "%chat -b --option api_key={KEY} echo {KEY}",
        "%chat_jobs",
        "%chat_history",
    ],
)
def test_a_key_is_in_no_output(shared, code):
    kernel, service = shared
    service.on(PATH, echo)
    kernel.run(f"%chat --option api_key={KEY} echo {KEY}")
    ran = kernel.run(code.replace("{KEY}", KEY))
    assert ran.status == "ok", ran.error
    assert KEY not in json.dumps(
        [m["content"] for m in ran.messages if m["msg_type"] != "execute_input"]
    )


@pytest.mark.parametrize("url", ["http://me:pw@[", "htp://me:pw@host", "http://me:pw@127.0.0.1:9"])
def test_a_password_in_an_address_is_shown_nowhere(shared, url):
    kernel, _ = shared
    ran = kernel.run(f"%chat --option base_url={url} hi")
    assert is_short(ran)
    assert "pw@" not in ran.error + kernel.run("%chat_history").shown()


def test_a_key_with_a_line_end_is_the_key(kernel, service):
    service.on(PATH, echo)
    notebook = kernel(OPENAI_API_KEY=f"{KEY}\n")
    assert notebook.run("%chat hi").status == "ok"
    assert service.asked(PATH)[0].headers["Authorization"] == f"Bearer {KEY}"


def test_a_key_that_is_none_is_named_without_being_shown(kernel):
    ran = kernel(OPENAI_API_KEY="sk-012 345\u00e4").run("%chat hi")
    assert is_short(ran)
    assert "OPENAI_API_KEY" in ran.error
    assert "012" not in ran.error


def test_what_a_dry_run_shows_has_no_login_in_it(shared):
    kernel, _ = shared
    options = [
        "--proxy http://me:short@localhost:1",
        "--option base_url=http://localhost/v1?api_key=short",
        f"""--option 'tools=[{{"api_key": "{KEY}x"}}]'""",
    ]
    for option in options:
        ran = kernel.run(f"%chat --dry-run {option} hi")
        assert ran.status == "ok", ran.error
        assert "short" not in ran.shown()
        assert KEY not in ran.shown()


def test_a_secret_that_comes_slowly_is_not_shown_before_it_is_whole(notebook, service):
    key = "sk-a-key-of-the-tests"
    service.on(PATH, [head(), *(chunk(OPENAI.text(c)) for c in f"It is {key[:-1]}"), HANG])
    running = notebook.send("%chat hi")
    notebook.wait_for(lambda: "It is" in notebook.cells[running].shown("text/html"))
    notebook.interrupt()
    ran = notebook.wait(running)
    assert "It is" in ran.shown()
    told = json.dumps([m["content"] for m in ran.messages])
    assert key[:8] not in told
    assert key[:8] not in notebook.run("%chat_history").shown()


# -- slips


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("%chat --to class hi", "--to takes the name of a variable of yours"),
        ("%chat --to print hi", "--to takes"),
        ("%chat --to _ hi", "--to takes"),
        ("%chat --to In hi", "--to takes"),
        ("%chat --to get_ipython hi", "--to takes"),
        ("%chat --timeout 0 hi", "a number from 0.001 up"),
        ("%chat --timeout nan hi", "a number from"),
        ("%chat --max-tokens -5 hi", "a whole number from 1 up"),
        ("%chat --max-tokens 1.5 hi", "a whole number from 1 up"),
        ("%chat --cells -1 hi", "a whole number from 1 up"),
        ("%chat --temperature nan hi", "a number from 0 up"),
        ("%chat --option retries=-1 hi", "retries takes a number"),
        ("%chat --option retries=a hi", "retries takes a number"),
        ("%chat --option connect_timeout=abc hi", "connect_timeout takes seconds"),
        ("%chat --option api_key=5 hi", "api_key must be a text"),
        ("%chat --option proxy=5 hi", "proxy must be a text"),
        ("%chat --dry-run --option base_url=5 hi", "base_url must be a text"),
        ("%chat --option model=x hi", "model is not a provider's option"),
        ("%chat --option messages=[] hi", "messages is not a provider's option"),
        ("%chat -m opnai:x hi", "Did you mean openai:x?"),
        ("%chat --help", "%chat? shows all flags"),
        ("%chat_history --dorp 1", "Did you mean --drop?"),
        ("%chat_history --zzz", "%chat_history? shows all flags"),
        ("# a note\n%%chat\nhi", "first line of its cell"),
    ],
)
def test_a_slip_is_told_in_words(shared, line, says):
    kernel, service = shared
    service.on(PATH, echo)
    ran = kernel.run(line)
    assert is_short(ran), ran
    assert says in ran.error


@pytest.mark.parametrize(
    "name", ["cell", "self", "question", "execution", "background", "system", "limit", "history"]
)
def test_any_other_option_is_the_services(shared, name):
    kernel, service = shared
    service.on(PATH, echo)
    ran = kernel.run(f"%chat --option {name}=5 hi")
    assert ran.status == "ok", ran.error
    assert service.asked(PATH)[-1].json[name] == 5


def test_an_expression_sees_the_names_of_the_function_that_asks(shared):
    kernel, service = shared
    service.on(PATH, echo)
    kernel.run("word = 'global'")
    code = "def f(word, n=2):\n    %chat {{word}} {{[word for _ in range(n)]}}\nf('local')"
    assert kernel.run(code).status == "ok"
    assert sent(service)[-1]["content"] == "local ['local', 'local']"
    asynchronous = code.replace("def f", "async def f").replace("\nf(", "\nawait f(")
    assert kernel.run(asynchronous).status == "ok"
    assert sent(service)[-1]["content"] == "local ['local', 'local']"
    assert kernel.run("%chat {{word}}").status == "ok"
    assert sent(service)[-1]["content"] == "global"


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ('--system "Talk about {{word}} only"', "Talk about x y only"),
        ("""--system 'a "quoted" {{word}}'""", 'a "quoted" x y'),
        ("--system {{word}}", "x y"),
        ("--system \"{{ {'a': word}['a'] }}\"", "x y"),
    ],
)
def test_a_quoted_flag_may_hold_expressions(shared, flag, expected):
    kernel, service = shared
    service.on(PATH, echo)
    kernel.run("word = 'x y'")
    ran = kernel.run(f"%chat --no-history {flag} hi")
    assert ran.status == "ok", ran.error
    assert sent(service)[0] == {"role": "system", "content": expected}


def test_a_conversations_name_may_be_quoted(shared):
    kernel, service = shared
    service.on(PATH, echo)
    kernel.run('%chat --chat "my talk" hi')
    assert "Conversation cleared (" in kernel.run('%chat_new "my talk"').stdout
    assert "Conversation cleared (" in kernel.run("%chat_new my talk").stdout


# -- nothing is lost


def test_an_answer_is_not_lost_to_a_run_that_gets_none(shared):
    kernel, service = shared
    kernel.run("%chat_new")
    service.on(PATH, OPENAI.whole("good"), answer(b"{}", status=400), echo)
    kernel.run("%%chat\nfirst", cell="one")
    assert kernel.run("%%chat\nfirst", cell="one").status == "error"
    kernel.run("%%chat\nsecond", cell="two")
    assert [m["content"] for m in sent(service)] == ["first", "good", "second"]


def test_the_header_counts_turns_that_are_left(kernel, service):
    service.on(PATH, echo)
    first = kernel()
    first.run("%chat one")
    first.close()
    second = kernel()
    second.run("%chat_new")
    assert "continues" not in second.run("%chat two").shown("text/html")


def test_an_unclosed_fence_leaves_the_next_turn_alone(shared, tmp_path):
    kernel, service = shared
    kernel.run("%chat_new")
    service.on(PATH, OPENAI.whole("```python\nx = 1"), OPENAI.whole("*second*"))
    kernel.run("%chat a")
    kernel.run("%chat b")
    assert "<em>second</em>" in kernel.run("%chat_history").shown("text/html")


def test_unloading_ends_an_answer_that_a_cell_waits_for(notebook, service):
    service.on(PATH, [head(), chunk(OPENAI.text("so far")), HANG])
    code = (
        "import asyncio, ipychat\n"
        "async def unload():\n"
        "    while not (turns := ipychat.conversation().turns) or not turns[-1].reply.text:\n"
        "        await asyncio.sleep(0.01)\n"
        "    get_ipython().run_line_magic('unload_ext', 'ipychat')\n"
        "task = asyncio.ensure_future(unload())\n"
        "%chat hi"
    )
    ran = notebook.wait(notebook.send(code), timeout=20)
    assert is_short(ran)
    assert "so far" in ran.shown()


def test_a_reload_in_a_cell_leaves_its_own_answer_alone(notebook, service):
    service.on(PATH, echo)
    notebook.run("%chat first")
    ran = notebook.run("%reload_ext ipychat\n%chat second")
    assert ran.status == "ok", ran.error
    assert "You said: second" in ran.shown()


def test_an_interrupt_while_the_gateway_starts_leaves_it_usable(notebook, service):
    service.on(PATH, OPENAI.whole("Hello"))
    code = (
        "import asyncio, ipychat\nfrom ipychat.gateway import server\n"
        "asking = asyncio.ensure_future(ipychat.ask('hi', model='koala:gpt-4o-mini'))\n"
        "while not server._running:\n    await asyncio.sleep(0)\n"
        "asking.cancel()\nawait asyncio.wait([asking])"
    )
    assert notebook.run(code).status == "ok"
    ran = notebook.run("%chat -m koala:gpt-4o-mini hi")
    assert ran.status == "ok", ran.error


def test_two_that_need_the_gateway_at_once_share_it(notebook, service):
    service.on(PATH, OPENAI.whole("Hello"))
    asks = ", ".join(f"ipychat.ask('hi', model='{m}')" for m in ("koala:gpt-4o-mini", "autonomous:llama"))  # fmt: skip
    ran = notebook.run(f"import asyncio, ipychat\nprint(*await asyncio.gather({asks}))")
    assert ran.stdout == "Hello Hello\n"


def test_a_time_out_is_for_the_whole_answer_with_its_waits(shared):
    kernel, service = shared
    service.on(PATH, answer(b"busy", status=503, Retry_After="30"), OPENAI.whole("late"))
    begin = time.monotonic()
    ran = kernel.run("%chat --timeout 0.5 hi")
    assert is_short(ran)
    assert "did not finish within 0.5 s" in ran.error
    assert time.monotonic() - begin < 10


def test_an_export_that_fails_leaves_the_old_one(notebook, service, tmp_path):
    service.on(PATH, echo)
    notebook.run("%chat hi")
    assert notebook.run("%chat_history --export talk.md").status == "ok"
    assert "You said" in (tmp_path / "talk.md").read_text()
    ran = notebook.run("%chat_history --export nowhere/talk.md")
    assert "There is no folder nowhere" in ran.error


EDITED = {
    "a reply's text": ("ended", lambda r: r["reply"].update(text=None)),
    "a reply's number": ("ended", lambda r: r["reply"].update(text=5)),
    "a state": ("ended", lambda r: r.update(state="running around")),
    "stale": ("asked", lambda r: r.update(stale="yes")),
    "a system message": ("asked", lambda r: r.update(system=["x"])),
    "a model": ("asked", lambda r: r.update(model=5)),
}


@pytest.mark.parametrize("edit", EDITED)
def test_a_transcript_edited_by_hand_is_read_as_far_as_it_makes_sense(kernel, service, edit):
    service.on(PATH, echo)
    first = kernel()
    first.run("%chat hi")
    home = Path(first.value("__import__('os').environ['IPYCHAT_HOME']"))
    first.close()
    [file] = home.rglob("default.jsonl")
    kind, change = EDITED[edit]
    records = [json.loads(line) for line in file.read_text().splitlines()]
    for record in records:
        if record["type"] == kind:
            change(record)
    records.append({"type": "set", "model": 5, "system": [1]})
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    ran = kernel().run("%chat again")
    assert ran.status == "ok", ran.error


def test_a_home_is_the_same_wherever_the_kernel_goes(kernel, service, tmp_path):
    service.on(PATH, echo)
    one = kernel(IPYCHAT_HOME="relative")
    one.run("%chat hi\nimport os\nos.mkdir('elsewhere')\nos.chdir('elsewhere')")
    one.run("%chat again")
    assert len(list(tmp_path.rglob("default.jsonl"))) == 1


def test_a_background_answer_of_a_headless_run_stays_in_its_cell(notebook, service):
    service.on(PATH, OPENAI.whole("Hello"))
    first = notebook.send("%%chat --background\nhi", watched=False)
    notebook.wait(first)
    notebook.run("%chat_jobs wait", watched=False)
    cell = notebook.cells[first]
    kinds = [m["msg_type"] for m in cell.messages]
    assert "Hello" in cell.shown()
    assert "display_data" in kinds[: kinds.index("update_display_data")], "it follows a display"


# -- %chat_fix


def test_fix_sends_a_cell_as_it_was_written(shared):
    kernel, service = shared
    service.on(PATH, echo)
    if not kernel.fails_under_time():
        pytest.skip("this IPython's %time hides from which cell an error came")
    kernel.run("%time 1 +\nx = 3")
    kernel.run("values = [1]\n%time values[3]")
    assert kernel.run("%chat_fix").status == "ok"
    asked = sent(service)[-1]["content"]
    assert "```python\nvalues = [1]\n%time values[3]\n```" in asked
    assert "values" in asked.partition("The values it mentions")[2]


def test_fix_tells_a_syntax_error_without_ipythons_frames(shared):
    kernel, service = shared
    service.on(PATH, echo)
    kernel.run("def f(:\n    pass")
    assert kernel.run("%chat_fix").status == "ok"
    asked = sent(service)[-1]["content"]
    assert "def f(:" in asked
    assert "site-packages" not in asked


def test_fix_has_nothing_to_fix_in_an_error_of_a_service(shared):
    kernel, service = shared
    service.on(PATH, answer(b'{"error": "no luck"}', status=400))
    kernel.run("%chat hi")
    ran = kernel.run("%chat_fix")
    assert is_short(ran)
    assert "no luck" in ran.error
