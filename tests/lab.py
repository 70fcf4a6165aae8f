"""A real JupyterLab or Notebook 7 in a real Chromium, with nothing of the user's in it."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.conftest import is_of_the_user

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
ROOT = Path(__file__).parents[1]
SHOTS = ROOT / "tests/screenshots"
"""What the browser tests saw, for who wants to look at it; git ignores it."""
FLAGS = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip
PATIENCE = 60_000
"""Milliseconds until what has to be seen counts as missing; two busy cores are slow."""
expect.set_options(timeout=PATIENCE)
SETTINGS = {
    # a cell that is scrolled away stays in the page, as in Notebook 7: tests count cells
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "defer"},
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
}
KERNEL = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
IDLE = "() => window.jupyterapp?.shell.currentWidget?.context?.sessionContext?.session?.kernel?.status === 'idle'"
RUN = "i => { const nb = jupyterapp.shell.currentWidget.content; nb.activeCellIndex = i; nb.deselectAll(); window.ran = jupyterapp.commands.execute('notebook:run-cell'); return null }"
END_KERNELS = "() => window.jupyterapp?.serviceManager.sessions.shutdownAll().then(() => null)"
TURN_TO = "name => { for (const open of [...jupyterapp.shell.widgets('main')]) open.dispose(); return jupyterapp.commands.execute('docmanager:open', {path: name}).then(() => null) }"
WRITE = "([i, source]) => jupyterapp.shell.currentWidget.content.widgets[i].model.sharedModel.setSource(source)"
SOURCES = "() => [...jupyterapp.shell.currentWidget.content.model.sharedModel.cells].map(cell => cell.getSource())"


@dataclass(frozen=True)
class FrontEnd:
    """What differs between the programs that open notebooks in a browser."""

    module: str
    app: str
    address: str


JUPYTERLAB = FrontEnd("jupyterlab", "LabApp", "lab/tree/{}?reset")
NOTEBOOK = FrontEnd("notebook", "JupyterNotebookApp", "notebooks/{}")


def need_chromium() -> None:
    """Skip the test where there is no Chromium; in CI that fails."""
    if not CHROMIUM:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("Chromium (Debian's package chromium) is not installed")  # fmt: skip


@contextlib.contextmanager
def running(
    root: Path,
    env: dict[str, str] | None = None,
    front: FrontEnd = JUPYTERLAB,
    without: Sequence[str] = (),
) -> Iterator["Lab"]:
    """Run a server and a browser, without servers to find; nothing may leave this machine."""
    need_chromium()
    lab = Lab(root, env or {"IPYCHAT_SERVERS": "off"}, front, without)
    try:
        yield lab
    finally:
        lab.close()
    assert lab.left == [], "a request left this machine"


_open: list["Lab"] = []


class Lab:
    """One server and one browser; `left` are the requests that would have left this machine."""

    def __init__(
        self,
        root: Path,
        env: dict[str, str],
        front: FrontEnd = JUPYTERLAB,
        without: Sequence[str] = (),
    ) -> None:
        self.root = root
        self.front = front
        self.left: list[str] = []
        self._page: Page | None = None
        for name, values in SETTINGS.items():
            path = root / "settings" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(values))
        (root / "work").mkdir()
        # the extension as it is built here comes before one that is installed
        shutil.copytree(ROOT / "ui/built", root / "path/labextensions")
        switched_off = {"disabledExtensions": dict.fromkeys(without, True)}
        (root / "CONFIG/labconfig").mkdir(parents=True)
        (root / "CONFIG/labconfig/page_config.json").write_text(json.dumps(switched_off))
        self._runtime = tempfile.TemporaryDirectory(prefix="lab-")  # addresses have to be short
        own = {
            **{f"JUPYTER_{kind}_DIR": str(root / kind) for kind in ("CONFIG", "DATA")},
            "JUPYTER_RUNTIME_DIR": self._runtime.name,
            "JUPYTERLAB_SETTINGS_DIR": str(root / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(root / "workspaces"),
            "JUPYTER_PATH": str(root / "path"),
            "IPYTHONDIR": str(root / "ipython"),
            "IPYCHAT_HOME": str(root / "home"),
        }
        arguments = [
            "--no-browser", "--allow-root", "--ip=127.0.0.1", "--KernelManager.transport=ipc",
            "--IdentityProvider.token=", "--ServerApp.password=",
            f"--ServerApp.root_dir={root / 'work'}", f"--{front.app}.expose_app_in_browser=True",
            "--LabApp.news_url=None",
        ]  # fmt: skip
        self._log = (root / "server.log").open("w")
        self._server = subprocess.Popen(
            [sys.executable, "-m", front.module, *arguments],
            stdout=self._log, stderr=subprocess.STDOUT, env={**_machine(), **own, **env},
        )  # fmt: skip
        try:
            self.url = self._wait_for_the_server()
            # a process has one at a time
            self._playwright = _open[0]._playwright if _open else sync_playwright().start()
            _open.append(self)
            self._browser = self._playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        except BaseException:
            self._end_the_server()
            raise

    def _wait_for_the_server(self) -> str:
        """Wait until the server answers; return where it found a port."""
        info = Path(self._runtime.name, f"jpserver-{self._server.pid}.json")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, ValueError):  # not there yet, or half of it
                url = f"http://127.0.0.1:{json.loads(info.read_text())['port']}"
                urllib.request.urlopen(f"{url}/api/status", timeout=2).close()
                return url
            time.sleep(0.1)
        raise AssertionError((self.root / "server.log").read_text())

    def open(self, name: str, *cells: str, **size: float) -> Page:
        """Open a notebook, made of `cells` if it is not there yet, with its kernel ready."""
        self._write(name, cells)
        page = self.show(name, **size)
        page.wait_for_function(IDLE)
        return page

    def turn_to(self, name: str, *cells: str) -> Page:
        """Open a notebook in the page of the one before, which is closed with its kernel.

        A page takes four times as long to load. Where a test leaves something behind that belongs
        to the page, it has to `leave` it; then there is a new one.
        """
        if self._page is None or self._page.is_closed():
            self._page = self.open(name, *cells)
            return self._page
        self._write(name, cells)
        self._page.evaluate(END_KERNELS)
        self._page.evaluate(TURN_TO, name)
        self._page.wait_for_function(IDLE)
        return self._page

    def _write(self, name: str, cells: tuple[str, ...]) -> None:
        path = self.path(name)
        if not path.exists():
            book = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, cells)))
            book.metadata["kernelspec"] = KERNEL
            nbformat.write(book, path)

    def show(self, name: str, width: int = 1100, height: int = 1000, scale: float = 1) -> Page:
        """Open a notebook that is there, in a browser without a past; wait for nothing."""
        context = self._browser.new_context(
            viewport={"width": width, "height": height},
            device_scale_factor=scale,
            permissions=["clipboard-read", "clipboard-write"],
        )
        context.on("request", lambda request: self._see(request.url))
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(f"{self.url}/{self.front.address.format(name)}")
        return page

    def path(self, name: str) -> Path:
        return self.root / "work" / name

    def _see(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"data", "blob", "about"} and parts.hostname != "127.0.0.1":
            self.left.append(url)

    def close(self) -> None:
        self._browser.close()
        _open.remove(self)
        if not _open:
            self._playwright.stop()
        self._end_the_server()

    def _end_the_server(self) -> None:
        """End it, also where it can't: a request that it leaves may have a thread for ever."""
        self._server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._server.wait(10)
        self._server.kill()
        self._server.wait()
        self._log.close()
        self._runtime.cleanup()


def _machine() -> dict[str, str]:
    """The environment without the keys, the proxies and the settings of the machine's user."""
    return {name: value for name, value in os.environ.items() if not is_of_the_user(name)}


def run(page: Page, cell: int, *, wait: bool = True) -> None:
    """Run a cell; wait for its end."""
    page.evaluate(RUN, cell)
    if wait:
        page.evaluate("() => window.ran.then(() => null)")


def shoot(page: Page, name: str) -> None:
    """Keep a picture of the page."""
    path = SHOTS / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=path)


def leave(page: Page) -> None:
    """Close a page, and end the kernels that it knows: each holds some 100 MB."""
    if not page.is_closed():
        page.evaluate(END_KERNELS)
    page.context.close()


def save(page: Page) -> None:
    page.evaluate("() => jupyterapp.commands.execute('docmanager:save').then(() => null)")


def reload(page: Page) -> None:
    """Save, and load the page anew beside its kernel."""
    save(page)
    page.reload()
    page.wait_for_function(IDLE)


def write(page: Page, cell: int, source: str) -> None:
    """Put other source into a cell."""
    page.evaluate(WRITE, [cell, source])


def sources(page: Page) -> list[str]:
    """The sources of the notebook's cells."""
    return page.evaluate(SOURCES)
