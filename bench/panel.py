"""The panel's response times in a real JupyterLab: first word, Stop, and a long answer.

Needs Chromium. Times are measured in the page, as medians of several runs; the floor of the frame
rate is the same page's while nothing arrives.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.rows import Figure
from tests import lab
from tests.loopback import END, HANG, Service, chunk, head
from tests.protocols import PROTOCOLS

RUNS = 9
OPENAI = PROTOCOLS[0]
WORDS = 100_000 // 60
PARAGRAPH = "word " * 11 + "end.\n\n"
PAUSE = 0.002
WATCH = """text => {
  const log = document.querySelector(".ic-panel [role=log]")
  const drawn = () => { window.seen = performance.timeOrigin + performance.now() }
  const look = (_, watch) => {
    if (!log.textContent.includes(text)) return
    watch.disconnect()
    requestAnimationFrame(drawn)
  }
  window.seen = 0
  new MutationObserver(look).observe(log, {subtree: true, childList: true, characterData: true})
}"""
STOP = """() => new Promise(done => {
  const button = document.querySelector(".ic-panel .ic-send")
  const begin = performance.now()
  const look = () => {
    if (button.getAttribute("aria-label") == "Send") done(performance.now() - begin)
    else requestAnimationFrame(look)
  }
  button.click()
  look()
})"""
FRAMES = """until => new Promise(done => {
  const log = document.querySelector(".ic-panel [role=log]")
  const begin = performance.now()
  let frames = 0, last = begin, worst = 0
  const next = now => {
    frames++
    worst = Math.max(worst, now - last)
    last = now
    const over = until ? log.textContent.includes(until) : now - begin > 2000
    if (over) done([frames / (now - begin) * 1000, worst])
    else requestAnimationFrame(next)
  }
  requestAnimationFrame(next)
})"""


def ask(page, text: str) -> None:
    prompt = page.get_by_role("textbox", name="Prompt")
    prompt.fill(text)
    prompt.press("Enter")


def answer(text: str, left: list[float]):
    """A script that records when its text is sent."""
    yield head()
    yield 0.2
    left.append(time.time())
    yield chunk(OPENAI.text(text))
    yield HANG


def measure() -> Iterator[Figure | str]:
    if not lab.CHROMIUM:
        yield "Chromium is not installed: the panel is not measured."
        return
    service = Service()
    env = {
        "OPENAI_BASE_URL": service.url,
        "OPENAI_API_KEY": "a-key-for-the-bench",
        "IPYCHAT_MODEL": "openai:m",
    }
    with tempfile.TemporaryDirectory() as folder:
        jupyter = lab.Lab(Path(folder), env)
        page = jupyter.open("x.ipynb", "%load_ext ipychat", "%chat_panel")
        lab.run(page, 0)
        lab.run(page, 1)
        page.locator(".ic-panel [role=log]").wait_for()
        first, stop = [], []
        for number in range(RUNS + 1):
            left: list[float] = []
            service.on(OPENAI.path, lambda _, n=number, left=left: answer(f"FIRST{n}.", left))
            page.evaluate(WATCH, f"FIRST{number}.")
            ask(page, "x")
            page.wait_for_function("() => window.seen")
            first.append(page.evaluate("() => window.seen") - left[0] * 1000)
            stop.append(page.evaluate(STOP))
        # the first run imports what is imported on use
        yield Figure("the first word, drawn after it left", statistics.median(first[1:]))
        yield Figure("Stop", statistics.median(stop[1:]))
        idle, _ = page.evaluate(FRAMES, "")
        paragraphs = [step for _ in range(WORDS) for step in (chunk(OPENAI.text(PARAGRAPH)), PAUSE)]
        last = [chunk(OPENAI.text("LAST")), chunk(OPENAI.finish()), END]
        service.on(OPENAI.path, [head(), *paragraphs, *last])
        ask(page, "x")
        rate, worst = page.evaluate(FRAMES, "LAST")
        yield Figure("while 100 kB come", rate, idle)
        yield Figure("while 100 kB come: the longest frame", worst)
        jupyter.close()
    service.close()
