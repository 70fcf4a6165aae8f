"""The panel in a real JupyterLab: what its users see and do. Skipped without Chromium, but not in CI."""

import re
import time

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests import lab
from tests.loopback import END, HANG, Service, chunk, head
from tests.protocols import PROTOCOLS
from tests.test_magics import PATH, echo, sent

OPENAI = PROTOCOLS[0]
LOAD, PANEL = "%load_ext ipychat", "%chat_panel"
ANSWER = """Here is a **short** plan with `code` and [a link](https://example.org):

1. Read the file
2. Count the words

```python
from collections import Counter

def count(path):
    return Counter(open(path).read().split()).most_common(10)
```

| word | n |
|---|---|
| the | 12 |
"""
HOSTILE = """<script>window.hurt = 1</script><img src=https://evil.example/1 onerror="window.hurt=1">
<iframe srcdoc="<script>parent.hurt=1</script>"></iframe><style>@import 'https://evil.example/2'</style>
![x](https://evil.example/3) ![y](//evil.example/4) [js](javascript:window.hurt=1) <a href="javascript:hurt=1">x</a>
<svg onload="window.hurt=1"><math><mi xlink:href="data:x,<script>window.hurt=1</script>"></math></svg>
<details open ontoggle="window.hurt=1">x</details> <form action=https://evil.example/5><button>x</button></form>

```<img src=x onerror=window.hurt=1>
</code></pre><script>window.hurt = 1</script>
```

[x]: https://evil.example/6 "onmouseover=hurt=1"
[x] <https://evil.example/7> $\\href{javascript:hurt=1}{x}$ <base href=https://evil.example/>
"""


@pytest.fixture(scope="module")
def service():
    service = Service()
    yield service
    service.close()


@pytest.fixture(scope="module")
def jupyter(service, tmp_path_factory):
    with lab.running(tmp_path_factory.mktemp("lab"), service.env) as one:
        yield one


@pytest.fixture
def opened(jupyter, service, request):
    """A notebook with a panel in it, in the page of the test before unless that one failed."""
    service.on(PATH, echo)
    failed = request.session.testsfailed
    page = jupyter.turn_to(f"{request.node.name}.ipynb", LOAD, PANEL, "x = 1", "%chat from a cell")
    lab.run(page, 0)
    lab.run(page, 1)
    prompt(page).wait_for()
    yield page
    if request.session.testsfailed > failed:
        lab.leave(page)
    assert jupyter.left == [], "a request left this machine"


def prompt(page):
    return page.get_by_role("textbox", name="Prompt").first


def log(page):
    return page.locator(".ic-panel").get_by_role("log")


def button(page, name):
    return page.locator(".ic-panel").first.get_by_role("button", name=name, exact=True)


def models(page):
    return page.get_by_role("listbox", name="Models").get_by_role("option")


def ask(page, text):
    prompt(page).fill(text)
    prompt(page).press("Enter")


def slowly(text, size=20, pause=0.01):
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    return [head(), *(step for piece in pieces for step in (chunk(OPENAI.text(piece)), pause)), chunk(OPENAI.finish()), END]  # fmt: skip


def stalled(text):
    return [head(), chunk(OPENAI.text(text)), HANG]


def test_what_is_asked_in_the_panel_is_answered_there_and_cells_go_on_from_it(opened, service):
    ask(opened, "Hello")
    expect(log(opened)).to_contain_text("You said: Hello")
    lab.run(opened, 3)
    expect(log(opened)).to_contain_text("You said: from a cell")
    assert [m["content"] for m in sent(service)] == ["Hello", "You said: Hello ", "from a cell"]


def test_it_streams_and_stops(opened, service):
    service.on(PATH, stalled("so far"))
    ask(opened, "Hello")
    expect(log(opened)).to_contain_text("so far")
    button(opened, "Stop").click()
    expect(button(opened, "Send")).to_be_visible()
    expect(log(opened)).to_contain_text("so far")
    assert service.asked(PATH)[-1].gone.wait(2)


def test_escape_stops_it(opened, service):
    service.on(PATH, stalled("so far"))
    ask(opened, "Hello")
    expect(log(opened)).to_contain_text("so far")
    prompt(opened).press("Escape")
    expect(button(opened, "Send")).to_be_visible()


def test_a_cells_answer_streams_in_the_panel_too_and_is_stopped_there(opened, service):
    service.on(PATH, stalled("from the cell"))
    lab.run(opened, 3, wait=False)
    expect(log(opened)).to_contain_text("from the cell")
    button(opened, "Stop").click()
    expect(button(opened, "Send")).to_be_visible()


def test_keys_stay_in_the_panel(opened):
    cells = len(lab.sources(opened))
    prompt(opened).press_sequentially("dd a b x")
    prompt(opened).press("Shift+Enter")
    prompt(opened).press_sequentially("second line")
    assert prompt(opened).input_value() == "dd a b x\nsecond line"
    log(opened).press("d")
    log(opened).press("d")
    assert len(lab.sources(opened)) == cells
    prompt(opened).press("Enter")
    expect(log(opened)).to_contain_text("You said: dd a b x second line")
    prompt(opened).press("ArrowUp")
    assert prompt(opened).input_value() == "dd a b x\nsecond line"


def test_the_picker_filters_by_words_and_chooses_by_keys(opened, service):
    model = opened.get_by_role("combobox", name="Model")
    model.click()
    model.fill("rob fr")
    options = models(opened)
    expect(options).to_have_count(1)
    expect(options).to_contain_text("FrontEndAgent")
    model.fill("gpt luna op")
    expect(options).to_have_count(1)
    model.press("ArrowDown")
    model.press("Enter")
    expect(model).to_have_value("openai:gpt-6-luna")
    lab.run(opened, 3)
    assert service.asked(PATH)[-1].json["model"] == "gpt-6-luna"


def test_code_is_copied_and_becomes_a_cell(opened, service):
    service.on(PATH, OPENAI.whole("```python\nprint(6 * 7)\n```"))
    ask(opened, "Code, please")
    expect(log(opened)).to_contain_text("print(6 * 7)")
    button(opened, "Insert as a new cell").first.click()
    opened.wait_for_function(f"() => ({lab.SOURCES})().includes('print(6 * 7)')")
    assert lab.sources(opened).index("print(6 * 7)") == 2
    button(opened, "Copy code").first.click()
    expect(opened.get_by_role("status").first).to_be_attached()
    assert opened.evaluate("() => navigator.clipboard.readText()").strip() == "print(6 * 7)"


def test_code_loses_its_control_characters_on_the_way_into_a_cell(opened, service):
    service.on(PATH, OPENAI.whole("```python\nprint('a\u202eb\x1b[2J')\n```"))
    ask(opened, "Code, please")
    expect(button(opened, "Ask again")).to_be_visible()  # it has ended
    button(opened, "Insert as a new cell").first.click()
    opened.wait_for_function(f"() => ({lab.SOURCES})().some((one) => one.startsWith('print('))")
    assert "print('ab[2J')" in lab.sources(opened)
    expect(opened.get_by_role("status").first).to_contain_text("control characters")


def test_a_question_that_waits_goes_to_the_conversation_it_was_asked_in(opened, service):
    service.on(PATH, stalled("so far"))
    ask(opened, "first")
    expect(log(opened)).to_contain_text("so far")
    ask(opened, "second")
    button(opened, "Conversation actions").click()
    opened.get_by_role("menuitem", name="New conversation …").click()
    box = opened.get_by_role("textbox", name="Name of the new conversation")
    box.fill("other")
    box.press("Enter")
    expect(opened.get_by_role("combobox", name="Conversation")).to_have_value("other")
    expect(log(opened)).to_contain_text("Waits for default")
    opened.get_by_role("button", name="Take it back").click()
    assert prompt(opened).input_value() == "second"


def test_code_in_a_list_stays_whole(opened, service):
    code = "".join(f"   line_{number} = {number}\n" for number in range(600))
    service.on(
        PATH,
        slowly(
            f"1. Save this:\n\n   ```python\n{code}   ```\n\n2. Then **run** it.\n\nThe end.",
            size=400,
        ),
    )
    ask(opened, "Code, please")
    expect(log(opened)).to_contain_text("The end.")
    expect(log(opened).get_by_text("run", exact=True)).to_be_visible()
    button(opened, "Copy code").first.click()
    opened.wait_for_function(
        "() => navigator.clipboard.readText().then(text => text.includes('line_599') && text.includes('line_0'))"
    )


def test_a_turn_is_copied_asked_again_edited_and_dropped(opened, service):
    ask(opened, "Hello")
    expect(log(opened)).to_contain_text("You said: Hello")
    button(opened, "Copy answer").click()
    opened.wait_for_function(
        "() => navigator.clipboard.readText().then(text => text.includes('You said: Hello'))"
    )
    button(opened, "Edit the question").click()
    question = opened.get_by_role("textbox", name="Question")
    question.fill("Bye")
    question.press("Enter")
    expect(log(opened)).to_contain_text("You said: Bye")
    expect(log(opened)).not_to_contain_text("Hello")
    opened.evaluate("() => { document.querySelector('.ic-turn').dataset.old = 'yes' }")
    button(opened, "Ask again").click()
    expect(opened.locator(".ic-turn[data-old]")).to_have_count(0)
    opened.wait_for_function("() => !document.querySelector('.ic-panel [data-state=running]')")
    expect(log(opened).get_by_text("You said: Bye")).to_have_count(1)
    button(opened, "Drop this turn").click()
    expect(log(opened)).not_to_contain_text("Bye")
    assert [request.json["messages"][-1]["content"] for request in service.asked(PATH)[-3:]] == [
        "Hello",
        "Bye",
        "Bye",
    ]


def test_conversations_are_begun_renamed_and_switched(opened):
    ask(opened, "Hello")
    expect(log(opened)).to_contain_text("You said: Hello")
    chats = opened.get_by_role("combobox", name="Conversation")
    for item, label, name in [
        ("Fork …", "Name of the fork", "copy"),
        ("Rename …", "New name", "another"),
        ("New conversation …", "Name of the new conversation", "empty"),
    ]:
        button(opened, "Conversation actions").click()
        opened.get_by_role("menuitem", name=item).click()
        box = opened.get_by_role("textbox", name=label)
        box.fill(name)
        box.press("Enter")
        expect(chats).to_have_value(name)
    expect(log(opened)).not_to_contain_text("Hello")
    chats.select_option("another")
    expect(log(opened)).to_contain_text("You said: Hello")
    button(opened, "Conversation actions").click()
    opened.get_by_role("menuitem", name="Undo the last turn").click()
    expect(log(opened)).not_to_contain_text("Hello")


def test_system_prompt_parameters_and_files_go_along(opened, service):
    opened.locator(".ic-settings summary").click()
    opened.get_by_label("System prompt", exact=True).fill("Be brief.")
    opened.get_by_label("Temperature").fill("0.5")
    opened.get_by_label("Effort").select_option("low")
    opened.get_by_label("Effort").press("Escape")
    files = opened.locator(".ic-panel input[type=file]")
    files.set_input_files({"name": "a.csv", "mimeType": "text/csv", "buffer": b"x,y"})
    expect(opened.locator(".ic-panel")).to_contain_text("a.csv")
    ask(opened, "What is it?")
    expect(log(opened)).to_contain_text("You said: What is it?")
    body = service.requests[-1].json
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert [part["type"] for part in body["messages"][1]["content"]] == ["text", "text"]
    assert body["temperature"] == 0.5
    assert body["reasoning_effort"] == "low"


def test_the_picker_says_what_is_missing(opened):
    lab.write(
        opened, 2, "import os; del os.environ['OPENAI_API_KEY'], os.environ['OPENAI_BASE_URL']"
    )
    lab.run(opened, 2)
    opened.get_by_role("combobox", name="Model").click()
    group = opened.get_by_role("group", name="openai, no key: %chat_login openai")
    expect(group.get_by_role("option", name="gpt-6-luna")).to_be_attached()
    first = opened.get_by_role("listbox", name="Models").get_by_role("group").first
    expect(first).not_to_have_attribute("aria-label", re.compile("no key"))


def test_a_second_view_has_the_text_so_far(opened, service):
    service.on(PATH, stalled("so far"))
    ask(opened, "Hello")
    expect(log(opened)).to_contain_text("so far")
    lab.write(opened, 2, "import ipywidgets; ipywidgets.VBox([_])")
    button(opened, "Stop").click()
    expect(button(opened, "Send")).to_be_visible()
    lab.run(opened, 2)
    expect(log(opened)).to_have_count(2)
    expect(log(opened).nth(1)).to_contain_text("so far")


def test_a_reload_of_the_page_restores_it(opened):
    ask(opened, "Hello")
    expect(log(opened)).to_contain_text("You said: Hello")
    lab.reload(opened)
    expect(log(opened)).to_contain_text("You said: Hello")
    ask(opened, "again")
    expect(log(opened)).to_contain_text("You said: again")


def notebook_file(page):
    """The notebook as it is saved."""
    lab.save(page)
    return page.evaluate(
        "() => JSON.stringify(jupyterapp.shell.currentWidget.context.model.toJSON())"
    )


def test_what_comes_after_a_reload_is_in_the_saved_transcript_too(opened):
    ask(opened, "Hello")
    expect(log(opened)).to_contain_text("You said: Hello")
    lab.reload(opened)
    expect(log(opened)).to_contain_text("You said: Hello")
    ask(opened, "again")
    transcript = opened.locator(".ipychat-transcript")
    expect(transcript).to_contain_text("You said: again")
    expect(transcript).to_have_count(1)
    expect(transcript).to_be_hidden()
    assert "You said: again" in notebook_file(opened)


def test_a_reload_in_mid_answer_goes_on_with_it(opened, service):
    service.on(PATH, slowly(ANSWER, size=4, pause=0.05))
    ask(opened, "Hello")
    expect(log(opened)).to_contain_text("short")
    lab.reload(opened)
    expect(log(opened)).to_contain_text("most_common(10)")
    expect(button(opened, "Send")).to_be_visible()
    expect(opened.locator(".ipychat-transcript")).to_contain_text("most_common(10)")


def test_the_notebook_is_saved_from_within_the_panel(opened):
    ask(opened, "Hello")
    expect(log(opened)).to_contain_text("You said: Hello")
    dirty = "() => jupyterapp.shell.currentWidget.context.model.dirty"
    assert opened.evaluate(dirty)
    prompt(opened).press("Control+s")
    opened.wait_for_function("() => !jupyterapp.shell.currentWidget.context.model.dirty")


def test_a_script_for_the_shell_becomes_a_cell_that_runs_it(opened, service):
    service.on(PATH, OPENAI.whole("```bash\nls -l\n```"))
    ask(opened, "Code, please")
    expect(log(opened)).to_contain_text("ls -l")
    button(opened, "Insert as a new cell").first.click()
    opened.wait_for_function(f"() => ({lab.SOURCES})().includes('%%bash\\nls -l')")


def test_clearing_a_conversation_is_asked_twice(opened):
    ask(opened, "Hello")
    expect(log(opened)).to_contain_text("You said: Hello")
    button(opened, "Conversation actions").click()
    opened.get_by_role("menuitem", name="Clear …").click()
    expect(log(opened)).to_contain_text("You said: Hello")
    opened.get_by_role("menuitem", name="Take out the turn").click()
    expect(log(opened)).not_to_contain_text("Hello")


FIRST_DRAWN = """window.drawn = [];
new MutationObserver(() => {
  for (const turn of document.querySelectorAll(".ic-panel .ic-turns > .ic-turn")) {
    const question = turn.querySelector(".ic-words")?.textContent;
    const answer = turn.querySelector(".ic-answer li");
    if (answer && !window.drawn.includes(question)) window.drawn.push(question);
  }
}).observe(document, { childList: true, subtree: true });"""


def test_of_many_turns_the_newest_is_drawn_first(opened, service):
    service.on(PATH, OPENAI.whole("".join(f"{n}. **item** and `more`\n" for n in range(150))))
    lab.write(
        opened,
        2,
        "import ipychat\nfor n in range(20): _ = await ipychat.ask(f'question {n}', chat='default')",
    )
    lab.run(opened, 2)
    lab.save(opened)
    opened.add_init_script(FIRST_DRAWN)
    opened.reload()
    opened.wait_for_function("() => window.drawn?.length === 20")
    drawn = opened.evaluate("() => window.drawn")
    assert drawn.index("question 19") < drawn.index("question 0")
    lab.leave(opened)


def test_reopened_without_its_kernel_the_notebook_shows_the_transcript(opened, service):
    service.on(PATH, OPENAI.whole(HOSTILE + "The end."))
    ask(opened, "Hello")
    expect(log(opened)).to_contain_text("The end.")
    transcript = opened.locator(".ipychat-transcript")
    expect(transcript).to_contain_text("The end.")
    expect(transcript).to_be_hidden()
    lab.save(opened)
    opened.evaluate(
        "() => jupyterapp.shell.currentWidget.context.sessionContext.restartKernel().then(() => null)"
    )
    opened.reload()
    opened.wait_for_function(lab.IDLE)
    expect(transcript).to_be_visible()
    expect(opened.get_by_text("model not found")).to_be_hidden()
    assert opened.evaluate("() => window.hurt") is None
    lab.leave(opened)


def test_a_hostile_answer_runs_and_loads_nothing(opened, service):
    service.on(PATH, slowly(HOSTILE + "The end.", size=7, pause=0.002))
    ask(opened, HOSTILE)
    expect(log(opened)).to_contain_text("The end.")
    lab.run(opened, 3)
    opened.wait_for_timeout(300)
    assert opened.evaluate("() => window.hurt") is None
    assert (
        log(opened).locator("img, iframe, style, form, script, object, embed, base, link").count()
        == 0
    )
    for address in log(opened).locator("a[href]").evaluate_all("all => all.map(a => a.href)"):
        assert address.startswith(("http://", "https://", "mailto:"))
    lab.leave(opened)


def test_a_question_waits_visibly_while_the_kernel_is_busy(opened):
    lab.write(opened, 2, "import time; time.sleep(2)")
    lab.run(opened, 2, wait=False)
    opened.wait_for_timeout(200)
    ask(opened, "Hello")
    expect(opened.get_by_text("Waiting for the kernel")).to_be_visible()
    expect(log(opened)).to_contain_text("You said: Hello")
    expect(opened.get_by_text("Waiting for the kernel")).to_be_hidden()


def test_it_has_no_accessibility_violation_and_is_worth_looking_at(opened, service):
    service.on(PATH, slowly(ANSWER))
    ask(opened, "Count the words of a file, please.")
    expect(log(opened)).to_contain_text("short")
    lab.shoot(opened, "the panel, light, streaming")
    expect(button(opened, "Send")).to_be_visible()
    lab.shoot(opened, "the panel, light")
    assert violations(opened) == []
    opened.get_by_role("combobox", name="Model").click()
    expect(models(opened).first).to_be_visible()
    lab.shoot(opened, "the panel, light, picker")
    assert violations(opened) == []
    opened.get_by_role("combobox", name="Model").press("Escape")
    opened.set_viewport_size({"width": 720, "height": 1000})
    opened.wait_for_timeout(200)
    lab.shoot(opened, "the panel, light, narrow")
    lab.leave(opened)


def test_the_dark_theme_has_no_accessibility_violation(opened, service):
    opened.evaluate("() => jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'}).then(() => null)")  # fmt: skip
    service.on(PATH, slowly(ANSWER))
    ask(opened, "Count the words of a file, please.")
    expect(log(opened)).to_contain_text("the")
    expect(button(opened, "Send")).to_be_visible()
    opened.wait_for_timeout(500)
    lab.shoot(opened, "the panel, dark")
    found = violations(opened)
    opened.evaluate("() => jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Light'}).then(() => null)")  # fmt: skip
    assert found == []


def violations(page):
    found = Axe().run(page, context=".ic-panel").response["violations"]
    return [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]


def test_stop_and_the_first_word_come_in_time(opened, service):
    """Generous: `make bench` measures."""
    service.on(PATH, stalled("so far"))
    begin = time.monotonic()
    ask(opened, "Hello")
    expect(log(opened)).to_contain_text("so far")
    assert time.monotonic() - begin < 3
    begin = time.monotonic()
    prompt(opened).press("Escape")
    expect(button(opened, "Send")).to_be_visible()
    assert time.monotonic() - begin < 3


def test_a_question_after_a_long_answer_stays_in_sight(opened, service):
    service.on(PATH, OPENAI.whole("".join(f"{n}. **item**\n" for n in range(60)) + "\nThe end."))
    ask(opened, "first")
    expect(log(opened).get_by_text("The end.")).to_be_in_viewport()
    service.on(PATH, slowly("Word " * 30 + "done."))
    ask(opened, "second")
    expect(log(opened).get_by_text("done.")).to_be_in_viewport()
    expect(button(opened, "Jump to newest")).to_be_hidden()


def test_columns_are_aligned_and_lists_numbered_as_they_were_written(opened, service):
    service.on(PATH, OPENAI.whole("| a | b |\n|---|---:|\n| x | 1 |\n\n3. third\n4. fourth\n\nend"))
    ask(opened, "Hello")
    expect(log(opened).get_by_role("cell", name="1", exact=True)).to_have_css("text-align", "right")
    expect(log(opened).get_by_role("cell", name="x", exact=True)).to_have_css("text-align", "left")
    expect(log(opened).locator("ol")).to_have_js_property("start", 3)
