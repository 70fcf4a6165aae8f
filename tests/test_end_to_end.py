"""What a user does from the first notebook to the reopened one, in JupyterLab and in Notebook 7.

Each test is a journey; what it saw last is kept as a picture in `tests/screenshots`. Skipped
without Chromium, but not in CI.
"""

import threading
from pathlib import Path
from textwrap import dedent

import nbformat
import pytest
from playwright.sync_api import expect

from ipychat.display.cell import STRANDED
from tests import lab, small_model
from tests.loopback import END, HANG, Service, chunk, head
from tests.test_magics import OPENAI, PATH, echo, sent
from tests.test_panel_lab import HOSTILE, log, prompt

FRONTS = {"JupyterLab": lab.JUPYTERLAB, "Notebook 7": lab.NOTEBOOK}
QUICKSTART = Path(__file__).parents[1] / "notebooks" / "quickstart.ipynb"
README = Path(__file__).parents[1] / "README.md"
LOAD, PANEL = "%load_ext ipychat", "%chat_panel"
ALL_RAN = "() => [...jupyterapp.shell.currentWidget.content.model.cells].every(cell => cell.type !== 'code' || cell.executionCount)"
TRUSTED = "() => [...jupyterapp.shell.currentWidget.content.model.cells].every(cell => cell.type !== 'code' || cell.trusted)"
HURT = "() => window.hurt"
ACTIVE = "img, iframe, form, script, object, embed, base, link, svg:not(.ic-icon), math, details"
SETTLED = """() => new Promise(done => {
  const image = new Image()
  image.onerror = () => requestAnimationFrame(() => requestAnimationFrame(() => done(null)))
  image.src = "/is-not-there.png"
})"""
"""What was loaded before this has been loaded, too, and its handlers have run."""

ASK = "%chat -m work:m Hello"
RESTART = (
    "() => jupyterapp.shell.currentWidget.context.sessionContext.restartKernel().then(() => null)"
)


@pytest.fixture(scope="module")
def service():
    service = Service()
    yield service
    service.close()


@pytest.fixture(scope="module", params=FRONTS)
def jupyter(request, tmp_path_factory):
    """A machine without a key and a model; what is asked of one is asked of the endpoint `work`."""
    with lab.running(tmp_path_factory.mktemp("lab"), front=FRONTS[request.param]) as one:
        one.name = request.param
        yield one


@pytest.fixture
def opened(jupyter, request):
    """What is opened is closed at the end, with a picture; nothing may have left the machine."""
    pages = []

    def keep(page):
        pages.append(page)
        return page

    yield keep
    journey = request.node.originalname.removeprefix("test_").replace("_", " ")
    for page in pages:
        if not page.is_closed():
            lab.shoot(page, f"{jupyter.name}/{journey}")
        lab.leave(page)
    assert jupyter.left == [], "a request left this machine"


def endpoint(service):
    return f'%config IPyChat.endpoints = {{"work": "{service.url}"}}'


def cell(page, number):
    return page.locator(".jp-NotebookPanel:visible .jp-Cell").nth(number)


def answer(page, number):
    """All outputs: one that is painted while it comes may have stood in several."""
    return cell(page, number).locator(".jp-Cell-outputArea")


def type_cell(page, source):
    """Type a cell where the cursor is, and run it as a user does."""
    for number, line in enumerate(source.splitlines()):
        if number:
            page.keyboard.press("Enter")
        page.keyboard.type(line)
    page.keyboard.press("Shift+Enter")


def held(first, rest):
    """An answer whose rest comes once it is let go."""
    go = threading.Event()

    def script(_):
        yield head()
        yield chunk(OPENAI.text(first))
        while not go.is_set():
            yield 0.02
        yield chunk(OPENAI.text(rest))
        yield chunk(OPENAI.finish())
        yield END

    return script, go


def kinds(book):
    """What each cell shows, by kind and error; what was painted in parts leaves some empty."""
    shown = [
        [out for out in one.get("outputs", []) if out.get("data") != {"text/plain": ""}]
        for one in book.cells
    ]
    return [[(out.output_type, out.get("ename")) for out in outputs] for outputs in shown]


@pytest.fixture
def model(jupyter):
    """What answers then where no model is named: the small one that `make demo` brings."""
    if not (jupyter.root / "home" / "models").exists():
        small_model.install(jupyter.root / "home", small_model.fetch())
    return "135 million parameters"


def test_the_quickstart_runs_from_top_to_bottom(jupyter, opened, model):
    bare = nbformat.read(QUICKSTART, 4)
    for one in bare.cells:
        if one.cell_type == "code":
            one.outputs, one.execution_count = [], None
    nbformat.write(bare, jupyter.path("quickstart.ipynb"))
    page = opened(jupyter.open("quickstart.ipynb"))
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_function(ALL_RAN, timeout=240_000)
    page.wait_for_function(lab.IDLE, timeout=240_000)
    lab.save(page)
    ran = nbformat.read(jupyter.path("quickstart.ipynb"), 4)
    assert kinds(ran) == kinds(nbformat.read(QUICKSTART, 4))
    [first, *_] = [n for n, one in enumerate(ran.cells) if one.source.startswith("%%chat\n")]
    cell(page, first).scroll_into_view_if_needed()
    expect(answer(page, first)).to_contain_text(model)


def test_the_first_cells_of_the_readme_are_answered(jupyter, opened, model):
    section = README.read_text().partition("\n## First cells\n")[2].partition("\n**")[0]
    load, ask, panel = dedent(section).strip().split("\n\n")
    page = opened(jupyter.open("readme.ipynb", ""))
    cell(page, 0).locator(".cm-content").click()
    for source in (load, ask, panel):
        type_cell(page, source)
    expect(answer(page, 1)).to_contain_text(model, timeout=60_000)
    expect(log(page)).to_contain_text(ask.splitlines()[-1])
    expect(log(page)).to_contain_text(model)


def test_a_cell_typed_by_hand_streams_and_the_panel_shows_it(jupyter, opened, service):
    page = opened(jupyter.open("typed by hand.ipynb", ""))
    cell(page, 0).locator(".cm-content").click()
    type_cell(page, LOAD)
    type_cell(page, endpoint(service))
    script, go = held("It scatters ", "**blue** most.")
    service.on(PATH, script)
    type_cell(page, "%chat_use work:m")
    type_cell(page, "%%chat\nWhy is the sky blue?")
    expect(answer(page, 3)).to_contain_text("It scatters")
    expect(cell(page, 3).locator(".jp-InputPrompt")).to_have_text("[*]:")
    go.set()
    expect(answer(page, 3)).to_contain_text("It scatters blue most.")
    expect(cell(page, 3).locator(".jp-InputPrompt")).to_have_text("[4]:")
    expect(answer(page, 3).locator("strong")).to_have_text("blue")
    type_cell(page, PANEL)
    expect(log(page)).to_contain_text("Why is the sky blue?")
    expect(log(page)).to_contain_text("It scatters blue most.")
    service.on(PATH, echo)
    prompt(page).fill("And at sunset?")
    prompt(page).press("Enter")
    expect(log(page)).to_contain_text("You said: And at sunset?")
    assert [message["content"].strip() for message in sent(service)] == [
        "Why is the sky blue?",
        "It scatters **blue** most.",
        "And at sunset?",
    ]


def test_the_stop_button_keeps_what_came_and_says_so(jupyter, opened, service):
    begin = f"{LOAD}\n{endpoint(service)}"
    page = opened(
        jupyter.open("stopped.ipynb", begin, "%chat -m work:m Hello", "%chat -m work:m again")
    )
    lab.run(page, 0)
    service.on(PATH, [head(), chunk(OPENAI.text("what came so far")), HANG])
    lab.run(page, 1, wait=False)
    expect(answer(page, 1)).to_contain_text("what came so far")
    page.get_by_role("button", name="Interrupt the kernel").click()
    expect(cell(page, 1)).to_contain_text("Interrupted; what came is kept.")
    expect(answer(page, 1).first).to_contain_text("what came so far")
    assert service.asked(PATH)[-1].gone.wait(10)
    service.on(PATH, echo)
    lab.run(page, 2)
    expect(answer(page, 2)).to_contain_text("You said: again")


def test_an_answer_whose_kernel_is_restarted_says_so_and_one_that_comes_does_not(
    jupyter, opened, service
):
    page = opened(jupyter.open("restarted.ipynb", f"{LOAD}\n{endpoint(service)}", ASK))
    lab.run(page, 0)
    service.on(PATH, [head(), chunk(OPENAI.text("what came so far")), HANG])
    lab.run(page, 1, wait=False)
    expect(answer(page, 1)).to_contain_text("what came so far")
    stranded = answer(page, 1).get_by_text(STRANDED)
    for seconds in (5, 6, 7):
        expect(answer(page, 1)).to_contain_text(f"{seconds} s")
        assert stranded.evaluate("it => getComputedStyle(it).visibility") == "hidden"
    page.evaluate(RESTART)
    expect(stranded).to_be_visible()
    lab.save(page)
    assert STRANDED in jupyter.path("restarted.ipynb").read_text()


def test_a_hostile_answer_is_harmless_when_the_notebook_is_opened_elsewhere(
    jupyter, opened, service
):
    name = "hostile.ipynb"
    page = opened(
        jupyter.open(name, f"{LOAD}\n{endpoint(service)}", "%chat -m work:m Hello", PANEL)
    )
    service.on(PATH, OPENAI.whole(HOSTILE + "The end."))
    for number in range(3):
        lab.run(page, number)
    expect(answer(page, 1)).to_contain_text("The end.")
    expect(log(page)).to_contain_text("The end.")
    expect(page.locator(".ipychat-transcript")).to_contain_text("The end.")
    assert page.evaluate(HURT) is None
    lab.save(page)
    page.close()

    page = opened(jupyter.show(elsewhere(jupyter, name)))
    page.get_by_role("dialog").get_by_role("button", name="No Kernel").click()
    expect(answer(page, 1)).to_contain_text("The end.")
    transcript = page.locator(".ipychat-transcript")
    expect(transcript).to_be_visible()
    expect(transcript).to_contain_text("The end.")
    assert not page.evaluate(TRUSTED)
    page.evaluate(SETTLED)
    assert page.evaluate(HURT) is None
    trust(page)
    for shown in (answer(page, 1).locator(".jp-OutputArea-output").first, transcript):
        expect(shown).to_contain_text("The end.")
        assert shown.locator(ACTIVE).count() == 0
        for address in shown.locator("a").evaluate_all("all => all.map(a => a.href)"):
            assert address.startswith("https://evil.example/")
    page.evaluate(SETTLED)
    assert page.evaluate(HURT) is None


def test_such_an_answer_bare_is_not_harmless_once_it_is_trusted(jupyter, opened):
    """That the journey above would see it."""
    bare = nbformat.v4.new_output("display_data", {"text/html": HOSTILE})
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=[bare])])
    nbformat.write(book, jupyter.path("bare.ipynb"))
    page = opened(jupyter.show(elsewhere(jupyter, "bare.ipynb")))
    page.get_by_role("dialog").get_by_role("button", name="No Kernel").click()
    expect(answer(page, 0)).to_be_attached()
    assert page.evaluate(HURT) is None
    trust(page)
    page.wait_for_function("() => window.hurt === 1")
    page.close()
    assert "https://evil.example/1" in jupyter.left
    jupyter.left.clear()


def elsewhere(jupyter, name):
    """The notebook as another machine has it, on which its kernel isn't installed."""
    book = nbformat.read(jupyter.path(name), 4)
    book.metadata = {"kernelspec": {"name": "elsewhere", "display_name": "Elsewhere"}}
    nbformat.write(book, jupyter.path(f"elsewhere, {name}"))
    return f"elsewhere, {name}"


def trust(page):
    page.evaluate("() => { jupyterapp.commands.execute('notebook:trust') }")
    page.get_by_role("dialog").locator(".jp-mod-accept").click()
    page.wait_for_function(TRUSTED)
