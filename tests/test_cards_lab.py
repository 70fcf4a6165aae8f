"""Tools that wait for the user, as cards in the cell or the panel that asked, in a real browser. Skipped without Chromium, but not in CI."""

import json
from importlib.resources import files

import pytest
from playwright.sync_api import expect

from tests import lab
from tests.acting import COMPLETIONS
from tests.loopback import Service, answer
from tests.protocols import completion
from tests.test_dock_lab import CONNECTED, OPEN, RESTART, SHOW, ask, log, prompt, side

pytestmark = pytest.mark.browser

AXE = files("axe_playwright_python") / "axe.min.js"
TOOLS = '''def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b

def execute(code: str, times: int = 1) -> str:
    """Execute code."""
    return f"executed {code}"

def draw() -> bytes:
    """Draw a picture."""
    return PIXEL

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63606060000000040001f61738550000000049454e44ae426082"
)
%load_ext ipychat'''
GRACE = 700
"""Milliseconds after which a key is meant for a card that has taken the focus itself."""
QUESTION = "%%chat --no-history --tools add --tools execute --tools draw\nDo it"
CODE = "import pandas as pd\n\nframe = pd.DataFrame({'a': [1, 2]})  # two rows\nframe.describe()"
HURT = "</pre><img src=x onerror='window.hurt = 1'><script>window.hurt = 2</script>"
ENTER = "i => { const nb = jupyterapp.shell.currentWidget.content; nb.activate(); nb.activeCellIndex = i; nb.deselectAll(); nb.mode = 'edit'; return null }"
THEME = "theme => jupyterapp.commands.execute('apputils:change-theme', {theme}).then(() => null)"
COLLAPSE = "() => { jupyterapp.shell.collapseLeft(); return null }"
HIDE = "() => { document.activeElement.blur(); jupyterapp.shell.collapseRight(); return null }"


@pytest.fixture(scope="module")
def service():
    service = Service()
    yield service
    service.close()


@pytest.fixture(scope="module")
def env(service):
    return {
        **service.env,
        "IPYCHAT_SERVERS": "off",
    }


@pytest.fixture(scope="module")
def jupyter(env, tmp_path_factory):
    with lab.running(tmp_path_factory.mktemp("lab"), env) as one:
        yield one


@pytest.fixture
def opened(jupyter, request):
    """A notebook with tools and two questions."""
    failed = request.session.testsfailed
    page = jupyter.turn_to(f"{request.node.name}.ipynb", TOOLS, QUESTION, QUESTION)
    page.evaluate(HIDE)
    load(page)
    yield page
    if request.session.testsfailed > failed:
        lab.shoot(page, f"failed-{request.node.name}")
    lab.leave(page)  # a notification, and what it leads to, belong to the page
    assert jupyter.left == [], "a request left this machine"


def load(page):
    lab.run(page, 0)
    page.wait_for_function(CONNECTED)


def script(service, *rounds):
    """Have the model answer with these rounds: calls, words before them, seconds to wait."""

    def respond(received):
        told = len(COMPLETIONS.results(received.json))
        at = 0
        while told > 0:
            told -= sum(isinstance(one, tuple) for one in rounds[at])
            at += 1
        if isinstance(said := rounds[at], str):
            return answer(*COMPLETIONS.say(said), content_type=COMPLETIONS.content_type)
        words = [completion({"content": one}) for one in said if isinstance(one, str)]
        calls = [one for one in said if isinstance(one, tuple)]
        pauses = [one for one in said if isinstance(one, float)]
        given = [(f"c{at}{i}", name, json.dumps(of)) for i, (name, of) in enumerate(calls)]
        pieces = [*words, *COMPLETIONS.call(given)]
        return [*pauses, *answer(*pieces, content_type=COMPLETIONS.content_type)]

    service.on(COMPLETIONS.path, respond)


def results(service):
    return COMPLETIONS.results(service.asked(COMPLETIONS.path)[-1].json)


def cell(page, index):
    return page.locator(".jp-Notebook:visible .jp-Cell").nth(index)


def card(within):
    return within.get_by_role("group", name="The model wants to run")


def button(within, name):
    return card(within).get_by_role("button", name=name, exact=True)


def summaries(within):
    return within.locator(".ic-step summary")


def begin(page, index=1):
    """Ask, and wait for the card in the cell."""
    lab.run(page, index, wait=False)
    asked = cell(page, index)
    card(asked).wait_for()
    return asked


def violations(page, selector):
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(AXE.read_text())
    ran = "selector => axe.run(selector).then(({violations}) => violations.map(one => `${one.id}: ${one.nodes[0].html}`))"
    return page.evaluate(ran, selector)


def test_once(opened, service):
    script(service, ["One.", ("add", {"a": 1, "b": 4})], "Done.")
    asked = begin(opened)
    expect(card(asked)).to_contain_text("Add two numbers. · It runs in this kernel.")
    expect(asked).to_contain_text("One.")
    button(asked, "Once").click()
    expect(asked).to_contain_text("Done.")
    expect(card(opened)).to_have_count(0)
    expect(summaries(asked)).to_have_text("add(a=1, b=4) · you allowed it")
    assert results(service) == ["5"]


def test_always_holds_for_the_next_call_and_after_a_restart(opened, service):
    script(service, [("add", {"a": 1})], ["Again.", ("add", {"a": 2})], "Done.")
    asked = begin(opened)
    button(asked, "Always").click()
    expect(asked).to_contain_text("Done.")
    expect(summaries(asked)).to_have_count(2)
    expect(summaries(asked).last).to_have_text("add(a=2) · always allowed")
    opened.evaluate(RESTART)
    load(opened)
    lab.run(opened, 2)
    expect(cell(opened, 2)).to_contain_text("Done.")
    expect(card(opened)).to_have_count(0)


def test_what_runs_is_edited(opened, service):
    script(service, [("execute", {"code": CODE, "times": 2})], "Done.")
    asked = begin(opened)
    button(asked, "Edit").click()
    lab.shoot(opened, "card-edited")
    assert violations(opened, ".ic-card") == []
    card(asked).get_by_role("textbox", name="Code").fill("1 + 1")
    arguments = card(asked).get_by_role("textbox", name="Arguments, as JSON")
    arguments.fill('{"times": "often"}')
    button(asked, "Run").click()
    expect(card(asked).get_by_role("alert")).to_contain_text("can't be run with these arguments")
    expect(arguments).to_have_value('{"times": "often"}')
    arguments.fill('{"times": 3}')
    button(asked, "Run").click()
    expect(asked).to_contain_text("Done.")
    expect(summaries(asked)).to_have_text("execute(1 + 1) · you changed it")
    assert "executed 1 + 1" in str(results(service))


def test_a_refusal_has_a_reason(opened, service):
    script(service, [("add", {"a": 1})], "Then not.")
    asked = begin(opened)
    button(asked, "Refuse").click()
    opened.keyboard.type("it is mine")
    opened.keyboard.press("Enter")
    expect(asked).to_contain_text("Then not.")
    expect(summaries(asked)).to_have_text("add(a=1) · refused: it is mine")
    assert "it is mine" in results(service)[0]


def test_by_keyboard_alone_while_an_editor_keeps_the_focus(opened, service):
    script(
        service,
        [("execute", {"code": "1"})],
        [("add", {"a": 1})],
        [("add", {"a": 2})],
        [("draw", {})],
        "Done.",
    )
    keys = opened.keyboard
    opened.evaluate(ENTER, 1)
    keys.press("Shift+Enter")
    card(cell(opened, 1)).wait_for()
    opened.evaluate(ENTER, 2)
    keys.type("yan")
    assert "yan" in lab.sources(opened)[2]
    expect(card(opened)).to_have_count(1)
    keys.press("Control+Alt+y")
    expect(card(opened)).to_be_focused()
    keys.press("e")
    expect(card(opened).get_by_role("textbox", name="Code")).to_be_focused()
    keys.press("Control+a")
    keys.type("2")
    keys.press("Tab")
    expect(button(opened, "Run")).to_be_focused()
    keys.press("Enter")
    expect(card(opened)).to_contain_text("Add two numbers.")
    expect(card(opened)).to_be_focused()
    keys.press("Enter")
    expect(button(opened, "Once")).to_be_enabled()
    opened.wait_for_timeout(GRACE)
    keys.press("y")
    expect(summaries(opened)).to_have_count(2)
    expect(card(opened)).to_be_focused()
    opened.wait_for_timeout(GRACE)
    keys.press("n")
    keys.type("because")
    keys.press("Enter")
    expect(summaries(opened)).to_have_count(3)
    expect(card(opened)).to_contain_text("Draw a picture.")
    expect(card(opened)).to_be_focused()
    opened.wait_for_timeout(GRACE)
    keys.press("a")
    expect(cell(opened, 1)).to_contain_text("Done.")
    expect(summaries(opened)).to_have_text(
        [
            "execute(2) · you changed it",
            "add(a=1) · you allowed it",
            "add(a=2) · refused: because",
            "draw() · always allowed",
        ]
    )


def test_a_card_outlives_a_reload(opened, service):
    script(service, ["Before.", ("add", {"a": 1})], [("add", {"a": 2})], "Done.")
    begin(opened)
    lab.save(opened)
    opened.reload()
    button(cell(opened, 1), "Once").click()
    expect(card(opened)).to_contain_text('"a": 2')
    button(cell(opened, 1), "Once").click()
    expect(card(opened)).to_have_count(0)
    lab.run(opened, 2, wait=False)
    button(cell(opened, 2), "Once").click()
    button(cell(opened, 2), "Once").click()
    expect(cell(opened, 2)).to_contain_text("Done.")


def test_another_tab_shows_it_too_and_the_first_decision_counts(opened, service):
    script(service, [("add", {"a": 1})], "Done.")
    begin(opened)
    lab.save(opened)
    path = opened.evaluate("() => jupyterapp.shell.currentWidget.context.path")
    other = opened.context.new_page()
    other.goto(f"{opened.url.partition('/lab')[0]}/lab/workspaces/other/tree/{path}")
    button(cell(other, 1), "Once").click()
    expect(card(other)).to_have_count(0)
    expect(card(opened)).to_have_count(0)
    expect(cell(opened, 1)).to_contain_text("Done.")
    other.close()


def test_a_card_far_away_is_found(opened, service):
    script(service, [1.0, ("add", {"a": 1})], "Done.")
    lab.run(opened, 1, wait=False)
    opened.evaluate(
        "() => { const nb = jupyterapp.shell.currentWidget.content; for (let i = 0; i < 60; i++) nb.model.sharedModel.addCell({cell_type: 'code', source: '1\\n2\\n3'}); return null }"
    )
    opened.evaluate(
        "() => jupyterapp.shell.currentWidget.content.scrollToItem(60).then(() => null)"
    )
    opened.get_by_role("button", name="Show", exact=True).click()
    expect(card(cell(opened, 1))).to_be_focused()
    expect(card(cell(opened, 1))).to_be_in_viewport()
    button(opened, "Once").click()
    expect(cell(opened, 1)).to_contain_text("Done.")


def test_two_notebooks_have_their_own(opened, jupyter, service):
    script(service, [("add", {"a": 1})], "Done here.")
    begin(opened)
    first = opened.evaluate("() => jupyterapp.shell.currentWidget.context.path")
    jupyter._write("other-notebook.ipynb", (TOOLS, QUESTION))
    opened.evaluate(OPEN, "other-notebook.ipynb")
    opened.wait_for_function(lab.IDLE)
    load(opened)
    expect(card(opened)).to_have_count(0)
    script(service, [("execute", {"code": "the other"})], "Done there.")
    begin(opened)
    expect(card(opened)).to_have_count(1)
    expect(opened.locator(".ic-card")).to_have_count(2)
    button(cell(opened, 1), "Refuse").click()
    opened.keyboard.press("Enter")
    expect(cell(opened, 1)).to_contain_text("Done there.")
    opened.evaluate(OPEN, first)
    expect(card(cell(opened, 1))).to_contain_text('"a": 1')
    script(service, [("add", {"a": 1})], "Done here.")
    button(cell(opened, 1), "Once").click()
    expect(cell(opened, 1)).to_contain_text("Done here.")


def test_a_card_goes_with_its_kernel_and_with_its_question(opened, service):
    script(service, [("add", {"a": 1})], "Done.")
    begin(opened)
    opened.evaluate(
        "() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.interrupt()"
    )
    expect(card(opened)).to_have_count(0)
    begin(opened, 2)
    opened.evaluate(RESTART)
    expect(card(opened)).to_have_count(0)


def test_hostile_words_run_nothing(opened, service):
    script(
        service,
        [
            (HURT, {}),
            ("execute", {"code": f"{HURT}\nx = 1 # \u202enot shown in another order", "times": 1}),
            ("add", {"a": 1}),
        ],
        HURT,
    )
    lab.write(opened, 0, TOOLS.replace("Execute code.", HURT.replace("'", "")))
    load(opened)
    asked = begin(opened)
    expect(card(asked)).to_contain_text("onerror")
    expect(card(asked)).to_contain_text("x = 1 # \\u202enot shown in another order")
    button(asked, "Edit").click()
    button(asked, "Cancel").click()
    button(asked, "Once").click()
    expect(card(asked)).to_contain_text('"a": 1')
    button(asked, "Refuse").click()
    opened.keyboard.type(HURT)
    opened.keyboard.press("Enter")
    expect(summaries(asked)).to_have_count(3)
    summaries(asked).nth(1).click()
    expect(asked).to_contain_text("executed </pre>")
    assert opened.evaluate("() => window.hurt") is None
    assert asked.locator("img[src='x'], script").count() == 0


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_a_card_and_steps_pass_axe(opened, service, theme):
    opened.evaluate(THEME, theme)
    opened.evaluate(COLLAPSE)
    name = theme.split()[-1].lower()
    script(
        service,
        ["Let me look at the data first.", ("execute", {"code": CODE, "times": 2})],
        [
            "That did not work, so **differently**:",
            ("add", {"a": "x"}),
            ("add", {"a": 1}),
            ("draw", {}),
        ],
        "There are two rows.",
    )
    asked = begin(opened)
    opened.wait_for_timeout(600)  # coloured when the page is idle
    lab.shoot(opened, f"card-{name}")
    assert violations(opened, ".ic-card") == []
    button(asked, "Once").click()
    expect(card(asked)).to_contain_text('"a": 1')
    button(asked, "Refuse").click()
    assert violations(opened, ".ic-card") == []
    opened.keyboard.type("not this one")
    opened.keyboard.press("Enter")
    expect(card(asked)).to_contain_text("Draw a picture.")
    button(asked, "Once").click()
    expect(asked).to_contain_text("There are two rows.")
    expect(asked.locator(".ic-step img")).to_be_visible()
    summaries(asked).first.click()
    opened.wait_for_timeout(600)
    lab.shoot(opened, f"steps-{name}")
    assert violations(opened, ".ic-cell") == []
    opened.evaluate(THEME, "JupyterLab Light")


def test_a_question_of_the_side_is_decided_at_the_side(opened, service):
    lab.write(opened, 2, '%config IPyChat.tools = ["add", "execute"]')
    lab.run(opened, 2)
    script(
        service,
        ["First *this*.", ("execute", {"code": CODE, "times": 2})],
        ["Then 🦜.", ("add", {"a": 1})],
        "Done.",
    )
    opened.evaluate(SHOW)
    ask(opened, "Do it")
    expect(card(side(opened))).to_contain_text("Execute code.")
    expect(card(opened)).to_have_count(1)
    expect(prompt(opened)).to_be_focused()
    opened.wait_for_timeout(600)
    lab.shoot(opened, "card-side")
    assert violations(opened, "#ipychat-dock") == []
    opened.keyboard.press("Shift+Tab")
    expect(button(side(opened), "Refuse")).to_be_focused()
    opened.wait_for_timeout(GRACE)
    opened.keyboard.press("y")
    expect(card(side(opened))).to_contain_text("Add two numbers.")
    button(side(opened), "Once").click()
    expect(log(opened)).to_contain_text("Done.")
    order = "() => [...document.querySelectorAll('#ipychat-dock .ic-answer > *')].map(one => one.matches('.ic-step') ? one.querySelector('summary').textContent.split('(')[0] : one.textContent.trim())"
    expected = ["First this.", "execute", "Then 🦜.", "add", "Done."]
    assert opened.evaluate(order) == expected
    lab.shoot(opened, "steps-side")
    lab.reload(opened)
    opened.wait_for_function(CONNECTED)
    opened.evaluate(SHOW)
    expect(log(opened)).to_contain_text("Done.")
    assert opened.evaluate(order) == expected


def test_a_notification_leads_to_a_side_that_is_hidden(opened, service):
    lab.write(opened, 2, '%config IPyChat.tools = ["add"]')
    lab.run(opened, 2)
    script(service, [0.5, ("add", {"a": 1})], "Done.")
    opened.evaluate(SHOW)
    ask(opened, "Do it")
    opened.evaluate(HIDE)
    told = opened.get_by_role("alert").filter(has_text="A model waits for your decision")
    expect(told).to_be_visible()
    lab.shoot(opened, "card-hidden")
    told.get_by_role("button", name="Show").click()
    expect(card(side(opened))).to_be_focused()
    button(side(opened), "Once").click()
    expect(log(opened)).to_contain_text("Done.")
    expect(told).to_have_count(0)


def test_a_notification_leads_to_a_notebook_behind_another(opened, jupyter, service):
    first = opened.evaluate("() => jupyterapp.shell.currentWidget.context.path")
    jupyter._write("in-front.ipynb", ("1",))
    script(service, [1.5, ("add", {"a": 1})], "Done.")
    lab.run(opened, 1, wait=False)
    opened.evaluate(OPEN, "in-front.ipynb")
    opened.get_by_role("button", name="Show", exact=True).click()
    expect(card(cell(opened, 1))).to_be_focused()
    assert opened.evaluate("() => jupyterapp.shell.currentWidget.context.path") == first
    button(opened, "Once").click()
    expect(cell(opened, 1)).to_contain_text("Done.")


def test_a_card_whose_cell_is_deleted_goes_to_the_side(opened, service):
    script(service, [("add", {"a": 1})], "Done.")
    begin(opened)
    opened.evaluate(
        "() => { jupyterapp.shell.currentWidget.content.model.sharedModel.deleteCell(1); return null }"
    )
    opened.get_by_role("button", name="Show", exact=True).click()
    button(side(opened), "Once").click()
    expect(opened.locator(".ic-card")).to_have_count(0)


def test_a_question_of_the_panel_in_an_output_is_decided_there(opened, service):
    lab.write(opened, 2, 'import ipychat\nipychat.panel(chat="below")')
    lab.run(opened, 2)
    lab.write(opened, 1, '%config IPyChat.tools = ["add"]')
    lab.run(opened, 1)
    script(service, [("add", {"a": 1})], "Done.")
    below = cell(opened, 2)
    below.get_by_role("textbox", name="Prompt").fill("Do it")
    below.get_by_role("textbox", name="Prompt").press("Enter")
    expect(card(below)).to_contain_text("Add two numbers.")
    expect(card(opened)).to_have_count(1)
    lab.shoot(opened, "card-panel")
    button(below, "Once").click()
    expect(below.get_by_role("log")).to_contain_text("Done.")
    expect(summaries(below)).to_have_text("add(a=1) · you allowed it")


def test_a_card_fits_a_narrow_page(jupyter, service):
    script(service, [("execute", {"code": CODE, "times": 2})], "Done.")
    page = jupyter.open("narrow.ipynb", TOOLS, QUESTION, width=400, height=700)
    page.evaluate(COLLAPSE)
    load(page)
    asked = begin(page)
    page.wait_for_timeout(600)
    lab.shoot(page, "card-narrow")
    wide = "() => [...document.querySelectorAll('.ic-card')].some(one => one.scrollWidth > one.clientWidth || one.getBoundingClientRect().right > innerWidth)"
    assert not page.evaluate(wide)
    button(asked, "Once").click()
    expect(asked).to_contain_text("Done.")
    lab.leave(page)


def test_notebook_7_shows_it_too(env, service, tmp_path_factory):
    script(service, [("add", {"a": 1})], "Done.")
    with lab.running(tmp_path_factory.mktemp("notebook"), env, lab.NOTEBOOK) as notebook:
        page = notebook.open("seven.ipynb", TOOLS, QUESTION)
        load(page)
        asked = begin(page)
        lab.shoot(page, "card-notebook")
        button(asked, "Once").click()
        expect(asked).to_contain_text("Done.")
        lab.leave(page)
