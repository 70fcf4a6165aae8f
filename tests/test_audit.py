"""Secrets in notebooks and cassettes: what is planted is found, and told without being told."""

import base64
import json
import os
import random
import re
import string
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from ipychat import audit, config, secrets
from ipychat.messages import Message, ModelId, Question, Reply
from ipychat.store import replay
from ipychat.store.answers import AnswerStore, Entry, Receipt
from ipychat.text import shapes

ROOT = Path(__file__).parents[1]
NAME = "PLANTED_TOKEN"


def made_up(kinds: str, size: int, seed: int = 1) -> str:
    """Characters that no service has given to anyone."""
    return "".join(random.Random(seed).choices(kinds, k=size))


WORD = string.ascii_letters + string.digits
CANARY = f"canary-{made_up(WORD, 24, 7)}"


def tokens(seed: int = 1) -> dict[str, str]:
    """One token of each shape."""

    def some(kinds: str, size: int) -> str:
        return made_up(kinds, size, seed)

    return {
        "an Anthropic key": "sk-" + "ant-api03-" + some(WORD, 80),
        "an OpenRouter key": "sk-" + "or-v1-" + some(string.hexdigits[:16], 64),
        "an OpenAI-style key": "sk-" + "proj-" + some(WORD, 60),
        "a Google key": "AI" + "za" + some(WORD, 35),
        "a Google OAuth token": "ya" + "29.a0" + some(WORD, 80),
        "a Google client secret": "GOC" + "SPX-" + some(WORD, 28),
        "an xAI key": "xa" + "i-" + some(WORD, 80),
        "a Groq key": "gs" + "k_" + some(WORD, 52),
        "a Perplexity key": "pp" + "lx-" + some(WORD, 48),
        "a Together key": "tgp" + "_v1_" + some(WORD, 43),
        "a LangSmith key": "lsv2" + "_pt_" + some(WORD, 32) + "_" + some(WORD, 10),
        "a Hugging Face token": "hf" + "_" + some(WORD, 34),
        "a Replicate token": "r" + "8_" + some(WORD, 37),
        "a Databricks token": "da" + "pi" + some(string.hexdigits[:16], 32),
        "a personal GitHub token": "gh" + "p_" + some(WORD, 36),
        "a fine-grained GitHub token": "github" + "_pat_" + some(WORD, 82),
        "a personal GitLab token": "gl" + "pat-" + some(WORD, 20),
        "a PyPI token": "pypi" + "-AgE" + some(WORD, 150),
        "an npm token": "np" + "m_" + some(WORD, 36),
        "a Slack token": "xo" + "xb-" + some(string.digits, 12) + "-" + some(WORD, 24),
        "a Stripe key": "sk" + "_live_" + some(WORD, 24),
        "an AWS key": "AK" + "IA" + some(string.ascii_uppercase + string.digits, 16),
        "a JSON web token": ".".join(["ey" + "J" + some(WORD, 30)] * 2 + [some(WORD, 40)]),
        "a private key": "-----BEGIN RSA " + "PRIVATE KEY-----\n" + some(WORD, 64) + "\n",
        "a password in an address": "postgres://me:" + some(WORD, 9) + "@db.example.org/x",
        "a Jupyter server token": "http://localhost:8888/?tok" + "en=" + some("0123456789abcdef", 48),
    }  # fmt: skip


TOKENS = tokens()
TOKEN = TOKENS["a personal GitHub token"]


@pytest.fixture(autouse=True)
def _planted(monkeypatch):
    monkeypatch.setenv(NAME, CANARY)


@pytest.fixture
def book(tmp_path):
    """Writes a notebook with cells of these, and says what is found in it."""

    def found_in(*cells, **more):
        notebook = {"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        return whats(written(tmp_path / "a.ipynb", json.dumps(notebook | more)))

    return found_in


def written(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def whats(*paths: Path) -> list[tuple[str, str]]:
    _, found = audit.scan(paths)
    assert CANARY not in "".join(map(str, found))
    return [(one.where, one.what) for one in found]


def code(source="1", **more):
    return {"cell_type": "code", "source": source, "metadata": {}, "outputs": [], **more}


def png(text: bytes) -> bytes:
    """An image's bytes with a text among them."""
    return b"\x89PNG\r\n\x1a\n" + random.Random(5).randbytes(90) + b"tEXt\0" + text + b"\0" * 40


# -- where it may stand


@pytest.mark.parametrize(
    "canary",
    [CANARY, TOKEN],
    ids=["known", "of a form"],
)
@pytest.mark.parametrize(
    ("where", "plant"),
    {
        "cell 1, source": lambda it: code(f"token = '{it}'\nprint(1)"),
        "cell 1, outputs": lambda it: code(
            outputs=[{"output_type": "stream", "name": "stdout", "text": ["one\n", f"{it}\n"]}]
        ),
        "cell 1, outputs (html)": lambda it: code(
            outputs=[{"data": {"text/html": [f"<td>{it}</td>"], "text/plain": ["x"]}}]
        ),
        "cell 1, outputs (traceback)": lambda it: code(
            outputs=[{"output_type": "error", "traceback": ["\x1b[31mx\x1b[0m", f"\x1b[0m {it}"]}]
        ),
        "cell 1, outputs (image)": lambda it: code(
            outputs=[{"data": {"image/png": base64.b64encode(png(it.encode())).decode()}}]
        ),
        "cell 1, outputs (image in lines)": lambda it: code(
            outputs=[{"data": {"image/png": base64.encodebytes(png(it.encode())).decode()}}]
        ),
        "cell 1, outputs (svg)": lambda it: code(
            outputs=[{"data": {"image/svg+xml": f"<svg><text>{it}</text></svg>"}}]
        ),
        "cell 1, outputs (a page's image)": lambda it: code(
            outputs=[
                {
                    "data": {
                        "text/html": f'<img src="data:image/png;base64,{base64.b64encode(png(it.encode())).decode()}">'
                    }
                }
            ]
        ),
        "cell 1, outputs (json)": lambda it: code(
            outputs=[{"data": {"application/json": {"deep": [{it: 1}]}}}]
        ),
        "cell 1, metadata": lambda it: code(metadata={"tags": ["a", "b", it]}),
        "cell 1, id": lambda it: code(id=it),
        "cell 1, attachments": lambda it: {
            "cell_type": "markdown",
            "source": "![](attachment:a.png)",
            "attachments": {"a.png": {"image/png": base64.b64encode(png(it.encode())).decode()}},
        },
        "cell 1, source (Markdown)": lambda it: {
            "cell_type": "markdown",
            "source": [f"[this](https://x/?a={it})\n", "x"],
        },
        "cell 1, source (cut)": lambda it: code([it[:9], it[9:], " = 1"]),
    }.items(),
    ids=lambda it: it if isinstance(it, str) else "planted",
)
def test_what_is_planted_is_found_wherever_it_is(book, where, plant, canary):
    [(found, what)] = book(plant(canary))
    assert found == where.partition(" (")[0]
    assert what in {f"{NAME}, known on this machine", "a personal GitHub token"}


def test_it_is_found_in_the_notebooks_own_metadata_and_in_what_is_no_cell(book):
    assert [where for where, _ in book(metadata={"x": [CANARY]})] == ["notebook"]
    assert [where for where, _ in book(CANARY, code())] == ["cell 1, no cell"]


def test_it_is_found_as_json_escapes_it(tmp_path):
    escaped = "".join(f"\\u{ord(sign):04x}" for sign in CANARY)
    path = written(tmp_path / "a.ipynb", f'{{"cells": [{{"source": "x = {escaped}"}}]}}')
    assert [where for where, _ in whats(path)] == ["cell 1, source"]


@pytest.mark.parametrize(
    "plant",
    [
        lambda it: f'{{"cells": [\n"{it}',
        lambda it: f"<<<<<<< HEAD\n x = {it}\n=======",
        lambda it: "{\n" + "".join(f"\\u{ord(sign):04x}" for sign in it),
        lambda it: f"[\n{json.dumps(it)}, \xff]".encode("latin-1"),
        lambda it: f"[\n{json.dumps(it)}, ".encode("utf-16"),
        lambda it: "[\n" + "[" * 100_000 + f'"{it}"',
    ],
    ids=["torn", "a merge's", "escaped", "no UTF-8", "UTF-16", "too deep"],
)
@pytest.mark.parametrize("canary", [CANARY, TOKEN], ids=["known", "of a form"])
def test_it_is_found_in_a_damaged_notebook_with_its_line(tmp_path, plant, canary):
    path = written(tmp_path / "a.ipynb", plant(canary))
    assert [where for where, _ in whats(path)] == ["line 2"]


def test_a_deep_notebook_is_read_to_its_ground(tmp_path):
    path = written(tmp_path / "a.ipynb", "[" * 900 + f'"{CANARY}"' + "]" * 900)
    assert [where for where, _ in whats(path)] == ["text"]


def test_a_key_of_several_lines_is_found_in_a_damaged_notebook(tmp_path):
    key = TOKENS["a private key"]
    path = written(tmp_path / "a.ipynb", "{" + key)
    assert whats(path) == [("lines 1 to 3", "a private key")]


async def test_it_is_found_in_a_cassettes_entry_and_no_masked_one_is(tmp_path, monkeypatch):
    monkeypatch.setenv(config.CASSETTE_VARIABLE, str(tmp_path / "__chat__"))
    asked = Receipt.of({"messages": [{"text": f"it is {TOKEN}"}]})
    reply = Reply(Question(ModelId("openai", "m"), (Message("user", "hi"),)), finish="stop")
    secrets.register(CANARY, NAME)
    await replay.keep(asked, Reply(reply.request, text=f"{CANARY}!", finish="stop"))
    assert whats(tmp_path) == [("asked", "a personal GitHub token")]
    assert whats(tmp_path) == whats(tmp_path / "__chat__")


def test_a_cassette_elsewhere_is_known_by_its_entries_names(tmp_path):
    entry = Entry(Receipt.of({"messages": [TOKEN]}), {"text": "hi"})
    AnswerStore(tmp_path / "answers", shared=False).keep(entry, {})
    assert whats(tmp_path) == [("asked", "a personal GitHub token")]


def test_the_cassette_that_one_stands_in_is_searched(tmp_path, monkeypatch):
    written(tmp_path / "__chat__" / "names.json", json.dumps({"a": {"b": TOKEN}}))
    monkeypatch.chdir(tmp_path / "__chat__")
    assert whats(Path()) == [("a", "a personal GitHub token")]


def test_it_is_found_in_a_files_name(tmp_path):
    path = written(tmp_path / f"of-{CANARY}.ipynb", "{}")
    [one] = audit.scan([path])[1]
    assert one.where == "its name"
    assert CANARY not in str(one)


@pytest.mark.parametrize(
    "written_as",
    [
        lambda it: base64.b64encode(f"me:{it}".encode()).decode(),
        lambda it: base64.b64encode(it.encode("utf-16-le")).decode(),
        lambda it: json.dumps(json.dumps(it)),
    ],
    ids=["Basic", "UTF-16", "JSON in JSON"],
)
def test_it_is_found_as_it_is_written_elsewhere(book, written_as):
    assert [where for where, _ in book(code(f"x {written_as(CANARY)}"))] == ["cell 1, source"]


# -- the forms of well-known tokens


@pytest.mark.parametrize("what", TOKENS)
@pytest.mark.parametrize("around", ["%s", "key = '%s'", "Bearer %s, and", '{"a": "%s"}', "(%s)"])
def test_a_token_is_known_by_its_form(book, what, around):
    assert {found for _, found in book(code(around % TOKENS[what]))} == {what}


def test_every_form_is_tested():
    assert {shape.what for several in shapes.shapes().values() for shape in several} == set(TOKENS)


@pytest.mark.parametrize(
    "text",
    [
        "sk-ant-your-api-key-goes-here-0123456789",
        "sk-" + "x" * 48,
        "sk-" + "proj-" + "X" * 40,
        "hf_" + "x" * 34,
        "gh" + "p_" + "x" * 36,
        "AK" + "IAIOSFODNN7EXAMPLE",
        "sk-" + "ant-" + "•••",
        "sk-" + "•••",
        "postgres://user:password@host/db",
        "postgres://user:•••@host/db",
        "postgres://user:$PASSWORD@host/db",
        "https://user:{password}@host",
        "http://localhost:8888/?token=•••",
        "http://localhost:8888/?token=<token>",
        "-----BEGIN PRIVATE KEY-----\n•••\n-----END PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
        "https://host:8080/a@b",
        "scikit-learn's sk-learn-tutorial-for-beginners-2024",
        "risk-assessment-of-the-2024-business-year-in-short",
        "git@github.com:me/x.git and me@example.org",
        made_up(WORD, 400),
        base64.b64encode(random.Random(3).randbytes(3000)).decode(),
    ],
    ids=str.__len__,
)
def test_what_stands_for_a_secret_or_only_looks_like_one_is_not_reported(book, text):
    assert book(code(f"a\n{text}\n")) == []


# -- what is told, and how it ends


def run(*arguments, **env):
    ran = subprocess.run(
        [sys.executable, "-m", "ipychat.audit", *map(str, arguments)],
        env={**os.environ, **env}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert CANARY not in ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
    return ran.returncode, ran.stdout, ran.stderr


@pytest.mark.heavy
def test_as_a_command_it_says_with_its_status_what_it_found(tmp_path):
    clean = written(tmp_path / "clean.ipynb", json.dumps({"cells": [code()]}))
    assert run(clean) == (0, "", "No secrets in 1 file.\n")
    bad = written(tmp_path / "bad.ipynb", json.dumps({"cells": [code(f"x = '{CANARY}'")]}))
    status, out, err = run(clean, bad)
    assert status == 1
    assert out == f"{bad}: cell 1, source: {NAME}, known on this machine\n"
    assert err.startswith("Secrets in 1 place of 2 files: remove them")
    assert run(tmp_path)[0] == 1


@pytest.mark.heavy
def test_of_a_variable_that_looks_like_no_secret_it_is_told(tmp_path):
    book = written(tmp_path / "a.ipynb", json.dumps({"cells": [code("a long enough phrase")]}))
    assert run(book, DSN_OF_MINE="a long enough phrase")[0] == 0
    status, out, _ = run("--variable", "DSN_OF_MINE", book, DSN_OF_MINE="a long enough phrase")
    assert status == 1
    assert "DSN_OF_MINE" in out


@pytest.mark.heavy
def test_a_path_that_is_not_there_is_an_error_before_anything_is_searched(tmp_path):
    written(tmp_path / "bad.ipynb", CANARY)
    for path in (tmp_path / "none.ipynb", tmp_path / ("n" * 300)):
        status, out, err = run(tmp_path / "bad.ipynb", path)
        assert (status, out) == (2, "")
        assert "Can't read" in err
    assert run()[0] == 2


@pytest.mark.heavy
@pytest.mark.skipif(os.name == "nt", reason="pipes and links")
def test_what_cant_be_read_is_told_beside_what_is_found(tmp_path):
    written(tmp_path / "bad.ipynb", CANARY)
    os.mkfifo(tmp_path / "pipe.ipynb")
    (tmp_path / "gone.ipynb").symlink_to(tmp_path / "nowhere")
    (tmp_path / "round.ipynb").symlink_to(tmp_path / "round.ipynb")
    status, out, err = run(tmp_path)
    assert status == 2
    assert len(re.findall(r"ipynb: can't be read: ", out)) == 3
    assert f"bad.ipynb: line 1: {NAME}" in out
    assert err.endswith("3 can't be read.\n")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_what_is_not_allowed_to_be_read_is_told(tmp_path):
    written(tmp_path / "a.ipynb", CANARY).chmod(0)
    (tmp_path / "folder").mkdir(mode=0)
    status, out, _ = run(tmp_path)
    assert status == 2
    assert out.count("Permission denied") == 2


def test_hidden_folders_are_left_alone_but_for_checkpoints_and_the_one_that_is_named(tmp_path):
    text = json.dumps({"cells": [code(CANARY)]})
    for folder in (".git", ".venv/lib", ".ipynb_checkpoints", "deep/er", "__chat__"):
        name = "0.json" if folder == "__chat__" else "a.ipynb"
        written(tmp_path / folder / name, text)
    written(tmp_path / "deep" / "other.json", text)
    looked_at, found = audit.scan([tmp_path])
    assert looked_at == 3
    assert {one.path.parent.name for one in found} == {".ipynb_checkpoints", "er", "__chat__"}
    assert len(whats(tmp_path / ".venv")) == 1
    assert len(whats(tmp_path / "deep" / "other.json")) == 1


@pytest.mark.heavy
@pytest.mark.skipif(os.name == "nt", reason="no such names")
def test_a_name_acts_on_no_terminal(tmp_path):
    name = "a\x1b[2J\nclean.ipynb: nothing\u202e\udcff.ipynb"
    path = written(tmp_path / name, CANARY)
    status, out, _ = run(path)
    assert status == 1
    assert out.count("\n") == 1
    assert out.rstrip("\n").isprintable()
    missing = run(tmp_path / f"no {name}")
    assert missing[0] == 2
    assert "\x1b" not in missing[2]


@pytest.mark.heavy
def test_what_a_file_calls_its_parts_tells_no_secret_and_acts_on_no_terminal(tmp_path):
    part = f"{CANARY} {TOKEN} \x1b[2J"
    path = written(tmp_path / "a.json", json.dumps({part: f"{CANARY}\n"}))
    book = written(tmp_path / "a.ipynb", json.dumps({"cells": [{part: CANARY}]}))
    status, out, _ = run(path, book)
    assert status == 1
    assert TOKEN not in out
    assert "\x1b" not in out


LONG = 1_000_000
"""Characters. Twice as many take twice as long, or this would take minutes."""


@pytest.mark.heavy
@pytest.mark.parametrize(
    "text",
    ["a.", "sk-", "sk-a1", "eyJaaaaaaaaaaa.", "-----BEGIN ", "-----BEGIN A A ", "a://b:", "://a:c",
     "ghp_", "A", "/", "x=", "\\u002d", "?token=0", "AAAA\n", "-----BEGIN PRIVATE KEY-----"],
)  # fmt: skip
def test_no_text_takes_long(tmp_path, text):
    whole = f"-----BEGIN sk- eyJ a://{text * (LONG // len(text))}"
    begin = time.perf_counter()
    for content in (json.dumps({"cells": [code(whole)]}), whole):
        whats(written(tmp_path / "a.ipynb", content))
    assert time.perf_counter() - begin < 20


@pytest.mark.heavy
def test_a_huge_notebook_is_searched_in_seconds(tmp_path):
    image = base64.encodebytes(random.Random(1).randbytes(8_000_000)).decode()
    outputs = [{"data": {"image/png": image.splitlines(keepends=True)}}]
    prose = "The quick brown fox, see https://example.org/a/b.\n"
    cells = [code([prose] * 50_000, outputs=outputs), code(f"x = '{CANARY}'")]
    path = written(tmp_path / "a.ipynb", json.dumps({"cells": cells}))
    begin = time.perf_counter()
    assert [where for where, _ in whats(path)] == ["cell 2, source"]
    assert time.perf_counter() - begin < 20


# -- in a kernel, and before a commit


def test_the_magic_shows_a_table_and_never_the_secret(kernel, tmp_path):
    notebook = kernel(**{NAME: CANARY})
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(f"x = '{CANARY}'")])
    (tmp_path / "of mine").mkdir()
    nbformat.write(book, tmp_path / "of mine" / "a.ipynb")
    ran = notebook.run("%chat_audit 'of mine'")
    assert ran.status == "ok", ran.error
    assert f"cell 1, source  {NAME}, known on this machine" in ran.shown()
    assert "Secrets in 1 place of 1 file" in ran.stdout
    assert CANARY not in json.dumps([message["content"] for message in ran.messages])
    assert "path of this notebook's file" in notebook.run("%chat_audit").error
    nbformat.write(book, tmp_path / "a notebook.ipynb")  # what JPY_SESSION_NAME names
    ran = notebook.run("%chat_audit")
    assert "Secrets in 1 place of 1 file" in ran.stdout
    written(tmp_path / "__chat__" / "names.json", json.dumps({"a": {"b": CANARY}}))
    notebook.run("%config IPyChat.cassette = True")
    assert "Secrets in 2 places of 2 files" in notebook.run("%chat_audit").stdout
    gone = notebook.run("%chat_audit nowhere")
    assert gone.status == "error"
    assert "Can't read nowhere" in gone.error


def test_before_a_commit_the_hook_is_given_notebooks_and_cassettes():
    yaml = pytest.importorskip("yaml")
    [hook] = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert hook["id"] == "ipychat-audit"
    assert hook["entry"] == "python -m ipychat.audit"
    given = re.compile(hook["files"])
    entry = f"{'0f' * 32}.json"
    for path in ("a.ipynb", "deep/a.ipynb", "__chat__/names.json", f"x/__chat__/{entry}", entry):
        assert given.search(path), path
    for path in ("a.py", "a.ipynb.txt", "package.json", "x__chat__/package.json"):
        assert not given.search(path), path
