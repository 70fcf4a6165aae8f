"""Answers in cells, drawn by the front end's extension and without it, in a real browser."""

import statistics
from importlib.resources import files

import nbformat
import pytest
from playwright.sync_api import expect

from ipychat.display.answer import MIME, notices, payload, reasoning, text
from ipychat.text.markup import to_html
from tests import answers, lab
from tests.loopback import END, HANG, Service, chunk, head
from tests.test_end_to_end import ACTIVE, HURT, LOAD, SETTLED, answer, endpoint
from tests.test_magics import OPENAI, PATH
from tests.test_panel_lab import HOSTILE

pytestmark = pytest.mark.browser

FRONTS = {"JupyterLab": lab.JUPYTERLAB, "Notebook 7": lab.NOTEBOOK}
ASK = "%chat -m work:m Hello"
AXE = files("axe_playwright_python") / "axe.min.js"
THEMES = ("JupyterLab Light", "JupyterLab Dark", "JupyterLab Dark High Contrast")
WATCH = """() => {
  window.heights = []
  const look = () => {
    const area = document.querySelectorAll(".jp-NotebookPanel .jp-Cell")[1]?.querySelector(".jp-Cell-outputArea")
    if (area) window.heights.push(area.getBoundingClientRect().height)
    window.looking = requestAnimationFrame(look)
  }
  look()
}"""
LIFE = """i => new Promise(done => {
  const nb = jupyterapp.shell.currentWidget.content
  nb.activeCellIndex = i
  nb.deselectAll()
  const begun = performance.now()
  const area = document.querySelectorAll(".jp-NotebookPanel .jp-Cell")[i].querySelector(".jp-Cell-outputArea")
  new MutationObserver((_, observer) => {
    if (!area.textContent.includes("interrupt the kernel")) return
    observer.disconnect()
    done(performance.now() - begun)
  }).observe(area, {childList: true, subtree: true, characterData: true})
  area.replaceChildren()
  window.ran = jupyterapp.commands.execute("notebook:run-cell")
})"""
WIDER = "() => [...document.querySelectorAll('.ic-cell')].filter(one => one.scrollWidth > one.clientWidth).length"


@pytest.fixture(scope="module")
def service():
    service = Service()
    yield service
    service.close()


@pytest.fixture(scope="module", params=FRONTS)
def front(request, tmp_path_factory):
    with lab.running(tmp_path_factory.mktemp("lab"), front=FRONTS[request.param]) as one:
        yield one


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory):
    with lab.running(tmp_path_factory.mktemp("lab")) as one:
        yield one


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """JupyterLab where the extension is switched off."""
    with lab.running(tmp_path_factory.mktemp("lab"), without=["jupyter-ipychat"]) as one:
        yield one


def write(jupyter, name, *bundles):
    """A notebook whose cells have these outputs, as another machine has left it."""
    cells = [
        nbformat.v4.new_code_cell("x", outputs=[nbformat.v4.new_output("display_data", data)])
        for data in bundles
    ]
    book = nbformat.v4.new_notebook(cells=cells)
    book.metadata = {"kernelspec": {"name": "elsewhere", "display_name": "Elsewhere"}}
    nbformat.write(book, jupyter.path(name))
    page = jupyter.show(name)
    page.get_by_role("dialog").get_by_role("button", name="No Kernel").click()
    return page


def bundle(words):
    parts = [*notices(["Says ipychat."]), reasoning("Let me *see*.", seconds=2.5), text(words)]
    form = payload("done", parts, footer={"model": "work:m", "seconds": 1.5, "tokens": [3, 5]})
    return {MIME: form, "text/html": to_html(words, final=True), "text/plain": words}


def slowly(words, size=40, pause=0.02):
    def script(_):
        yield head()
        for at in range(0, len(words), size):
            yield chunk(OPENAI.text(words[at : at + size]))
            yield pause
        yield chunk(OPENAI.finish())
        yield END

    return script


def test_an_answer_is_drawn_while_it_comes_and_stays_as_it_was(front, service):
    page = front.open("drawn.ipynb", f"{LOAD}\n{endpoint(service)}", ASK)
    lab.run(page, 0)
    service.on(PATH, slowly("# Title\n\nSome $x^2$.\n\n```python\nx = 1\n```\n\nThe end.\n"))
    lab.run(page, 1)
    shown = answer(page, 1).locator(".ic-cell")
    expect(shown).to_have_count(1)
    expect(shown).to_have_attribute("data-state", "done")
    expect(shown.locator(".katex")).to_have_count(1)
    expect(shown.locator(".ic-facts")).to_contain_text("work:m")
    expect(answer(page, 1).get_by_text("The end.")).to_be_visible()
    lab.save(page)
    [first, *others] = nbformat.read(front.path("drawn.ipynb"), 4).cells[1].outputs
    assert first.data[MIME]["state"] == "done"
    assert "live" not in first.data[MIME], "nothing that differs between runs"
    assert "<pre" in first.data["text/html"]
    assert all(other.data == {"text/plain": ""} for other in others)
    lab.leave(page)


def test_the_height_only_grows(jupyter, service):
    words = "\n\n".join(answers.ANSWERS[name] for name in ("all at once", "python", "aligned columns", "a matrix", "nested lists", "tasks", "mathematics by itself"))  # fmt: skip
    page = jupyter.open("grows.ipynb", f"{LOAD}\n{endpoint(service)}", ASK, height=3000)
    lab.run(page, 0)
    for form in (words, f"{words}\n\n{words}", "word " * 600, answers.ANSWERS["a long block"] + words, words.replace("\n\n", "\n\n- point\n\n")):  # fmt: skip
        service.on(PATH, slowly(form))
        page.evaluate(WATCH)
        lab.run(page, 1)
        expect(answer(page, 1).locator(".ic-cell")).to_have_attribute("data-state", "done")
        page.evaluate("() => new Promise(done => setTimeout(done, 700))")
        heights = page.evaluate("() => { cancelAnimationFrame(window.looking); return heights }")
        heights = heights[heights.index(min(heights)) :]  # the answer before stood there
        final = heights[-1]
        assert max(heights) <= final * 1.02
        tops = [max(heights[: i + 1]) for i in range(len(heights))]
        assert max(top - now for top, now in zip(tops, heights, strict=True)) <= final * 0.02
    lab.leave(page)


def test_it_is_said_at_once_who_is_asked_and_how_to_stop(jupyter, service):
    page = jupyter.open("life.ipynb", f"{LOAD}\n{endpoint(service)}", ASK)
    lab.run(page, 0)

    def late(_):
        yield 0.5
        yield from OPENAI.whole("Hello")

    took = []
    for _ in range(20):
        service.on(PATH, late)
        took.append(page.evaluate(LIFE, 1))
        page.evaluate("() => window.ran.then(() => null)")
    assert statistics.median(took) <= 200
    service.on(PATH, [head(), chunk(OPENAI.text("Half")), HANG])
    lab.run(page, 1, wait=False)
    expect(answer(page, 1)).to_contain_text("Half")
    expect(answer(page, 1)).to_contain_text("work:m")
    page.evaluate("() => jupyterapp.commands.execute('notebook:interrupt-kernel').then(() => null)")
    expect(answer(page, 1)).to_contain_text("what came is kept")
    assert answer(page, 1).inner_text().count("kept") == 1, "it is said once"
    lab.leave(page)


def test_code_is_inserted_below_its_cell_which_is_gone_into(jupyter, service):
    page = jupyter.open("insert.ipynb", f"{LOAD}\n{endpoint(service)}", ASK, "2", "3")
    lab.run(page, 0)
    service.on(PATH, OPENAI.whole("```python\nx = 1\n```\n\n```bash\nls\n```"))
    lab.run(page, 1)
    for number, source in enumerate(("x = 1", "%%bash\nls")):
        answer(page, 1).get_by_role("button", name="Insert as a new cell").nth(number).click()
        page.wait_for_function("s => jupyterapp.shell.currentWidget.content.activeCell.model.sharedModel.getSource() === s", arg=source)  # fmt: skip
        assert lab.sources(page)[2] == source
        page.keyboard.type("# ")
        assert lab.sources(page)[2] == f"# {source}"
    lab.leave(page)


def test_sixty_answers_do_not_overflow_where_it_is_narrow(jupyter):
    page = write(jupyter, "sixty.ipynb", *map(bundle, answers.ANSWERS.values()))
    page.set_viewport_size({"width": 400, "height": 1000})
    page.evaluate("() => jupyterapp.commands.execute('application:toggle-left-area').then(() => null)")  # fmt: skip
    expect(page.locator(".ic-cell")).to_have_count(60)
    assert page.evaluate(WIDER) == 0
    lab.leave(page)


@pytest.mark.parametrize("theme", THEMES)
def test_an_answer_can_be_read_by_all(jupyter, theme):
    page = write(jupyter, f"{theme}.ipynb", *map(bundle, answers.ANSWERS.values()))
    page.set_viewport_size({"width": 1000, "height": 4200})
    page.evaluate("theme => jupyterapp.commands.execute('apputils:change-theme', {theme}).then(() => null)", theme)  # fmt: skip
    expect(page.locator(".hljs-keyword").first).to_be_attached()
    page.wait_for_function("t => document.body.dataset.jpThemeName === t", arg=theme)
    lab.shoot(page, f"answers/{theme}")
    page.add_script_tag(path=AXE)
    found = page.evaluate("() => axe.run('.ic-cell').then(({violations}) => violations.map(({id, nodes}) => [id, nodes.map(one => one.html.slice(0, 200))]))")  # fmt: skip
    assert found == []
    lab.leave(page)


def test_without_the_extension_the_answer_is_whole(plain, service):
    page = plain.open("plain.ipynb", f"{LOAD}\n{endpoint(service)}", ASK)
    lab.run(page, 0)
    service.on(PATH, slowly("\n\n".join([answers.ANSWERS["all at once"]] * 3)))
    lab.run(page, 1)
    expect(answer(page, 1).locator("h1")).to_have_count(3)
    expect(answer(page, 1).locator("table")).to_have_count(3)
    expect(answer(page, 1).locator(".ic-cell")).to_have_count(0)
    expect(answer(page, 1)).to_contain_text("work:m")
    lab.shoot(page, "answers/without the extension")
    lab.leave(page)


EVIL = "https://evil.example/x"
BAD = {
    "another version": {"version": 2, "state": "done", "parts": [], "html": HOSTILE},
    "an unknown part": payload("done", [{"type": "html", "text": HOSTILE}]),
    "a part of the prototype": payload("done", [{"type": "constructor", "text": HOSTILE}]),
    "texts that are none": {"version": 1, "state": "done", "parts": [{"type": "text", "text": {"toString": HOSTILE}}], "footer": {"model": {"a": HOSTILE}, "status": [HOSTILE]}},
    "a hostile text": payload("done", [*notices([HOSTILE]), reasoning(HOSTILE), text(HOSTILE)], footer={"model": HOSTILE, "ending": HOSTILE, "status": [HOSTILE]}),
    "hostile fences": payload("done", [text(f'```"><img src={EVIL} onerror=hurt=1>\nx\n```\n\n```mermaid\n{HOSTILE}\n```\n')]),
    "hostile mathematics": payload("done", [text(f"$\\href{{javascript:hurt=1}}{{x}}$ $\\includegraphics{{{EVIL}}}$ $\\color{{url({EVIL})}}x$ $$\\text{{{HOSTILE[:60]}}}$$")]),
    "an answer that never ends": payload("streaming", [text(HOSTILE)], live="x", model=HOSTILE),
}  # fmt: skip


@pytest.mark.parametrize("where", ["jupyter", "plain"])
def test_hostile_payloads_in_a_foreign_notebook_run_and_load_nothing(where, request):
    jupyter = request.getfixturevalue(where)
    # pictures in an output's HTML are loaded by JupyterLab itself, which looks for headings there
    script = "<script>window.hurt = 1</script><details open ontoggle='window.hurt=1'>x</details>"
    shown = f"<p>fall-back</p>{script}"
    bundles = [{MIME: bad, "text/html": shown, "text/plain": "x"} for bad in BAD.values()]
    page = write(jupyter, "foreign.ipynb", *bundles)
    expect(answer(page, 0)).to_contain_text("fall-back")
    page.evaluate(SETTLED)
    assert page.evaluate(HURT) is None
    for number in range(len(BAD)):
        drawn = answer(page, number).locator(".jp-OutputArea-output")
        assert drawn.locator(ACTIVE.replace(", math, details", "")).count() == 0, [*BAD][number]
        for address in drawn.locator("a[href]").evaluate_all("all => all.map(a => a.href)"):
            assert address.startswith(("https://", "http://", "mailto:"))
    lab.leave(page)
