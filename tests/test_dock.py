"""The kernel's side of the panel at JupyterLab's side: a comm, with the exchange of every panel behind it."""

import itertools
import uuid

import pytest

from tests.acting import COMPLETIONS
from tests.loopback import answer
from tests.protocols import PROTOCOLS, completion
from tests.test_magics import PATH, echo, sent
from tests.test_panel import Page

OPENAI = PROTOCOLS[0]
TARGET = "ipychat"


class Side(Page):
    """What a page would know of it."""

    def __init__(self, kernel, page="a page", target=TARGET):
        self.kernel, self.comm = kernel, uuid.uuid4().hex
        self._taken = len(kernel.comms)
        self._ids = itertools.count(1)
        self.cards = []
        self.info, self.order, self.heads, self.text, self.acks, self.others = (
            {},
            [],
            {},
            {},
            {},
            [],
        )
        self._send("comm_open", target_name=target, data={"page": page})

    def _send(self, kind, **content):
        message = self.kernel.client.session.msg(kind, {"comm_id": self.comm, **content})
        self.kernel.client.session.send(self.kernel.client.shell_channel.socket, message)

    def do(self, kind, **more):
        asked = next(self._ids)
        self._send("comm_msg", data={"kind": kind, "id": asked, **more})
        self.until(lambda: asked in self.acks)
        return self.acks[asked].get("error")

    def _take(self):
        new, self._taken = self.kernel.comms[self._taken :], len(self.kernel.comms)
        for message in new:
            if message["comm_id"] == self.comm and message["data"]:
                self.others.append(message["data"]["kind"])
                self._apply(message["data"])
                if message["data"]["kind"] == "card":
                    self.cards.append(message["data"]["card"])

    def close(self):
        self._send("comm_close", data={})


@pytest.fixture
def side(notebook, service):
    service.on(PATH, echo)
    one = Side(notebook)
    one.until(lambda: one.others == ["ready"])
    return one


def test_a_question_of_the_side_is_answered_and_a_cell_goes_on_from_it(side, service):
    assert side.do("hello") is None
    assert side.do("ask", text="Hello", files=[]) is None
    side.until_done()
    assert side.talk == [("Hello", "You said: Hello ", "done")]
    side.kernel.run("%chat again")
    side.until(lambda: len(side.order) == 2)
    assert [m["content"] for m in sent(service)] == ["Hello", "You said: Hello ", "again"]


def test_a_page_that_shows_nothing_is_told_nothing(side):
    side.kernel.run("%chat hi")
    side.until(lambda: True)
    assert side.others == ["ready"]


def test_values_go_along_by_their_names_and_what_is_not_there_is_said(side, service):
    side.kernel.run("table = {'a': [1, 2, 3]}")
    side.do("hello")
    along = [{"kind": "variable", "name": "table"}]
    assert side.do("ask", text="What is @table?", files=[], along=along) is None
    side.until_done()
    first, asked = sent(service)[-1]["content"]
    assert first["text"].startswith("table: dict")
    assert asked["text"] == "What is @table?"
    assert side.heads[side.order[0]]["question"] == "What is @table?"
    assert side.heads[side.order[0]]["files"][0].startswith("table: dict")
    missing = [{"kind": "variable", "name": "tabel"}]
    assert side.do("ask", text="?", files=[], along=missing) == "No variable named tabel."
    side.do("edit", turn=side.order[0], text="Why @table?")
    side.until_done()
    assert len(sent(service)[-1]["content"]) == 2, "what went along goes along again"


def test_a_question_of_the_side_has_tools_which_are_decided_there(side, service):
    side.kernel.run("def add(a: int, b: int = 1) -> int:\n    return a + b")
    side.kernel.run("%config IPyChat.tools = ['add']")
    first = [completion({"content": "🦜 One."}), *COMPLETIONS.call([("c", "add", '{"a": 1}')])]
    last = COMPLETIONS.say("Two.")
    service.on(
        PATH,
        lambda received: answer(
            *(last if COMPLETIONS.results(received.json) else first),
            content_type=COMPLETIONS.content_type,
        ),
    )
    side.do("hello")
    assert side.do("ask", text="Add", files=[]) is None
    side.until(lambda: side.cards)
    [card] = side.cards
    assert side.do("seen", card=card["id"]) is None
    assert (card["tool"], card["arguments"]) == ("add", '{\n  "a": 1\n}')
    assert side.heads[side.order[0]]["place"] == card["cell"]
    edited = {"decision": "edited", "arguments": {"arguments": '{"a": "x"}'}}
    assert "can't be run" in side.do("decide", card=card["id"], **edited)
    assert side.do("decide", card=card["id"], decision="once") is None
    side.until_done()
    head = side.heads[side.order[0]]
    [step] = head["steps"]
    assert (step["tool"], step["text"], step["said"]) == ("add", "2", "you allowed it")
    assert step["at"] == len("🦜 One.") + 1, "as the page counts"
    assert side.text[head["id"]] == "🦜 One.\n\nTwo."


def test_a_page_that_comes_back_takes_the_place_of_what_it_had(side, service):
    side.do("hello")
    again = Side(side.kernel)
    again.do("hello")
    side.kernel.run("%chat hi")
    again.until(lambda: again.talk == [("hi", "You said: hi ", "done")])
    docks = side.kernel.value("len(__import__('ipychat.display.dock', fromlist=['x'])._docks)")
    assert docks == 1
    other = Side(side.kernel, page="another")
    other.do("hello")
    other.until(lambda: len(other.order) == 1)
    other.close()
    other.kernel.run("pass")
    assert side.kernel.value("len(__import__('ipychat.display.dock', fromlist=['x'])._docks)") == 1


def test_the_magic_shows_the_side_or_says_that_there_is_none(side):
    assert side.kernel.run("%chat_panel --side --chat other -m openai:x").status == "ok"
    side.until(lambda: "show" in side.others)
    side.close()
    side.kernel.run("pass")
    assert (
        "%chat_panel shows the panel below its cell" in side.kernel.run("%chat_panel --side").error
    )


def test_unloading_takes_it_away(side):
    side.do("hello")
    side.kernel.run("%unload_ext ipychat")
    targets = side.kernel.value("list(get_ipython().kernel.comm_manager.targets)")
    assert TARGET not in targets
    side.kernel.run("%load_ext ipychat")
