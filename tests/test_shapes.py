"""What looks like a well-known token is masked before it is sent, and nothing else is."""

import base64
import json
import random
import sysconfig
import uuid
from pathlib import Path

import pytest

import ipychat
from ipychat import config, secrets
from ipychat.catalog import firewall, receipts
from ipychat.messages import FilePart, ImagePart, Message, ModelId, Question, TextPart, ToolCall
from ipychat.text import shapes
from tests.protocols import PROTOCOLS
from tests.test_audit import ROOT, TOKENS, made_up, tokens
from tests.test_firewall import noticed

OPENAI = PROTOCOLS[0]
PATH = "/chat/completions"
pytestmark = pytest.mark.usefixtures("sessions")

TAILS = {what: token[-20:].strip() for what, token in TOKENS.items()}
TAILS["a password in an address"] = TOKENS["a password in an address"].split(":")[2].split("@")[0]
"""What of each may be nowhere."""
SOME = [what for what in TOKENS if "GitHub" in what or "private" in what or "address" in what]


def request(*messages, **options) -> Question:
    return Question(ModelId("openai", "m"), messages, options)


@pytest.fixture
def asking(service, monkeypatch, tmp_path):
    """Asks a service that answers; returns all that was sent, and the notices."""
    monkeypatch.setenv("OPENAI_BASE_URL", service.url)
    monkeypatch.setenv("IPYCHAT_MODEL", "openai:m")
    service.on(PATH, OPENAI.whole("fine"))
    config.use(config.Config(notebook=str(tmp_path / "a.ipynb")))

    async def ask(prompt, **how):
        service.requests.clear()
        reply = await ipychat.ask(prompt, **how)
        return service.requests[0].body.decode(), " ".join(reply.notices)

    return ask


# -- what is found


@pytest.mark.parametrize("what", TOKENS)
def test_any_token_of_a_shape_is_masked_in_every_part_of_a_question(what):
    for seed in range(25):
        token = tokens(seed)[what]
        data = f"token: {token}\n".encode()
        url = f"data:text/plain;base64,{base64.b64encode(data).decode()}"
        given = request(
            Message("system", f"Use {token}."),
            Message("user", (TextPart(f"key='{token}'"), FilePart("a.txt", data), ImagePart(url))),
            Message("assistant", (ToolCall("1", "f", json.dumps({"key": token})),)),
            Message("tool", f"{token}\n", tool_call_id="1"),
            user=f"({token})",
        )
        asked, names = firewall.masked(given)
        assert names == [what]
        system, question, call, result = asked.messages
        text, file, image = question.parts
        carried = base64.b64decode(image.url.partition(",")[2]).decode()
        texts = [system.text, text.text, file.data.decode(), carried, call.tool_calls[0].arguments]
        texts += [result.text, asked.options["user"]]
        for one in texts:
            assert not [*shapes.looks(one)], one
            assert token not in one
        assert len(file.data) == len(data)
        assert len(image.url) == len(url)


def test_of_an_address_only_the_password_goes():
    assert shapes.mask("postgres://me:hunter22@db/x?a=1") == "postgres://me:•••@db/x?a=1"
    url = "see http://localhost:8888/?token=" + "0123456789abcdef" * 3 + "&a=1"
    assert shapes.mask(url) == "see http://localhost:8888/?token=•••&a=1"


@pytest.mark.parametrize("set_in", ["{}", '{{"key": "{}"}}', "    {}", "> {}"])
def test_a_private_key_goes_whole(set_in):
    lines = [made_up("ABCDabcd0123+/", 64, seed) for seed in range(12)]
    key = "\n".join(["-----BEGIN " + "PRIVATE KEY-----", *lines, "-----END PRIVATE KEY-----"])
    written = json.dumps(key)[1:-1] if "key" in set_in else key.replace("\n", "\n" + set_in[:-2])
    for text in (written, written[: len(written) - 60]):  # the second was cut off
        masked = shapes.mask(f"before\n{set_in.format(text)}\nand behind it")
        assert not [line for line in lines if line[:40] in masked]
        assert masked.startswith("before")
        assert masked.endswith("\nand behind it")


def test_what_is_known_and_looks_like_something_has_both_names():
    secrets.register(token := TOKENS["a personal GitHub token"], "MINE")
    assert shapes.names_in(token) == {"MINE", "a personal GitHub token"}
    assert shapes.mask(f"it is {token}.") == "it is •••."


# -- what is not


@pytest.mark.heavy
def test_the_standard_library_and_these_documents_have_nothing_that_looks_like_a_secret():
    library = Path(sysconfig.get_path("stdlib"))
    paths = [path for path in library.rglob("*.py") if "site-packages" not in path.parts]
    paths += [path for path in (ROOT / "docs").rglob("*") if path.is_file()]
    texts = {path: path.read_text(errors="replace") for path in [*paths, ROOT / "README.md"]}
    assert len(texts) > 500
    assert {path: found for path, text in texts.items() if (found := [*shapes.looks(text)])} == {}


def test_ordinary_data_is_sent_as_it_is():
    drawn = random.Random(11)
    hashes = [f"{drawn.getrandbits(160):040x}" for _ in range(2000)]
    ids = [str(uuid.UUID(int=drawn.getrandbits(128))) for _ in range(2000)]
    encoded = [base64.b64encode(drawn.randbytes(2000)).decode() for _ in range(200)]
    lined = [base64.encodebytes(drawn.randbytes(2000)).decode() for _ in range(200)]
    safe = [base64.urlsafe_b64encode(drawn.randbytes(40)).decode() for _ in range(5000)]
    books = [path.read_text() for path in (ROOT / "notebooks").rglob("*.ipynb")]
    assert books
    for text in [*hashes, *ids, *encoded, *lined, *safe, *books]:
        assert not [*shapes.looks(text)], text
    data = drawn.randbytes(1 << 20)
    given = request(
        Message("user", (FilePart("a.bin", data), ImagePart.of_bytes(data, "image/png")))
    )
    assert firewall.masked(given) == (given, [])


def test_a_question_without_any_keeps_the_hash_that_it_had():
    asked = request(Message("system", "Be\nshort."), Message("user", "What is 2 + 2?\nSay it."))
    known = "473af458b5a4eb31"
    assert receipts.receipt(asked).hash.startswith(known)


# -- from the notebook to the service


@pytest.mark.parametrize("what", SOME)
async def test_a_token_is_neither_sent_nor_kept_and_a_notice_names_it(asking, home, what):
    sent, notices = await asking(
        f"My key:\n{TOKENS[what]}\n", chat="a", system=f"Know {TOKENS[what]}"
    )
    again, more = await asking("And now?", chat="a")
    for text in (sent, again):
        assert TAILS[what] not in text
        assert "•••" in json.loads(text)["messages"][0]["content"]
    assert f"Masked in what was sent: {what}." in notices
    assert what in more
    kept = [path.read_text() for path in home.rglob("*") if path.is_file()]
    assert any("And now?" in text for text in kept)
    assert not [text for text in kept if TAILS[what] in text]


async def test_it_is_sent_once_where_that_is_allowed_and_kept_nowhere(asking, home):
    token = TOKENS["a personal GitHub token"]
    sent, _ = await asking(f"My key: {token}", chat="a", allow_secrets=True)
    assert token in sent
    sent, _ = await asking("And now?", chat="a")
    assert token not in sent
    kept = [path.read_text() for path in home.rglob("*") if path.is_file()]
    assert kept
    assert not [text for text in kept if token in text]


async def test_a_cassette_holds_none_and_is_found_again(asking, service, tmp_path):
    token = TOKENS["a personal GitHub token"]
    config.use(config.Config(replay="auto", cassette=str(tmp_path / "__chat__")))
    sent, _ = await asking(f"My key: {token}")
    assert token not in sent
    [entry] = [path for path in (tmp_path / "__chat__").glob("*.json") if len(path.stem) == 64]
    assert token not in entry.read_text()
    service.requests.clear()
    assert str(await ipychat.ask(f"My key: {token}")) == "fine"
    assert not service.requests


async def test_a_row_of_many_has_none(service, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", service.url)
    service.on(PATH, OPENAI.whole("fine"))
    token = TOKENS["an OpenAI-style key"]
    results = await ipychat.map(["a", token], "Look at {{it}}", model="openai:m")
    assert len(results) == len(service.requests) == 2
    assert not [one for one in service.requests if token in one.body.decode()]


def test_a_value_and_a_file_of_the_notebook_have_none(shared, tmp_path):
    kernel, service = shared
    service.requests.clear()
    service.on(PATH, OPENAI.whole("fine"))
    token = TOKENS["an OpenAI-style key"]
    (tmp_path / "a.txt").write_text(f"key = {token}\n")
    kernel.run(f"token = {token!r}")
    for cell in (
        "%chat --no-history Use {{token}}",
        f"%chat --no-history --file {tmp_path}/a.txt Hi",
    ):
        ran = kernel.run(cell)
        assert ran.status == "ok", ran.error
        assert noticed(ran) == ["an OpenAI-style key"]
    assert len(service.requests) == 2
    for one in service.requests:
        assert token not in one.body.decode()
    ran = kernel.run("%chat --dry-run {{token}}")
    assert token not in json.dumps(ran.outputs)
