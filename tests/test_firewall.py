"""A secret that is known leaves this machine in no byte, and none of it is stored or shown."""

import base64
import html
import json
import re
import struct
import subprocess
import zlib
from urllib.parse import quote

import pytest

from ipychat import secrets
from ipychat.catalog import firewall, registry
from ipychat.messages import FilePart, ImagePart, Message, ModelId, Question, ToolCall
from tests.kernels import Kernel
from tests.loopback import Service, answer
from tests.protocols import ONLINE, PROTOCOLS, completion
from tests.test_magics import PATH
from tests.test_panel import Page

OPENAI = PROTOCOLS[0]
NAME = "MY_SERVICE_TOKEN"
CORE, OWN = "Kanary8472Zebra6093", "Kanary5518Walrus2746"
"""What is searched for; no escape changes anything in them."""
SECRET = f"tok/{CORE}+=é&<'\">\\%"
"""In the kernel's environment, with all that anyone escapes."""
LINES = "\n".join(["-----BEGIN TEST KEY-----", *(f"{CORE}{n}{'Ab3' * 14}" for n in range(9))])
"""Another, of many lines."""


# -- the search


def holds(data: bytes) -> bytes:
    """What of `data` has a secret in it, as it is or in base64, in whatever encoding."""
    text = re.sub(rb"\\[nr]|\s", b"", data).replace(rb"\/", b"/") + b"\n" + data
    runs = re.findall(rb"[A-Za-z0-9+/]{16,}", text.translate(bytes.maketrans(b"-_", b"+/")))
    begun = [run[at:] for run in runs for at in range(4)]
    decoded = [base64.b64decode(run[: len(run) // 4 * 4]) for run in begun]
    for word in (CORE, OWN):
        for kind in ("utf-8", "utf-16-le", "utf-16-be"):
            for one in (data, *decoded):
                if (at := one.find(word.encode(kind))) >= 0:
                    return one[max(0, at - 200) : at + 100]
    return b""


@pytest.mark.parametrize(
    "written",
    [
        SECRET.encode(),
        SECRET.encode("utf-16"),
        json.dumps({"a": base64.b64encode(b"x" + SECRET.encode()).decode()}).encode(),
        json.dumps(base64.encodebytes(b"xy" * 40 + OWN.encode() * 9).decode()).encode(),
        base64.urlsafe_b64encode(b"\xff\xfe" + SECRET.encode("utf-16-le")),
    ],
)
def test_the_search_finds_a_secret_in_every_encoding(written):
    assert holds(written)
    assert not holds(written.swapcase())


class Watched(Kernel):
    """A kernel of which every message on every channel is kept."""

    def __init__(self, *given):
        self.said = []
        super().__init__(*given)
        for channel in (
            self.client.iopub_channel,
            self.client.shell_channel,
            self.client.stdin_channel,
        ):
            channel.get_msg = self._kept(channel.get_msg)

    def _kept(self, get):
        def kept(*args, **how):
            message = get(*args, **how)
            if message["msg_type"] != "execute_input":  # the user's own words
                parts = [message["content"], message["metadata"]]
                self.said.append(json.dumps(parts).encode())
                self.said += map(bytes, message["buffers"])
            return message

        return kept


class Guarded:
    """A kernel that knows secrets, the service that it asks, and all that it writes."""

    def __init__(self, env, folder):
        self.folder = folder
        self.service = Service()
        env = env | {
            NAME: SECRET,
            "A_PRIVATE_KEY": LINES,
            **self.service.env,
            "IPYCHAT_HOME": str(folder / "home"),
            "IPYCHAT_CASSETTE": str(folder / "work" / "__chat__"),
            "JPY_SESSION_NAME": str(folder / "work" / "a.ipynb"),
            "OWN_SECRET_OF_THE_TEST": OWN,
        }
        (folder / "work").mkdir()
        self.kernel = Watched(env)
        self.set_up(
            "%load_ext ipychat\n"
            "import base64, json, logging, os, ipychat\n"
            f"os.chdir({str(folder / 'work')!r})\n"
            f"log = logging.FileHandler({str(folder / 'log')!r})\n"
            "for name in ('ipychat', 'aiohttp', 'asyncio'):\n"
            "    logging.getLogger(name).setLevel('DEBUG'); logging.getLogger(name).addHandler(log)\n"
            f"token = os.environ[{NAME!r}]\n"
            "ipychat.secrets.register(own := os.environ['OWN_SECRET_OF_THE_TEST'])"
        )

    def close(self):
        self.kernel.close()
        self.service.close()

    def set_up(self, code):
        """Run what is the user's own; what it shows is the user's, too."""
        ran = self.kernel.run(code)
        self.kernel.said.clear()
        return ran

    def ask(self, code):
        """Run a cell that asks; return what it shows."""
        self.service.requests.clear()
        ran = self.kernel.run(code)
        assert ran.status == "ok", ran.error
        return ran

    def sent(self):
        return [
            one.body + str((one.path, one.query, one.headers)).encode()
            for one in self.service.requests
        ]

    def leaks(self):
        """Say where a secret is that should be nowhere."""
        found = [f"sent: {at!r}" for one in self.sent() if (at := holds(one))]
        found += [f"said: {at!r}" for one in self.kernel.said if (at := holds(one))]
        for path in self.folder.rglob("*"):
            if path.is_file() and path.parent.name != "given" and (at := holds(path.read_bytes())):
                found.append(f"stored: {path}: {at!r}")
        return found


@pytest.fixture(scope="module")
def one_kernel(generation, tmp_path_factory):
    guarded = Guarded(generation, tmp_path_factory.mktemp("guarded"))
    yield guarded
    guarded.close()


@pytest.fixture
def guarded(one_kernel):
    """Its service repeats what it was asked, and says the secrets that it should not know."""
    told = [
        SECRET[:9],
        SECRET[9:],
        " ",
        OWN[:3],
        OWN[3:9],
        OWN[9:],
        json.dumps(SECRET),
        quote(SECRET),
    ]
    call = {
        "index": 0,
        "id": "1",
        "function": {"name": "f", "arguments": json.dumps({"a": SECRET})},
    }

    def script(received):
        said = json.dumps(received.json["messages"], ensure_ascii=False)
        thought = completion({"reasoning_content": f"so {SECRET}"})
        return answer(thought, *map(OPENAI.text, [said[-3000:], *told]), completion({"tool_calls": [call]}),
                      OPENAI.finish("stop"))  # fmt: skip

    one_kernel.service.on(PATH, script)
    one_kernel.set_up("%chat_new")
    return one_kernel


# -- every way into a prompt


def chunk_of_png(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*texts):
    """A picture of one point, with texts in its metadata."""
    pieces = [chunk_of_png(b"tEXt", b"Comment\0" + text) for text in texts]
    head = chunk_of_png(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    data = chunk_of_png(b"IDAT", zlib.compress(b"\0\0"))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(pieces) + data + chunk_of_png(b"IEND", b"")


ENCODED = [
    SECRET.encode(),
    SECRET.encode("utf-16-le"),
    OWN.encode(),
    b"y" + base64.b64encode(OWN.encode()),
]
FILES = {
    "text.py": f"token = {SECRET!r}\nown = '{OWN}'\n".encode(),
    "data.json": json.dumps({"a": SECRET, "b": OWN, "deep": json.dumps([SECRET])}).encode(),
    "link.txt": f"https://h/?t={quote(SECRET)}&u={quote(SECRET, safe='')}\n{html.escape(SECRET)}".encode(),
    "basic.txt": b"Authorization: Basic " + base64.b64encode(f"me:{SECRET}".encode()),
    "page.svg": f"<svg><metadata>{html.escape(SECRET)} {OWN}</metadata></svg>".encode(),
    "paper.pdf": b"%PDF-1.7\n" + b"\0\n".join(ENCODED),
    f"of-{OWN}.pdf": b"%PDF-1.7\n",
    "image.png": png(*ENCODED),
    "long.txt": ("x" * 5000 + SECRET + "y" * 5000).encode(),
}
WAYS = {
    "typed": ("", f"%%chat\nmy token is {SECRET}, and {OWN}"),
    "a line": ("", f"%chat my token is {OWN}"),
    "an expression": ("", "%chat is {{token}} or {{ {'a': own} }} right?"),
    "JSON": ("", "%chat is {{json.dumps({'a': token, 'b': json.dumps(own)})}} right?"),
    "--with a text": ("it = f'it is {token}'", "%chat --with it what is it?"),
    "--with a long text": ("it = 'x' * 1900 + token + 'y' * 9000", "%chat --with it what is it?"),
    "--with bytes": ("it = token.encode()", "%chat --with it what is it?"),
    "--with a dict": ("it = {'a': token, own: [token]}", "%chat --with it what is it?"),
    "--with a frame": (
        "import pandas\nit = pandas.DataFrame({'a': [token], own: 'x' * 20 + own})",
        "%chat --with it what is it?",
    ),
    "--with an object": (
        "class C:\n    def __init__(self): self.a = token\nit = C()",
        "%chat --with it what is it?",
    ),
    "--cells": (f"x = {SECRET!r}\n{{'a': token, 'b': own}}", "%chat --cells 2 what is it?"),
    "%chat_fix": (
        "def f(a):\n    raise ValueError(f'no {a}')\nit = own\nf(token + it)",
        "%chat_fix",
    ),
    "a system message": ("", "%chat --system 'You know {{token}}' hi"),
    "the configured system message": (
        "it = f'You know {token}'\n%config IPyChat.system = it",
        "%chat hi\n%config IPyChat.system = None",
    ),
    "earlier turns": ("%chat it is {{token}}", "%chat hi"),
    "in the background": ("", "%chat --background is {{token}} right?\n%chat_jobs wait"),
    "ask": ("", "print(await ipychat.ask(f'it is {token}'))"),
    "stream": ("", "async for _ in ipychat.stream(f'it is {own}'): pass"),
    "messages": (
        "call = {'id': own, 'type': 'function', 'function': {'name': own, 'arguments': json.dumps({'a': token})}}",
        "await ipychat.ask([token, {'role': 'assistant', 'content': None, 'tool_calls': [call]},"
        "{'role': 'tool', 'tool_call_id': own, 'content': token}, {'role': 'user', 'content': [own, token]}])",
    ),
    "an image's address": (
        "",
        "await ipychat.ask({'role': 'user', 'content': [{'type': 'image_url', 'image_url': 'https://h/?k=' + own}]})",
    ),
    "an image in lines": (
        "it = 'data:image/png;BASE64,' + base64.encodebytes(b'x' * 70 + token.encode() * 9).decode()",
        "await ipychat.ask({'role': 'user', 'content': ['hi', {'type': 'image_url', 'image_url': it}]})",
    ),
    **{
        f"--{'image' if name.endswith('png') else 'file'} {name}": (
            "",
            f"%chat --{'image' if name.endswith('png') else 'file'} ../given/{name} what is it?",
        )
        for name in FILES
    },
}


@pytest.fixture(scope="module")
def given(one_kernel):
    folder = one_kernel.folder / "given"
    folder.mkdir()
    for name, data in FILES.items():
        (folder / name).write_bytes(data)


NOTICE = re.compile("Masked in what was sent: ([^<]*)[.] --allow-secrets sends it as it is, once.")


def noticed(ran):
    """The names that the cell says were masked."""
    return [html.unescape(names) for names in NOTICE.findall(ran.shown("text/html"))]


@pytest.mark.parametrize("way", WAYS)
def test_it_is_sent_said_and_stored_in_no_way(guarded, given, way):
    before, question = WAYS[way]
    guarded.set_up(before)
    guarded.ask(question)
    assert guarded.service.requests
    assert any(
        "•••" in json.dumps(one.json, ensure_ascii=False) for one in guarded.service.requests
    ) or ("paper" in way or "image" in way)
    guarded.kernel.run("%chat_history\n%chat_receipt\n%chat_usage\n%chat_cassette\n%chat_setup")
    guarded.kernel.run("for one in ipychat.conversation('default').turns: print(one, one.reply)")
    guarded.kernel.run(
        "%chat_cassette show "
        + next((guarded.folder / "work/__chat__").glob("*[0-9a-f].json")).stem
    )
    assert guarded.leaks() == []


@pytest.mark.parametrize(
    "way",
    [way for way, (_, question) in WAYS.items() if question.startswith("%")],
)
def test_a_notice_names_what_was_masked(guarded, given, way):
    before, question = WAYS[way]
    guarded.set_up(before)
    [names] = noticed(guarded.ask(question))
    assert set(names.split(", ")) <= {NAME, "a secret"}


def test_what_is_asked_from_python_has_the_notice_in_its_reply(guarded):
    ran = guarded.ask("r = await ipychat.ask(f'it is {token}'); print(r.notices)")
    assert NAME in ran.stdout


def test_a_dry_run_says_what_would_be_masked_and_shows_none_of_it(guarded):
    ran = guarded.kernel.run("%chat --dry-run it is {{token}}")
    assert f"{NAME}: masked" in ran.shown()
    ran = guarded.kernel.run("%chat --dry-run --allow-secrets it is {{token}}")
    assert f"{NAME}: sent, masked here only" in ran.shown()
    assert guarded.leaks() == []


# -- when it is allowed


def test_it_is_sent_once_where_that_is_allowed_and_kept_and_shown_nowhere(guarded):
    ran = guarded.ask(f"%%chat --allow-secrets\nit is {SECRET}, and {OWN}")
    [request] = guarded.service.requests
    assert f"it is {SECRET}, and {OWN}" in request.json["messages"][-1]["content"]
    assert noticed(ran) == []
    guarded.kernel.run("%chat_history\n%chat_receipt\n%chat_cassette")
    guarded.service.requests.clear()
    assert guarded.leaks() == []
    ran = guarded.ask("%chat go on")
    assert len(guarded.service.requests[0].json["messages"]) == 3
    assert noticed(ran) == [f"{NAME}, a secret"]
    assert guarded.leaks() == []


@pytest.mark.parametrize(
    "flags",
    [
        "--image ../given/image.png",
        "--file ../given/paper.pdf",
        "--file ../given/text.py",
        "--with own",
    ],
)
def test_what_goes_along_is_sent_as_it_is_where_that_is_allowed(guarded, given, flags):
    guarded.service.on(PATH, OPENAI.whole("It is ", SECRET))
    guarded.ask(f"%chat --no-history --allow-secrets {flags} what is it?")
    [request] = guarded.service.requests
    assert holds(request.body)
    guarded.service.requests.clear()
    assert guarded.leaks() == []


# -- every protocol, and what asks by itself


NAMES = {cls.rpartition(":")[2]: name for name, cls in registry.BUILT_IN.items()}
NAMES["Responses"] = "openai"


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=str)
def test_no_protocol_carries_it(guarded, given, protocol):
    service, provider = guarded.service, protocol.provider
    protocol.prepare(service)
    service.on(protocol.path, protocol.whole("so: ", SECRET[:9], SECRET[9:], " ", OWN[:4], OWN[4:]))
    names = [*getattr(provider, "key_variables", ())[:1], provider.url_variables[0]]
    values = ["sk-another-key-of-the-tests", service.url][-len(names) :]
    before = "before = dict(os.environ)\n"
    if provider.protocol:
        before += f"%config IPyChat.protocols = {{'openai': {provider.protocol!r}}}\n"
    guarded.set_up(before + f"os.environ.update({dict(zip(names, values, strict=True))})")
    model = f"{NAMES[provider.__name__]}:{protocol.model}"
    ran = guarded.ask(f"%chat -m {model} --system 'You know {{{{token}}}}' it is {{{{own}}}}")
    guarded.set_up("os.environ.clear(); os.environ.update(before)\n%config IPyChat.protocols = {}")
    assert "so: ••• •••" in ran.shown()
    assert set(noticed(ran)[0].split(", ")) == {NAME, "a secret"}
    assert service.asked(protocol.path)
    assert guarded.leaks() == []


@pytest.mark.parametrize("protocol", [OPENAI, *ONLINE[:2]], ids=str)
def test_no_protocol_carries_it_in_an_image(guarded, given, protocol):
    service, provider = guarded.service, protocol.provider
    service.on(protocol.path, protocol.whole("fine"))
    names = {
        provider.key_variables[0]: "sk-another-key-of-the-tests",
        provider.url_variables[0]: service.url,
    }
    guarded.set_up(f"before = dict(os.environ)\nos.environ.update({names})")
    model = f"{NAMES[provider.__name__]}:{protocol.model}"
    ran = guarded.ask(
        f"%chat -m {model} --image ../given/image.png --file ../given/paper.pdf what is it?"
    )
    guarded.set_up("os.environ.clear(); os.environ.update(before)")
    assert noticed(ran) == [f"{NAME}, a secret"]
    [request] = service.requests
    assert b"iVBORw0KGgo" in request.body
    assert guarded.leaks() == []


def test_who_is_asked_instead_gets_it_neither(guarded):
    failing = answer(b'{"error": {"message": "no luck"}}', status=400)
    guarded.service.on(PATH, failing, OPENAI.whole("fine"))
    guarded.set_up("%config IPyChat.fallbacks = {'openai:m': ['openai:n']}")
    ran = guarded.ask("%chat it is {{token}}")
    guarded.set_up("%config IPyChat.fallbacks = {}")
    assert [one.json["model"] for one in guarded.service.requests] == ["m", "n"]
    assert noticed(ran) == [NAME, NAME]
    assert guarded.leaks() == []


def test_an_error_that_repeats_it_tells_it_in_no_form(guarded):
    said = json.dumps({"error": {"message": f"what is {SECRET} {OWN} {quote(SECRET)}?"}})
    guarded.service.on(PATH, answer(said.encode(), status=400, content_type="application/json"))
    ran = guarded.kernel.run("%chat it is {{token}}")
    assert "what is ••• ••• •••?" in ran.error
    guarded.kernel.run("%tb")
    guarded.kernel.run("%chat_history")
    assert guarded.leaks() == []


@pytest.mark.parametrize("name", ["a", OWN])
def test_a_question_of_the_panels_page_is_masked(guarded, name):
    page = Page(guarded.kernel)
    files = [{"name": f"{name}.txt", "type": "text/plain"}, {"name": "b.png", "type": "image/png"}]
    assert (
        page.do("ask", [SECRET.encode(), png(*ENCODED)], text=f"it is {SECRET}", files=files)
        is None
    )
    page.until_done()
    assert any(NAME in notice for head in page.heads.values() for notice in head["notices"])
    assert guarded.service.requests
    assert guarded.leaks() == []


@pytest.mark.parametrize("agent", ["RepoAgent", "GeneralCodingAgent"])
def test_what_the_gateways_agents_see_for_themselves_is_masked(guarded, agent):
    repo = guarded.folder / "work"
    (repo / "app.py").write_text(f"# what connects\ntoken = {SECRET!r}  # {OWN}\n{LINES}\n")
    subprocess.run(["git", "init", "-q"], cwd=repo, check=True)
    subprocess.run(["git", "add", "app.py"], cwd=repo, check=True)
    guarded.set_up(
        "connection = f'it is {token}'\nclass Connection: token = own\nseen = Connection()"
    )
    guarded.ask(f"%chat -m robocoders:{agent} what is in app.py?")
    (repo / "app.py").unlink()
    guarded.set_up("del connection, seen")
    [request] = guarded.service.asked(PATH)
    assert "•••" in request.body.decode() or "\\u2022" in request.body.decode()
    assert guarded.leaks() == []


# -- what is a secret, and what is none


def test_before_the_first_question_no_cut_leaves_half_of_it(kernel, service):
    """The first question itself cuts what goes along."""
    notebook = kernel(**{NAME: OWN})
    service.on(PATH, OPENAI.whole("fine"))
    notebook.run(
        "import os\na, b, c, d = (('x' * n + os.environ['MY_SERVICE_TOKEN']) * 99 for n in (1960, 1951, 95, 93))"
    )
    notebook.run("%chat --with a --with b --with c --with d hi")
    halves = re.findall(OWN[:8], service.requests[0].body.decode())
    assert not halves


def test_what_only_looks_like_a_secret_is_sent_as_it_is(kernel, service):
    ordinary = {
        "SSH_KEY_PATH": "/home/someone/.ssh/id_ed25519",
        "SOME_KEYRING_DIR": "/Users/Someone1/Library/KeychainsOfMine",
        "A_TOKEN_FILE": "~/.config/a-token-file",
        "TOKENIZERS_PARALLELISM": "false-but-longer",
        "KEYBOARD_LAYOUT": "a-long-layout-of-keys",
        "GIT_AUTHOR_NAME": "Somebody Else Here",
        "SHORT_TOKEN": "shorter",
        "PLAIN_VALUE": "a value of nothing special",
        "SOME_URL": "https://example.org/a/path",
        "TOKEN_SERVICE": "https://example.org/token/service",
    }
    notebook = kernel(**ordinary)
    service.on(PATH, OPENAI.whole("fine"))
    prompt = "\n".join(ordinary.values())
    ran = notebook.run(f"%%chat\n{prompt}")
    assert service.requests[0].json["messages"][-1]["content"] == prompt
    assert noticed(ran) == []


def test_a_key_of_many_lines_is_masked_however_its_lines_are_set(kernel, service):
    notebook = kernel(A_PRIVATE_KEY=LINES)
    service.on(PATH, OPENAI.whole(*(LINES[at : at + 37] for at in range(0, len(LINES), 37))))
    written = {
        "as it is": LINES,
        "of Windows": LINES.replace("\n", "\r\n"),
        "indented": LINES.replace("\n", "\n    "),
        "quoted": LINES.replace("\n", "\n> "),
        "in JSON": json.dumps({"key": LINES}),
        "its middle": "\n".join(LINES.splitlines()[3:6]),
        "of a file": LINES + "\n",
    }
    for number, text in enumerate(written.values()):
        ran = notebook.run(f"%chat --no-history {{{{{text!r}}}}}")
        assert CORE not in service.requests[number].body.decode()
        assert noticed(ran) == ["A_PRIVATE_KEY"]
        assert CORE not in json.dumps(
            [m["content"] for m in ran.messages if m["msg_type"] != "execute_input"]
        )


def test_variables_that_the_user_names_are_secrets_too(kernel, service):
    notebook = kernel(OF_MINE=OWN)
    service.on(PATH, OPENAI.whole("fine"))
    notebook.run("%config IPyChat.secrets = ['OF_MINE']")
    ran = notebook.run(f"%chat it is {OWN}")
    assert noticed(ran) == ["OF_MINE"]
    assert OWN.encode() not in service.requests[0].body


# -- the firewall itself


def request(*messages, **options):
    return Question(ModelId("openai", "m"), messages, options)


@pytest.fixture
def own():
    secrets.register(OWN, "own")
    return OWN


def test_a_request_without_secrets_stays_the_one_it_is(own):
    asked = request(Message("user", "hi"), user="me")
    assert firewall.masked(asked) == (asked, [])
    assert firewall.masked(asked)[0] is asked


def test_every_text_of_a_message_is_masked(own):
    call = ToolCall(own, own, own)
    content = (FilePart(f"{own}.bin", b"\0" + own.encode()), ImagePart(f"https://h/?{own}"))
    masked, names = firewall.masked(
        request(
            Message("assistant", (call,)),
            Message("tool", own, tool_call_id=own),
            Message("user", content),
        )
    )
    assert names == ["own"]
    assert not holds(repr([vars_of(message) for message in masked.messages]).encode())


def vars_of(message):
    return message.to_dict(), message.parts


def test_files_and_images_stay_as_long_as_they_were_and_can_be_read(own):
    image = ImagePart.of_bytes(png(own.encode(), own.encode("utf-16-le")), "image/png")
    file = FilePart("a.pdf", b"%PDF-1.7\n" + own.encode())
    masked, _ = firewall.masked(request(Message("user", (image, file))))
    [first, second] = masked.messages[0].parts
    assert len(first.url) == len(image.url)
    assert len(second.data) == len(file.data)
    assert base64.b64decode(first.url.partition(",")[2], validate=True).endswith(b"IEND\xaeB`\x82")


def test_options_are_masked_but_for_those_that_are_meant_to_be_secret(own):
    tools = [{"type": "function", "function": {"name": "f", "description": f"takes {own}"}}]
    meant = {"api_key": own, "base_url": f"http://127.0.0.1/{own}", "proxy": f"http://a:{own}@h",
             "extra_headers": {"Authorization": f"Bearer {own}"}}  # fmt: skip
    masked, names = firewall.masked(
        request(Message("user", "hi"), tools=tools, user=own, top_k=3, stop=(own,), **meant)
    )
    assert names == ["own"]
    assert masked.options == {
        "tools": [{"type": "function", "function": {"name": "f", "description": "takes •••"}}],
        "user": "•••", "top_k": 3, "stop": ["•••"], **meant,
    }  # fmt: skip


def test_an_option_is_masked_on_its_way(guarded):
    ran = guarded.ask("%chat --option user={{own}} hi")
    assert guarded.service.requests[0].json["user"] == "•••"
    assert noticed(ran) == ["a secret"]
    assert guarded.leaks() == []
