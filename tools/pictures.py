"""Take the README's pictures, `docs/pictures`, of a real JupyterLab: `make pictures`.

Nobody's model answers: a service of this file's own says what stands here, word by word.
"""

from __future__ import annotations

import base64
import io
import sys
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, expect

from tests import lab
from tests.loopback import END, Received, Service, chunk, head
from tests.protocols import PROTOCOLS, completion

TARGET = Path(__file__).parents[1] / "docs" / "pictures"
OPENAI = PROTOCOLS[0]
WIDTH, HEIGHT = 1180, 720
PAUSE = 0.025
"""Seconds between two words."""
SHORTEST, LONGEST, HOLD = 0.08, 1.2, 4.0
"""Seconds that a frame stands: at least, at most, and the last one."""
READ = 1200
"""Milliseconds in which nothing is done."""
AROUND = 232
"""Pixels of the window that are not the panel's messages."""
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
CONFIG = """
c.IPyChat.endpoints = {{"demo": {{"url": "{url}", "model": "scripted"}}}}
c.IPyChat.model = "demo"
"""
CELLS = [
    "%load_ext ipychat",
    "valid = [2.38, 1.79, 1.47, 1.41, 1.52, 1.70]",
    "%%chat\nThese are validation losses: {{valid}}. Where do I stop?",
    "%chat_panel",
]
FIRST = """After **epoch 4**. From there the loss climbs: the model learns the data by heart.

| epoch | loss | change |
|---:|---:|---:|
| 3 | 1.47 | -0.32 |
| 4 | **1.41** | -0.06 |
| 5 | 1.52 | +0.11 |

Keep the weights of the best epoch:

```python
best = min(range(len(valid)), key=valid.__getitem__)
print(f"epoch {best + 1}: {valid[best]:.2f}")
```
"""
FOLLOW_UP = "Draw it, and mark that epoch."
SECOND = """The dotted line stands where to stop:

```python
import matplotlib.pyplot as plt

epochs = range(1, len(valid) + 1)
plt.plot(epochs, valid, marker="o")
plt.axvline(best + 1, linestyle=":", color="gray")
plt.xlabel("epoch")
plt.ylabel("validation loss")
```
"""


def script(text: str, *, tokens: tuple[int, int], cost: float) -> Any:
    """Return an answer, word by word, with what it cost."""

    def say(_: Received) -> Iterator[Any]:
        yield head()
        for line in text.splitlines(keepends=True):
            for word in line.split(" "):
                yield chunk(OPENAI.text(word if word.endswith("\n") else f"{word} "))
                yield PAUSE
        usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "cost": cost}
        yield chunk(completion(finish="stop", usage=usage))
        yield END

    return say


VIEW = ".jp-LinkedOutputView"
BESIDE = """async () => {
  const { shell, commands } = jupyterapp
  const notebook = shell.currentWidget
  await commands.execute("notebook:create-output-view")
  const view = [...shell.widgets("main")].find(widget => widget !== notebook)
  shell.add(view, "main", { mode: "split-right", ref: notebook.id })
  view.title.label = "%chat_panel"
  shell.activateById(notebook.id)
  await commands.execute("notebook:delete-cell")
}"""
TIDY = """async () => {
  const { shell, commands } = jupyterapp
  if (!shell.leftCollapsed) await commands.execute("application:toggle-left-area")
  for (const side of ["left", "right"])
    if (shell.isSideTabBarVisible(side))
      await commands.execute("application:toggle-side-tabbar", { side })
  if (commands.isToggled("statusbar:toggle")) await commands.execute("statusbar:toggle")
}"""
THEME = "theme => jupyterapp.commands.execute('apputils:change-theme', { theme }).then(() => null)"


class Film:
    """What the page shows from now on, each change with its time."""

    def __init__(self, page: Page) -> None:
        self.frames: list[tuple[float, bytes]] = []
        self._session = page.context.new_cdp_session(page)
        self._session.on("Page.screencastFrame", self._keep)
        self._session.send("Page.startScreencast", {"format": "png"})

    def _keep(self, frame: dict[str, Any]) -> None:
        self.frames.append((frame["metadata"]["timestamp"], base64.b64decode(frame["data"])))
        self._session.send("Page.screencastFrameAck", {"sessionId": frame["sessionId"]})

    def save(self, path: Path) -> None:
        """End it, and write the frames that stood long enough to be seen."""
        self._session.send("Page.stopScreencast")
        kept = [self.frames[0]]
        for frame in self.frames[1:-1]:
            if frame[0] - kept[-1][0] >= SHORTEST:
                kept.append(frame)
        kept.append(self.frames[-1])
        stands = [min(end - begin, LONGEST) for (begin, _), (end, _) in pairwise(kept)]
        first, *others = [Image.open(io.BytesIO(data)).convert("RGB") for _, data in kept]
        first.save(
            path,
            save_all=True,
            append_images=others,
            duration=[round(1000 * seconds) for seconds in [*stands, HOLD]],
            loop=0,
            lossless=True,
            quality=80,
            method=4,
        )


def still(page: Page, path: Path) -> None:
    """Take a picture, in the few colours that it has."""
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def beside(jupyter: lab.Lab, name: str, theme: str) -> Page:
    """Open a notebook with the panel beside it."""
    page = jupyter.open(name, *CELLS, width=WIDTH, height=HEIGHT, scale=2)
    page.evaluate(THEME, theme)
    page.evaluate(TIDY)
    for cell in (0, 1, 3):
        lab.run(page, cell)
    page.locator(".ic-panel").wait_for()
    page.evaluate(BESIDE)
    log = page.locator(f"{VIEW} .ic-log")
    log.evaluate(f"log => {{ log.style.height = '{HEIGHT - AROUND}px' }}")
    log.get_by_text("What shall we look at?").wait_for()
    return page


def converse(page: Page, service: Service) -> None:
    """Ask in the cell, go on in the panel, and take its code over into the notebook."""
    panel = page.locator(f"{VIEW} .ic-panel")
    service.on(OPENAI.path, script(FIRST, tokens=(212, 118), cost=0.00041))
    lab.run(page, 2)
    expect(panel.get_by_role("log")).to_contain_text("$0.00041")
    page.wait_for_timeout(READ)
    service.on(OPENAI.path, script(SECOND, tokens=(371, 84), cost=0.00052))
    prompt = panel.get_by_role("textbox", name="Prompt")
    prompt.press_sequentially(FOLLOW_UP, delay=35)
    prompt.press("Enter")
    expect(panel.get_by_role("log")).to_contain_text("$0.00052", timeout=30_000)
    page.wait_for_timeout(READ)
    panel.get_by_role("button", name="Insert as a new cell").last.click()
    page.wait_for_timeout(READ)


def main() -> None:
    if not lab.CHROMIUM:
        sys.exit("It needs Chromium: on Debian, apt install chromium.")
    TARGET.mkdir(exist_ok=True)
    service = Service()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "ipython", "profile_default", "ipython_config.py")
        config.parent.mkdir(parents=True)
        config.write_text(CONFIG.format(url=service.url))
        jupyter = lab.Lab(Path(folder), {"IPYCHAT_SERVERS": "off"})
        for name, theme in THEMES.items():
            jupyter.path(name).mkdir()
            page = beside(jupyter, f"{name}/training.ipynb", theme)
            film = Film(page)
            converse(page, service)
            film.save(TARGET / f"{name}.webp")
            still(page, TARGET / f"{name}.png")
            page.context.close()
        jupyter.close()
    service.close()


if __name__ == "__main__":
    main()
