"""The panel at JupyterLab's side, and what the extension adds to cells. Skipped without Chromium, but not in CI."""

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
LOAD = "%load_ext ipychat"
SHOW = "() => jupyterapp.commands.execute('ipychat:show').then(() => null)"
OPEN = "name => jupyterapp.commands.execute('docmanager:open', {path: name}).then(() => null)"
RESTART = (
    "() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart().then(() => null)"
)
RECORD = "() => { window.sent = []; jupyterapp.shell.currentWidget.sessionContext.session.kernel.anyMessage.connect((_, {msg, direction}) => { if (direction === 'send') window.sent.push(msg.header.msg_type) }); return null }"
CONNECTED = "() => jupyterapp.shell.currentWidget.node.matches('.ipychat-loaded')"
ACTIVE = "() => jupyterapp.shell.currentWidget.content.activeCellIndex"
ACTIVATE = "i => { const nb = jupyterapp.shell.currentWidget.content; nb.activeCellIndex = i; return null }"
FIX = "A typo.\n\n```python\nvalue = 1 / 2\nvalue\n```"


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
    """A notebook in which ipychat is loaded, with the panel at the side."""
    service.on(PATH, echo)
    failed = request.session.testsfailed
    page = jupyter.turn_to(
        f"{request.node.name}.ipynb", LOAD, "x = [1, 2, 3]", "1 / 0", "%%chat\nHello"
    )
    lab.run(page, 0)
    page.wait_for_function(CONNECTED)
    page.evaluate(SHOW)
    prompt(page).wait_for()
    yield page
    if request.session.testsfailed > failed:
        lab.leave(page)
    assert jupyter.left == [], "a request left this machine"


def side(page):
    return page.locator("#ipychat-dock")


def prompt(page):
    return side(page).get_by_role("textbox", name="Prompt")


def log(page):
    return side(page).get_by_role("log")


def ask(page, text):
    prompt(page).fill(text)
    prompt(page).press("Enter")


def test_the_side_and_the_cells_share_one_conversation(opened, service):
    ask(opened, "From the side")
    expect(log(opened)).to_contain_text("You said: From the side")
    lab.run(opened, 3)
    expect(log(opened)).to_contain_text("You said: Hello")
    assert [m["content"] for m in sent(service)][::2] == ["From the side", "Hello"]


def test_it_says_what_to_type_where_ipychat_is_not_loaded_and_does_it(jupyter, service):
    service.on(PATH, echo)
    page = jupyter.turn_to("unloaded.ipynb", "x = 1")
    page.evaluate(SHOW)
    expect(side(page)).to_contain_text("%load_ext ipychat")
    side(page).get_by_role("button", name="Insert and run it").click()
    prompt(page).wait_for()
    assert LOAD in lab.sources(page)
    ask(page, "Hello")
    expect(log(page)).to_contain_text("You said: Hello")


def test_it_follows_three_notebooks_and_outlives_a_closed_one(opened, jupyter, service):
    ask(opened, "One")
    expect(log(opened)).to_contain_text("You said: One")
    for name in ("second", "third"):
        jupyter._write(f"{name}.ipynb", (LOAD,))
        opened.evaluate(OPEN, f"{name}.ipynb")
        opened.wait_for_function(lab.IDLE)
        lab.run(opened, 0)
        expect(log(opened)).not_to_contain_text("You said: One")
        ask(opened, name)
        expect(log(opened)).to_contain_text(f"You said: {name}")
    opened.evaluate(OPEN, "second.ipynb")
    expect(log(opened)).to_contain_text("You said: second")
    expect(log(opened)).not_to_contain_text("third")
    opened.evaluate("() => { jupyterapp.shell.currentWidget.dispose(); return null }")
    expect(log(opened)).not_to_contain_text("second")


def test_it_outlives_a_reload_and_a_restart(opened, service):
    ask(opened, "Before")
    expect(log(opened)).to_contain_text("You said: Before")
    lab.reload(opened)
    opened.wait_for_function(CONNECTED)
    opened.evaluate(SHOW)
    expect(log(opened)).to_contain_text("You said: Before")
    opened.evaluate(RESTART)
    expect(side(opened).get_by_role("alert")).to_contain_text(
        "The kernel no longer knows this panel"
    )
    expect(log(opened)).to_contain_text("You said: Before"), "it stays readable"
    side(opened).get_by_role("button", name="Run it again").click()
    expect(side(opened).get_by_role("alert")).to_be_hidden()
    ask(opened, "After")
    expect(log(opened)).to_contain_text("You said: After")


def test_only_a_kernel_that_knows_ipychat_is_asked_for_a_subshell(opened):
    """JupyterLab deletes that of a closed comm late, and may give it to the next one before."""
    opened.evaluate(RECORD)
    opened.evaluate(RESTART)
    expect(side(opened).get_by_role("alert")).to_contain_text("no longer knows this panel")
    lab.run(opened, 1)  # the kernel answers in turn
    asked = opened.evaluate("() => window.sent")
    assert asked.count("comm_open") == 2, "the widgets', and ours, which the kernel closes"
    assert asked.count("create_subshell_request") == 1, "the widgets'"
    side(opened).get_by_role("button", name="Run it again").click()
    opened.wait_for_function(
        "() => window.sent.filter(one => one === 'create_subshell_request').length === 2"
    )


def test_the_magic_shows_it(opened, service):
    opened.evaluate(
        "() => { document.activeElement.blur(); jupyterapp.shell.collapseRight(); return null }"
    )
    expect(side(opened)).to_be_hidden()
    lab.write(opened, 1, "%chat_panel --side --chat other")
    lab.run(opened, 1)
    expect(side(opened).get_by_role("combobox", name="Conversation")).to_have_value("other")


def test_code_lands_below_the_cell_that_is_worked_in(opened, service):
    service.on(PATH, OPENAI.whole("```python\ninserted = 1\n```"))
    ask(opened, "Code")
    insert = side(opened).get_by_role("button", name="Insert as a new cell")
    insert.wait_for()
    for count in range(20):
        at = count % 4
        opened.evaluate(ACTIVATE, at)
        insert.click()
        opened.wait_for_function(f"() => ({ACTIVE})() === {at + 1}")
        found = lab.sources(opened)
        assert found[at + 1] == "inserted = 1"
        assert found.count("inserted = 1") == count + 1


def test_an_error_is_explained_at_the_side_and_fixed_below(opened, service):
    lab.run(opened, 2)
    group = opened.get_by_role("group", name="Chat about this error")
    group.get_by_role("button", name="Explain").click()
    expect(log(opened)).to_contain_text("Explain this error")
    expect(log(opened)).to_contain_text("You said")
    [*_, question] = sent(service)
    texts = "".join(part["text"] for part in question["content"])
    assert "1 / 0" in texts
    assert "ZeroDivisionError: division by zero" in texts
    service.on(PATH, OPENAI.whole(FIX))
    group.get_by_role("button", name="Fix").click()
    opened.wait_for_function(f"() => ({lab.SOURCES})().includes('value = 1 / 2\\nvalue')")
    assert "%chat_fix" in lab.sources(opened)


def test_a_question_that_failed_offers_no_explanation(opened, service):
    lab.write(opened, 1, "%chat --nonsense x")
    lab.run(opened, 1)
    expect(opened.locator(".jp-OutputArea-output").first).to_contain_text("There is no flag")
    expect(opened.get_by_role("group", name="Chat about this error")).to_have_count(0)


def test_a_cell_is_asked_about_and_goes_along(opened, service):
    opened.evaluate(ACTIVATE, 1)
    opened.evaluate("() => jupyterapp.commands.execute('ipychat:ask-about-cell').then(() => null)")
    expect(side(opened).locator(".ic-composer .ic-chip")).to_contain_text("cell 2")
    opened.keyboard.type("What is it?")
    opened.keyboard.press("Enter")
    expect(log(opened)).to_contain_text("You said")
    [*_, question] = sent(service)
    assert [part["text"] for part in question["content"]] == [
        "Cell:\n```python\nx = [1, 2, 3]\n```",
        "What is it?",
    ]
    expect(log(opened).locator(".ic-question")).to_contain_text("x = [1, 2, 3]")


def test_variables_and_files_go_along_by_their_names(opened, jupyter, service):
    (jupyter.root / "work" / "notes.txt").write_text("a note")
    lab.run(opened, 1)
    prompt(opened).click()
    opened.keyboard.type("Look at @x")
    option = side(opened).get_by_role("option", name=re.compile(r"^x\b"))
    expect(option).to_contain_text("list of 3")
    opened.keyboard.press("Enter")
    chip = side(opened).locator(".ic-composer .ic-chip")
    expect(chip).to_contain_text("characters")
    opened.keyboard.type("and @notes")
    side(opened).get_by_role("option", name=re.compile("notes.txt")).wait_for()
    opened.keyboard.press("Tab")
    opened.keyboard.press("Enter")
    expect(log(opened)).to_contain_text("You said")
    texts = [part["text"] for part in sent(service)[-1]["content"]]
    assert texts[0].startswith("x: list")
    assert "a note" in texts[1]
    assert texts[2] == "Look at @x and @file:notes.txt"


def test_braces_are_said_to_be_no_way_to_values_here(opened):
    prompt(opened).fill("What is {{x}}?")
    expect(side(opened).locator(".ic-hint")).to_contain_text("Values go along by @name here")


def test_an_answer_that_was_cut_off_is_continued(opened, service):
    service.on(PATH, [head(), chunk(OPENAI.text("one two")), chunk(OPENAI.finish("length")), END])
    ask(opened, "Count")
    expect(log(opened)).to_contain_text("cut off at the length limit")
    service.on(PATH, OPENAI.whole("three"))
    side(opened).get_by_role("button", name="Continue the answer").click()
    expect(log(opened)).to_contain_text("three")
    expect(side(opened).get_by_role("button", name="Continue the answer")).to_have_count(0)


def test_a_cells_answer_that_was_cut_off_is_continued_below(opened, service):
    service.on(PATH, [head(), chunk(OPENAI.text("one two")), chunk(OPENAI.finish("length")), END])
    lab.run(opened, 3)
    service.on(PATH, OPENAI.whole("three"))
    notebook = opened.locator(".jp-Notebook")
    notebook.get_by_role("button", name="Continue the answer").click()
    expect(opened.locator(".jp-Notebook .jp-Cell").nth(4)).to_contain_text("three")
    assert lab.sources(opened)[4] == "%chat_continue"
    expect(notebook.get_by_role("button", name="Continue the answer")).to_have_count(0)


def test_an_answer_of_a_race_is_kept(opened, service):
    service.on(PATH, lambda received: OPENAI.whole(f"From {received.json['model']}"))
    lab.write(opened, 3, "%chat --model openai:a --model openai:b Who?")
    lab.run(opened, 3)
    opened.get_by_role("button", name="Keep answer 2").click()
    expect(opened.locator(".jp-Notebook .jp-Cell").nth(4)).to_contain_text("now continues from")
    expect(log(opened)).to_contain_text("From b")


def test_a_title_is_set_words_are_found_and_a_page_is_kept(opened, service):
    ask(opened, "What is a parrot?")
    expect(log(opened)).to_contain_text("You said")
    conversation = side(opened).get_by_role("combobox", name="Conversation")
    expect(conversation).to_have_attribute("title", "default · What is a parrot?")
    menu = side(opened).get_by_role("button", name="Conversation actions")
    menu.click()
    side(opened).get_by_role("menuitem", name="Title").click()
    opened.keyboard.type("Birds")
    opened.keyboard.press("Enter")
    expect(conversation).to_have_attribute("title", "default · Birds")
    menu.click()
    side(opened).get_by_role("menuitem", name="Search").click()
    opened.keyboard.type("parrot")
    found = side(opened).get_by_role("list", name="Turns found").get_by_role("button")
    expect(found).to_contain_text("What is a parrot?")
    opened.keyboard.press("Enter")
    expect(side(opened).locator(".ic-turn")).to_be_focused()
    menu.click()
    with opened.expect_download() as kept:
        side(opened).get_by_role("menuitem", name="Export as a page").click()
    assert kept.value.suggested_filename == "default.html"
    assert "<h1>Birds</h1>" in kept.value.path().read_text()


def test_a_question_cell_is_prose(opened):
    lab.write(opened, 3, "%%chat --no-history -m m\nimport this for {{x}} and @x, def?")
    cell = opened.locator(".jp-Notebook .jp-Cell").nth(3)
    expect(cell.locator(".ipychat-flag")).to_have_text(["--no-history", "-m"])
    expect(cell.locator(".ipychat-expression")).to_have_text("{{x}}")
    expect(cell.locator(".ipychat-mention")).to_have_text("@x")
    colours = "line => [...new Set([line, ...line.querySelectorAll('*')].map(el => getComputedStyle(el).color))]"
    assert len(cell.locator(".cm-line").nth(1).evaluate(colours)) == 1
    lab.write(opened, 3, "import this")
    expect(cell.locator(".ipychat-prose")).to_have_count(0)
    assert len(cell.locator(".cm-line").first.evaluate(colours)) > 1


def test_from_an_empty_notebook_to_a_fixed_cell_by_keyboard_alone(jupyter, service):
    service.on(PATH, OPENAI.whole(FIX))
    page = jupyter.turn_to("keyboard.ipynb", "")
    keys = page.keyboard
    page.evaluate("() => { jupyterapp.shell.currentWidget.content.activate(); return null }")
    keys.press("Enter")
    keys.type(LOAD)
    keys.press("Shift+Enter")
    page.wait_for_function(CONNECTED)
    keys.type("value = 1 / 0")
    keys.press("Control+Enter")
    page.get_by_role("group", name="Chat about this error").wait_for()
    keys.press("Control+Alt+e")
    expect(prompt(page)).to_be_focused()
    expect(log(page)).to_contain_text("A typo.")
    lab.shoot(page, "side-explained")
    keys.press("Escape")
    keys.press("Control+Alt+f")
    page.wait_for_function(f"() => ({lab.SOURCES})().includes('value = 1 / 2\\nvalue')")
    page.wait_for_function(
        "() => jupyterapp.shell.currentWidget.content.activeCell.model.sharedModel.getSource().startsWith('value = 1 / 2')"
    )
    keys.press("Shift+Enter")
    expect(page.locator(".jp-OutputArea-executeResult")).to_contain_text("0.5")


@pytest.mark.parametrize(
    "theme", ["JupyterLab Light", "JupyterLab Dark", "JupyterLab Dark High Contrast"]
)
def test_it_has_no_violation_of_accessibility(opened, service, theme):
    ask(opened, "Hello")
    expect(log(opened)).to_contain_text("You said: Hello")
    lab.run(opened, 2)
    opened.evaluate(
        "theme => jupyterapp.commands.execute('apputils:change-theme', {theme}).then(() => null)",
        theme,
    )
    prompt(opened).click()
    opened.keyboard.type("@x")
    opened.wait_for_timeout(500)
    lab.shoot(opened, f"side-{theme.replace(' ', '-').lower()}")
    results = Axe().run(opened, context="#ipychat-dock")
    assert results.violations_count == 0, results.generate_report()
    prompt(opened).press("Escape")
    prompt(opened).fill("")
    opened.evaluate(
        "() => jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Light'}).then(() => null)"
    )


def test_it_waits_and_streams_and_fails_in_sight(opened, service):
    service.on(PATH, [head(), HANG])
    ask(opened, "Hello")
    expect(log(opened)).to_contain_text("Hello")
    lab.shoot(opened, "side-waiting")
    prompt(opened).press("Escape")
    expect(side(opened).get_by_role("button", name="Send")).to_be_visible()
    service.on(
        PATH, [head(), chunk(OPENAI.text("# So far\n\nSome **text** and\n\n```python\nx = ")), HANG]
    )
    ask(opened, "Go on")
    expect(log(opened)).to_contain_text("So far")
    lab.shoot(opened, "side-streaming")
    prompt(opened).press("Escape")


# -- how fast it is


TURNS = """
import asyncio, ipychat
async def fill():
    for number in range(200):
        await ipychat.ask(f"Question {number}", chat="default")
await fill()
"""
OPENED = """() => new Promise(done => {
  jupyterapp.shell.collapseRight();
  requestAnimationFrame(() => {
    const began = performance.now();
    jupyterapp.commands.execute('ipychat:show');
    const look = () => {
      const turns = [...document.querySelectorAll('#ipychat-dock .ic-turns > .ic-turn')];
      const last = turns.at(-1)?.querySelector('.ic-answer')?.textContent;
      if (turns.length === 200 && last?.includes('199')) requestAnimationFrame(() => done(performance.now() - began));
      else requestAnimationFrame(look);
    };
    look();
  });
})"""
FIRST = """question => new Promise(done => {
  const area = document.querySelector('#ipychat-dock .ic-prompt');
  area.value = question;
  const turns = () => [...document.querySelectorAll('#ipychat-dock .ic-turns > .ic-turn')];
  const before = turns().length;
  const look = () => {
    const [last] = turns().slice(-1);
    if (turns().length > before && last.querySelector('.ic-answer').textContent) done(Date.now());
    else requestAnimationFrame(look);
  };
  area.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', bubbles: true}));
  look();
})"""
IDLE = "() => document.querySelector('#ipychat-dock .ic-send').title === 'Send'"
FRAMES = """() => new Promise(done => {
  const frames = [];
  let last = performance.now();
  const step = now => {
    frames.push(now - last);
    last = now;
    if (document.querySelector('#ipychat-dock .ic-send').title === 'Send' && frames.length > 60) done(frames);
    else requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
})"""


@pytest.mark.slow("two hundred turns, opened twenty times")
def test_it_opens_at_once_with_two_hundred_turns(opened, service):
    lab.write(opened, 1, TURNS)
    lab.run(opened, 1)
    expect(log(opened)).to_contain_text("Question 199")
    took = sorted(opened.evaluate(OPENED) for _ in range(20))
    print("opened in ms:", [round(one) for one in took])
    assert took[10] <= 300
    lab.reload(opened)
    opened.wait_for_function(CONNECTED)
    anew = opened.evaluate(OPENED)
    print(f"after a reload: {anew:.0f} ms")
    lab.leave(opened)  # the page would bring this notebook to the front again


@pytest.mark.slow("twenty answers, then one of a hundred kilobytes")
def test_the_first_word_comes_at_once_and_a_long_answer_drops_no_frames(opened, service):
    left = []

    def noted(received):
        left.append(time.time() * 1000)
        return echo(received)

    service.on(PATH, noted)
    drawn = []
    for number in range(20):
        opened.wait_for_function(IDLE)
        drawn.append(opened.evaluate(FIRST, f"Question {number}"))
    took = sorted(then - begin for begin, then in zip(left, drawn, strict=True))
    print("first word, drawn after it left, in ms:", [round(one) for one in took])
    assert took[10] <= 80
    text = "".join(
        f"## Part {part}\n\n" + "Some words of it. " * 40 + "\n\n```python\nx = 1\n```\n\n"
        for part in range(130)
    )
    pieces = [text[at : at + 200] for at in range(0, len(text), 200)]
    steps = [step for piece in pieces for step in (chunk(OPENAI.text(piece)), 0.01)]
    service.on(PATH, [head(), *steps, chunk(OPENAI.finish()), END])
    ask(opened, "A long one")
    frames = opened.evaluate(FRAMES)
    slow = sum(frame > 50 for frame in frames)
    print(f"{len(text):,} characters: {slow} of {len(frames)} frames over 50 ms")
    assert slow <= 0.02 * len(frames)
