"""The panel's kernel side: what its page is told, and what becomes of what the page asks for."""

import gzip
import hashlib
import itertools
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from traitlets.config import Config

import ipychat
from tests.kernels import reached_by_files
from tests.loopback import HANG, answer, chunk, head
from tests.protocols import PROTOCOLS
from tests.test_magics import PATH, echo, sent

OPENAI = PROTOCOLS[0]


class Page:
    """What a page would know of a panel."""

    def __init__(self, kernel, flags=""):
        self.kernel = kernel
        self.ran = kernel.run(f"p = %chat_panel {flags}\np")
        assert self.ran.status == "ok", self.ran.error
        self.comm = kernel.value("p.comm.comm_id")
        self._taken = 0
        self._ids = itertools.count(1)
        self.info, self.order, self.heads, self.text, self.acks, self.models = (
            {},
            [],
            {},
            {},
            {},
            [],
        )
        self.do("hello")

    def do(self, kind, buffers=None, **more):
        """Ask for something, and wait until the kernel has taken it; return its complaint."""
        asked = next(self._ids)
        self.kernel.tell(self.comm, {"kind": kind, "id": asked, **more}, buffers)
        self.until(lambda: asked in self.acks)
        return self.acks[asked].get("error")

    def until(self, condition):
        self.kernel.wait_for(lambda: self._take() or condition())

    def _take(self):
        new, self._taken = self.kernel.comms[self._taken :], len(self.kernel.comms)
        for message in new:
            if message["comm_id"] == self.comm and message["data"].get("method") == "custom":
                self._apply(message["data"]["content"])

    def _apply(self, told):
        match told["kind"]:
            case "ack":
                self.acks[told["id"]] = told
            case "models":
                self.models = told["models"]
            case "sync":
                if told.get("all"):
                    self.order, self.heads, self.text = [], {}, {}
                self.info = told.get("info", self.info)
                self.order = told.get("order", self.order)
                self.heads |= {head["id"]: head for head in told.get("turns", [])}
                for delta in told.get("deltas", []):
                    known = self.text.get(delta["id"], "") if delta["at"] else ""
                    self.text[delta["id"]] = known + delta.get("text", "")

    @property
    def talk(self):
        """Question, answer and state of each turn."""
        return [
            (self.heads[id_]["question"], self.text.get(id_, ""), self.heads[id_]["state"])
            for id_ in self.order
        ]

    def until_done(self):
        self.until(lambda: self.order and not self.info["busy"])


@pytest.fixture
def page(notebook, service):
    service.on(PATH, echo)
    return Page(notebook)


def test_a_question_of_the_page_is_answered_and_a_cell_goes_on_from_it(page, service):
    assert page.do("ask", text="Hello", files=[]) is None
    page.until_done()
    assert page.talk == [("Hello", "You said: Hello ", "done")]
    page.kernel.run("%chat again")
    assert [m["content"] for m in sent(service)] == ["Hello", "You said: Hello ", "again"]
    page.until(lambda: len(page.order) == 2)
    page.until_done()
    assert page.talk[1] == ("again", "You said: again ", "done")
    assert [page.heads[id_]["cell"] for id_ in page.order] == [False, True]


def test_a_cells_answer_is_told_while_it_comes_and_the_panel_stops_it(generation, page, service):
    service.on(PATH, [head(), chunk(OPENAI.text("so far")), HANG])
    running = page.kernel.send("%chat --background hi")
    page.until(lambda: list(page.text.values()) == ["so far"])
    assert page.info["busy"]
    assert page.do("stop") is None
    page.until_done()
    assert page.talk == [("hi", "so far", "stopped")]
    page.kernel.wait(running)


def test_its_own_question_is_stopped_and_the_service_sees_it(page, service):
    service.on(PATH, [head(), chunk(OPENAI.text("so far")), HANG])
    page.do("ask", text="hi", files=[])
    page.until(lambda: list(page.text.values()) == ["so far"])
    page.do("stop")
    page.until_done()
    assert service.asked(PATH)[0].gone.wait(2)


def test_what_a_service_refuses_is_told(page, service):
    service.on(PATH, answer(b'{"error": {"message": "no luck"}}', status=400))
    page.do("ask", text="hi", files=[])
    page.until_done()
    [head_] = page.heads.values()
    assert head_["state"] == "failed"
    assert "no luck" in head_["error"]


def test_asked_again_or_edited_a_turn_is_replaced_in_its_place(page, service):
    for text in ("one", "two"):
        page.do("ask", text=text, files=[])
        page.until_done()
    page.do("edit", turn=page.order[0], text="first")
    page.until(lambda: page.talk and page.talk[0][0] == "first")
    page.until_done()
    assert [question for question, _, _ in page.talk] == ["first", "two"]
    assert [page.heads[id_]["stale"] for id_ in page.order] == [False, True]
    page.do("again", turn=page.order[1])
    page.until(lambda: not page.heads[page.order[1]]["stale"])
    page.until_done()
    assert [m["content"] for m in sent(service)] == ["first", "You said: first ", "two"]


def test_one_turn_of_a_loop_is_asked_again_and_the_others_stay(page, service):
    page.kernel.run(
        "for i in range(3):\n    %chat --system Brief --temperature 0.3 q{{i}}", cell="loop"
    )
    page.until(lambda: len(page.order) == 3)
    page.do("again", turn=page.order[1])
    page.until(lambda: len(service.asked(PATH)) == 4)
    page.until_done()
    assert [question for question, _, _ in page.talk] == ["q0", "q1", "q2"]
    body = service.requests[-1].json
    assert [m["content"] for m in body["messages"]] == ["Brief", "q0", "You said: q0 ", "q1"]
    assert body["temperature"] == 0.3
    again = page.kernel.run("for i in range(3):\n    %chat r{{i}}", cell="loop")
    assert again.status == "ok", again.error
    page.until(lambda: [question for question, _, _ in page.talk] == ["r0", "r1", "r2"])


@pytest.mark.parametrize("way", ["undo", "new", "drop"])
def test_a_running_turn_that_is_taken_out_is_stopped(page, service, way):
    service.on(PATH, [head(), chunk(OPENAI.text("so far")), HANG])
    page.do("ask", text="hi", files=[])
    page.until(lambda: page.text)
    assert page.do(way, **({"turn": page.order[0]} if way == "drop" else {})) is None
    assert service.asked(PATH)[0].gone.wait(5)
    page.until(lambda: not page.order)


def test_a_model_that_is_no_longer_there_closes_nothing(page):
    assert (
        page.kernel.run("import ipychat; ipychat.conversation().model = 'nosuch:thing'").status
        == "ok"
    )
    page.until(lambda: page.info["model"] == "nosuch:thing")
    assert Page(page.kernel).info["model"] == "nosuch:thing"
    page.do("model", name="openai:m")
    page.do("ask", text="hi", files=[])
    page.until_done()
    assert page.talk[0][2] == "done"


def test_a_cell_that_runs_again_closes_its_old_panel(notebook):
    for _ in range(3):
        notebook.run("p = %chat_panel", cell="one")
    assert (
        notebook.value(
            "sum(p.comm is not None for p in __import__('ipychat.display.panel', fromlist=['x'])._open)"
        )
        == 1
    )


def test_a_panel_knows_its_conversation_at_once(notebook):
    assert notebook.value("__import__('ipychat').panel(chat='paint').chat") == "paint"


def test_files_and_images_go_along(page, service):
    files = [{"name": "a.csv", "type": "text/csv"}, {"name": "b.png", "type": "image/png"}]
    assert page.do("ask", [b"x,y\n1,2\n", b"\x89PNG"], text="What is it?", files=files) is None
    page.until_done()
    table, image, question = sent(service)[0]["content"]
    assert table == {"type": "text", "text": "a.csv:\nx,y\n1,2\n"}
    assert image["type"] == "image_url"
    assert question == {"type": "text", "text": "What is it?"}
    [head_] = page.heads.values()
    assert head_["files"] == ["a.csv", "image"]


def test_conversations_are_begun_switched_forked_renamed_and_undone(page):
    page.do("ask", text="one", files=[])
    page.until_done()
    assert page.do("fork", name="copy") is None
    page.until(lambda: page.info["chat"] == "copy" and page.talk)
    page.do("rename", name="another")
    page.until(lambda: page.info["chats"] == ["another", "default"])
    page.do("undo")
    page.until(lambda: not page.order)
    assert "no turns" in page.do("undo")
    page.do("chat", name="default")
    page.until(lambda: page.talk == [("one", "You said: one ", "done")])
    assert "already" in page.do("rename", name="another")
    page.do("new")
    page.until(lambda: not page.order)
    assert page.kernel.value("p.chat") == "default"


def test_the_model_is_the_conversations_and_can_be_linked(page, service):
    page.do("models")
    page.until(lambda: page.models)
    assert {"openai:gpt-6-luna", "helper:notebook"} <= {m["id"] for m in page.models}
    page.do("model", name="openai:other")
    page.until(lambda: page.info["model"] == "openai:other")
    page.kernel.run("%chat hi")
    assert service.requests[-1].json["model"] == "other"
    page.kernel.run("picker = ipychat.model_picker('openai:linked')\nimport ipywidgets\nipywidgets.link((picker, 'value'), (p, 'model'))" if page.kernel.run("import ipychat").status == "ok" else "")  # fmt: skip
    page.until(lambda: page.info["model"] == "openai:linked")
    assert "There is no model" in page.do("model", name="nonsense")


def test_system_and_parameters_go_along(page, service):
    page.do("system", text="Be brief.")
    page.do("options", options={"temperature": 0.5, "max_tokens": None})
    page.do("ask", text="hi", files=[])
    page.until_done()
    body = service.requests[-1].json
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert body["temperature"] == 0.5
    assert "max_tokens" not in body
    assert "no number" in page.do("options", options={"api_key": "x"})


def test_what_it_does_not_know_is_refused_in_a_line(page):
    for kind, more in [("nonsense", {}), ("ask", {}), ("drop", {"turn": "x"}), ("ask", {"text": " ", "files": []})]:  # fmt: skip
        error = page.do(kind, **more)
        assert error
        assert "\n" not in error


def test_a_secret_is_told_to_no_page_not_even_in_parts(page, service):
    key = "sk-a-key-of-the-tests"
    script = [head(), *(chunk(OPENAI.text(part)) for part in (f"It is {key[:9]}", key[9:])), HANG]
    service.on(PATH, [*script[:2], 0.3, *script[2:]])
    page.do("ask", text=f"my key is {key}", files=[])
    page.until(lambda: "It is •••" in page.text.values())
    assert key[:6] not in str(page.kernel.comms)
    page.do("stop")


def test_a_page_that_comes_later_gets_the_text_so_far(page, service):
    service.on(PATH, [head(), chunk(OPENAI.text("so far")), HANG])
    page.do("ask", text="hi", files=[])
    page.until(lambda: page.text)
    page.text.clear()
    page.do("hello")
    page.until(lambda: list(page.text.values()) == ["so far"])
    page.do("stop")


def test_the_saved_output_is_a_static_transcript_that_runs_nothing(page, service):
    service.on(PATH, OPENAI.whole("**Done** <script>evil()</script>"))
    page.do("ask", text="<b>hi</b>", files=[])
    page.until(lambda: "Done" in page.ran.outputs[0]["data"]["text/html"])
    static, live = (output["data"] for output in page.ran.outputs)
    assert "<strong>Done</strong>" in static["text/html"]
    assert "&lt;b&gt;hi&lt;/b&gt;" in static["text/html"]
    assert "<script" not in static["text/html"]
    assert "**Done**" in static["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" in live


def test_unloading_closes_it_and_stops_what_it_asked(page, service):
    service.on(PATH, [head(), chunk(OPENAI.text("so far")), HANG])
    page.do("ask", text="hi", files=[])
    page.until(lambda: page.text)
    assert page.kernel.run("%unload_ext ipychat").status == "ok"
    assert page.kernel.value("p.comm is None")
    assert service.asked(PATH)[0].gone.wait(5)


@pytest.mark.parametrize(
    ("line", "says"),
    [("%chat_panel x", "takes flags only"), ("%chat_panel -m nonsense", "There is no model")],
)
def test_a_slip_is_told(notebook, line, says):
    assert says in notebook.run(line).error


# -- what is built


BUILT = Path(ipychat.__file__).parent / "display"
SOURCES = BUILT.parents[1] / "ui"


def test_what_is_built_is_of_the_sources_that_stand():
    """Else: make ui."""
    folders = ("schema", "src", "style")
    paths = [path for folder in folders for path in (SOURCES / folder).rglob("*") if path.is_file()]
    paths += [SOURCES / name for name in ("build.mjs", "package.json", "package-lock.json")]
    digest = hashlib.sha256()
    for path in sorted(paths, key=lambda path: path.relative_to(SOURCES).as_posix()):
        name = path.relative_to(SOURCES).as_posix().encode()
        digest.update(name + b"\0" + path.read_bytes() + b"\0")
    built = (
        BUILT / "panel.js",
        BUILT / "panel.css",
        SOURCES / "built/jupyter-ipychat/licences.txt",
    )
    for path in built:
        assert f"sources {digest.hexdigest()}" in path.read_text(), path.name


def test_it_is_small_and_of_this_project_alone():
    scripts = [BUILT / "panel.js", *(SOURCES / "built/jupyter-ipychat/static").glob("*.js")]
    for path in scripts:
        assert len(gzip.compress(path.read_bytes())) <= 400_000, path.name
    assert "registry." not in (SOURCES / "package-lock.json").read_text()


def test_a_notebook_that_is_executed_headless_keeps_the_last_turn_in_its_transcript(
    generation, service, tmp_path, monkeypatch
):
    for name, value in {"OPENAI_BASE_URL": service.url, "IPYCHAT_MODEL": "openai:m", **generation}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    service.on(PATH, echo)
    cells = ["%load_ext ipychat", "%chat_panel", "%chat one", "%chat two"]
    book = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, cells)))
    with reached_by_files() as reached:
        config = Config(KernelManager=reached)
        NotebookClient(book, kernel_name="python3", timeout=60, config=config).execute()
    [transcript] = [
        out.data["text/html"] for out in book.cells[1].outputs if "text/html" in out.data
    ]
    assert "You said: one" in transcript
    assert "You said: two" in transcript


def test_of_a_very_long_question_the_notebook_keeps_the_beginning_and_says_so(page):
    page.do("ask", text="x" * 50_000, files=[])
    page.until_done()
    shown = page.kernel.run(
        "from ipychat.display._transcript import StaticTranscript\nimport ipychat\nprint(StaticTranscript('m').now(ipychat.conversation('default'))['text/html'])"
    )
    assert "x" * 20_001 not in shown.stdout.split("You said")[0]
    assert "(30,000 more characters)" in shown.stdout


def test_a_file_whose_name_turns_the_direction_is_named_without_that(page):
    page.do(
        "ask", text="look", files=[{"name": "a\u202egnp.exe", "type": "text/plain"}], buffers=[b"x"]
    )
    page.until_done()
    [told] = page.heads.values()
    assert told["files"] == ["agnp.exe"]
