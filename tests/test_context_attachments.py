"""Files and images as parts of a message."""

import asyncio
import base64
import os
import threading
import time
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from ipychat import secrets
from ipychat.context import attachments
from ipychat.context.attachments import file_part, image_part
from ipychat.errors import UsageError
from ipychat.messages import FilePart, ImagePart, TextPart
from ipychat.wire import aside
from tests.protocols import OPENAI
from tests.test_magics import PATH

SECRET = "sk-a-key-of-the-notebook's-user-0123456789"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
JPEG, GIF, WEBP = b"\xff\xd8\xff\xe0 and more", b"GIF89a and more", b"RIFF\0\0\0\0WEBPVP8 "
OF_TYPE = {"image/png": PNG, "image/jpeg": JPEG, "image/gif": GIF, "image/webp": WEBP}


@pytest.fixture(autouse=True)
def _known():
    secrets.register(SECRET)


# -- files


def test_a_text_file_is_its_name_and_its_content_fenced(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src/a.py").write_text("x = '€'\n")
    assert file_part("src/a.py", base=tmp_path) == TextPart("src/a.py\n```py\nx = '€'\n```")
    assert file_part(tmp_path / "src/a.py") == TextPart("a.py\n```py\nx = '€'\n```")


def test_a_fence_is_longer_than_any_in_the_file(tmp_path):
    (tmp_path / "a.md").write_text("````\n```py\n```\n````")
    part = file_part("a.md", base=tmp_path)
    assert part.text == "a.md\n`````md\n````\n```py\n```\n````\n`````"


def test_a_mark_at_the_beginning_of_a_text_is_dropped_and_an_empty_file_is_a_text(tmp_path):
    (tmp_path / "a").write_text("a", encoding="utf-8-sig")
    assert file_part(tmp_path / "a").text == "a\n```\na\n```"
    (tmp_path / "b").touch()
    assert file_part(tmp_path / "b").text == "b\n```\n\n```"


def test_a_secret_in_a_file_is_masked(tmp_path):
    (tmp_path / ".env").write_text(f"KEY={SECRET}")
    text = secrets.mask(file_part(tmp_path / ".env").text)  # as the firewall does
    assert text == f".env\n```\nKEY={secrets.MASK}\n```"


@pytest.mark.parametrize(("kind", "data"), OF_TYPE.items())
def test_an_image_is_known_by_its_bytes_whatever_its_name(tmp_path, kind, data):
    (tmp_path / "a.txt").write_bytes(data)
    assert file_part(tmp_path / "a.txt") == ImagePart.of_bytes(data, kind)


def test_a_pdf_goes_along_as_a_file(tmp_path):
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7 \xff")
    assert file_part(tmp_path / "a.pdf") == FilePart("a.pdf", b"%PDF-1.7 \xff", "application/pdf")


def test_a_tilde_is_the_home_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.txt").write_text("a")
    assert file_part("~/a.txt", base=Path("/elsewhere")).text.startswith("a.txt\n")


@pytest.mark.parametrize("data", [b"\xff\xfea\0", b"a\0b", b"\x7fELF\xff", b"RIFF1234WAVE\xff"])
def test_other_binary_files_are_refused(tmp_path, data):
    (tmp_path / "a.bin").write_bytes(data)
    with pytest.raises(UsageError, match=r"a.bin is neither a text in UTF-8 nor an image"):
        file_part("a.bin", base=tmp_path)


def test_a_file_may_be_as_large_as_its_limit_and_no_larger(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"a" * attachments.TEXT_LIMIT)
    assert len(file_part(path).text) > attachments.TEXT_LIMIT
    path.write_bytes(b"a" * (attachments.TEXT_LIMIT + 1))
    with pytest.raises(
        UsageError, match="has 1,048,577 bytes; an attached text has at most 1,048,576"
    ):
        file_part(path)
    with path.open("wb") as file:
        file.write(PNG)
        file.truncate(attachments.BINARY_LIMIT)
    assert isinstance(file_part(path), ImagePart)
    os.truncate(path, 10**12)  # it has holes: it takes no space
    with pytest.raises(UsageError, match="too large"):
        file_part(path)


def test_what_is_not_there_or_no_file_or_not_to_be_read_is_one_line(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, told in {
        "no.txt": f"There is no file no.txt in {tmp_path}.",
        ".": ". is not a file but a folder",
        "pipe": "pipe is not a file but a device or a pipe",
        "a\0b": "embedded null",  # the rest is each Python's own
        "x" * 5000: "can't be read: File name too long",
        "~no-such-user/a": "can't be read: Could not determine home directory",
        "/no/such": "There is no file /no/such.",
        "/dev/zero": "/dev/zero is not a file but a device",
    }.items():
        with pytest.raises(UsageError) as raised:
            file_part(path, base=tmp_path)
        assert told in str(raised.value)
        assert "\n" not in str(raised.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_told(tmp_path):
    (tmp_path / "a").touch(mode=0)
    with pytest.raises(UsageError, match="a can't be read: Permission denied"):
        file_part("a", base=tmp_path)


# -- images


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_are_an_image_if_they_begin_like_one(kind):
    assert image_part(kind(PNG), "x") == ImagePart.of_bytes(PNG, "image/png")
    with pytest.raises(UsageError, match="x is not a PNG, JPEG, GIF or WebP image"):
        image_part(kind(b"text"), "x")


def test_an_address_is_an_image_as_it_is():
    assert image_part("https://x.org/a.png?b=1", "x") == ImagePart("https://x.org/a.png?b=1")


def test_a_path_is_an_image_if_its_file_is(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "b.png").write_text("text")
    for path in (tmp_path / "a.png", str(tmp_path / "a.png")):
        assert image_part(path, "x") == ImagePart.of_bytes(PNG, "image/png")
    with pytest.raises(UsageError, match="x is not a PNG, JPEG, GIF or WebP"):
        image_part(tmp_path / "b.png", "x")
    with pytest.raises(UsageError, match="There is no file /no/such"):
        image_part("/no/such", "x")


def test_an_image_has_a_limit(monkeypatch):
    monkeypatch.setattr(attachments, "BINARY_LIMIT", 10)
    with pytest.raises(UsageError, match="x is too large: an image has at most 10 bytes"):
        image_part(PNG, "x")


class Figure:
    def savefig(self, file, **options):
        file.write({"png": PNG}[options["format"]])


class Axes:
    figure = Figure()


def test_a_figure_and_what_belongs_to_one_is_drawn():
    assert image_part(Figure(), "fig") == ImagePart.of_bytes(PNG, "image/png")
    assert image_part(Axes(), "ax") == ImagePart.of_bytes(PNG, "image/png")


def test_a_figure_that_fails_is_told():
    class Broken:
        def savefig(self, *_, **__):
            raise ValueError("no axes")

    with pytest.raises(UsageError, match="fig could not be drawn: ValueError: no axes"):
        image_part(Broken(), "fig")


@pytest.mark.parametrize(
    "shown", [PNG, base64.b64encode(PNG).decode(), (PNG, {"width": 1}), memoryview(PNG)]
)
@pytest.mark.parametrize("method", ["_repr_png_", "_repr_jpeg_"])
def test_what_shows_itself_as_an_image_is_one(method, shown):
    value = type("Shown", (), {method: lambda self: shown})()
    assert image_part(value, "x") == ImagePart.of_bytes(PNG, "image/png")


def test_an_image_of_ipython_shows_itself():
    from IPython.display import Image

    assert image_part(Image(data=PNG), "x") == ImagePart.of_bytes(PNG, "image/png")


def test_what_shows_itself_as_nothing_is_no_image():
    value = type("Shown", (), {"_repr_png_": lambda self: None})()
    with pytest.raises(UsageError, match="x is no image but of type Shown"):
        image_part(value, "x")


@pytest.mark.parametrize("value", [None, 1, [PNG], {}, object(), Figure, MagicMock()])
def test_anything_else_is_refused_by_its_name_and_type(value):
    with pytest.raises(UsageError, match=f"x is no image but of type {type(value).__name__}"):
        image_part(value, "x")


# -- files without an end


async def test_whoever_waits_for_a_disk_that_is_gone_can_leave():
    gone = threading.Event()
    task = asyncio.create_task(aside.run(gone.wait))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gone.set()


@pytest.mark.skipif(not Path("/proc/kmsg").exists(), reason="Linux has such files")
def test_a_file_of_the_system_that_never_ends_is_refused_with_the_reason():
    with pytest.raises(UsageError, match=r"is endless|can't be read"):
        file_part("/proc/kmsg")


GONE = """
import os, threading, time
from pathlib import Path
Path("gone.txt").write_text("x")
opened = os.open
def open_on_a_mount_that_is_gone(path, *how, **more):
    if "gone.txt" in str(path):
        Path("begun").touch()
        time.sleep(60)
    return opened(path, *how, **more)
os.open = open_on_a_mount_that_is_gone
"""


@pytest.mark.parametrize("flag", ["--file", "--image"])
def test_a_file_on_a_mount_that_is_gone_holds_no_cell(kernel, service, tmp_path, flag):
    service.on(PATH, OPENAI.whole("ok"))
    notebook = kernel()
    assert notebook.run(GONE).status == "ok"
    sent = notebook.send(f"%chat {flag} gone.txt hi")
    notebook.wait_for(lambda: (tmp_path / "begun").exists())
    began = time.monotonic()
    notebook.interrupt()
    ran = notebook.wait(sent)
    assert (ran.status, ran.reply["ename"]) == ("error", "InterruptedAnswerError"), ran.error
    assert time.monotonic() - began < 5
    assert notebook.run("%chat hi").status == "ok"
    assert len(service.requests) == 1
