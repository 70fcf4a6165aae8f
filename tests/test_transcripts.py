"""Conversations on disk: lines are appended whole, by many; what is torn or damaged costs itself."""

import contextlib
import json
import os
import resource
import stat
import subprocess
import sys

import pytest

from ipychat import secrets
from ipychat.errors import StoreError
from ipychat.store import files, transcripts
from ipychat.store.transcripts import Transcript

APPENDS = """
import sys
from pathlib import Path
from ipychat.store.transcripts import Transcript
transcript, who = Transcript(Path(sys.argv[1])), int(sys.argv[2])
for number in range(50):
    transcript.append({"who": who, "number": number, "padding": "ü" * (number * 97 % 9000)})
"""
ONE, TWO, THREE = {"n": 1, "text": "één\nline\u2028"}, {"n": 2, "text": "two ✓"}, {"n": 3}


@pytest.fixture
def transcript(tmp_path):
    return Transcript(tmp_path / "folder" / "a.jsonl")


@contextlib.contextmanager
def a_disk_with_room_for(size):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_was_appended_is_read_in_order(transcript):
    assert transcript.read() == []
    transcript.append(ONE, TWO)
    transcript.append()
    transcript.append(THREE)
    assert transcript.read() == [ONE, TWO, THREE]
    assert transcript.path.read_bytes().count(b"\n") == 3


def test_a_file_that_is_not_there_is_not_made_by_reading(transcript):
    transcript.read()
    transcript.append()
    assert not transcript.path.parent.exists()


def test_the_files_are_private_whatever_the_umask(transcript):
    before = os.umask(0)
    try:
        transcript.append(ONE)
        with transcript.path.open("ab") as file:
            file.write(b"{")
        transcript.append(TWO)
    finally:
        os.umask(before)
    assert stat.S_IMODE(transcript.path.parent.stat().st_mode) == 0o700
    for file in transcript.path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


@pytest.mark.heavy
def test_eight_processes_lose_no_record_and_mix_no_line(transcript):
    running = [
        subprocess.Popen([sys.executable, "-c", APPENDS, str(transcript.path), str(who)])
        for who in range(8)
    ]
    for process in running:
        assert process.wait(timeout=100) == 0
    lines = transcript.path.read_bytes().splitlines()
    assert [json.loads(line) for line in lines] == transcript.read()
    for who in range(8):
        mine = [record["number"] for record in transcript.read() if record["who"] == who]
        assert mine == list(range(50))


def test_a_last_line_torn_at_any_byte_is_left_out_then_cut_off_and_kept(tmp_path, caplog):
    first, last = (transcripts._line(record) for record in (ONE, TWO))
    for cut in range(1, len(last) - 1):
        transcript = Transcript(tmp_path / str(cut) / "a.jsonl")
        files.write(transcript.path, first + last[:cut])
        assert transcript.read() == [ONE], cut
        transcript.append(THREE)
        assert transcript.read() == [ONE, THREE], cut
        [aside] = transcript.path.parent.glob("a.jsonl.torn-*")
        assert aside.read_bytes() == last[:cut]
        assert f"Saved as {aside.name}" in caplog.text


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_last_line_that_lacks_nothing_but_its_end_is_no_torn_one(transcript, end):
    files.write(transcript.path, transcripts._line(ONE) + transcripts._line(TWO)[:-1] + end)
    assert transcript.read() == [ONE, TWO]
    transcript.append(THREE)
    assert transcript.read() == [ONE, TWO, THREE]
    assert not list(transcript.path.parent.glob("*.torn-*"))


@pytest.mark.parametrize("damage", [b'{"n": ', b"\xff\xfe", b"[1]", b"", b"[" * 100_000, b"\0\0"])
def test_a_damaged_line_is_reported_and_the_rest_is_read(transcript, damage):
    transcript.append(ONE)
    with transcript.path.open("ab") as file:
        file.write(damage + b"\n" + damage + b"\n")
    transcript.append(TWO)
    before = transcript.path.read_bytes()
    with pytest.warns(UserWarning, match="2 of 4 lines") as reports:
        assert transcript.read() == [ONE, TWO]
    assert len(reports) == 1
    assert transcript.path.read_bytes() == before


@pytest.mark.parametrize("room", [0, 5])
def test_a_full_disk_is_an_error_and_the_file_stays_readable(transcript, room):
    transcript.append(ONE)
    size = transcript.path.stat().st_size
    with a_disk_with_room_for(size + room), pytest.raises(StoreError, match="Can't write"):
        transcript.append(TWO, THREE)
    assert transcript.path.stat().st_size == size
    assert transcript.read() == [ONE]
    transcript.append(THREE)
    assert transcript.read() == [ONE, THREE]
    assert not list(transcript.path.parent.glob("*.torn-*"))


def test_what_cannot_be_read_or_written_is_an_error_with_the_reason(transcript):
    transcript.path.mkdir(parents=True)
    with pytest.raises(StoreError, match=r"Can.t read .*Is a directory"):
        transcript.read()
    with pytest.raises(StoreError, match=r"Can.t write .*Is a directory"):
        transcript.append(ONE)


def test_what_json_cannot_say_is_an_error_or_its_repr(transcript):
    deep = []
    deep.append(deep)
    with pytest.raises(StoreError, match="as JSON"):
        transcript.append({"deep": deep})
    transcript.append({"bytes": b"x", 7: (1, None)})
    assert transcript.read() == [{"bytes": "b'x'", "7": [1, None]}]


def test_half_of_a_surrogate_pair_can_be_kept(transcript):
    transcript.append({"text": "\ud83d"}, {"text": "🙂"})
    assert transcript.read() == [{"text": "\ud83d"}, {"text": "🙂"}]


def test_a_known_secret_is_masked_in_every_text(transcript):
    secrets.register(secret := 'canary-of-"transcripts"-é')
    record = {secret: [{"deep": (f"x{secret}y",)}], "object": {secret}, "text": secret}
    transcript.append(record)
    with transcript.path.open("ab") as file:
        file.write(b"{")
    transcript.append(record)
    for file in transcript.path.parent.iterdir():
        content = file.read_bytes()
        assert b"canary-of" not in content, file
    assert transcript.read()[0]["text"] == secrets.MASK


def test_notebooks_of_the_same_name_have_folders_of_their_own():
    one = transcripts.notebook_folder("/a/My notes (1).v2.ipynb")
    two = transcripts.notebook_folder("/b/My notes (1).v2.ipynb")
    assert one != two
    assert one.parent == files.home() / "transcripts"
    assert one.name.startswith("My-notes-1-v2-")
    assert len(transcripts.notebook_folder(f"/{'x' * 300}/{'y' * 300}.ipynb").name) == 51


NAMES = ["default", "a/b", "..", ".", "../../x", "A", "a", "%41", "été", "数" * 80, "x" * 300,
         "x" * 301, "~", "a b", "a\\b", "nul\0", "a.jsonl", "\ud83d"]  # fmt: skip


def test_any_name_of_a_conversation_is_a_safe_file_name_and_is_found_again(tmp_path):
    folder = tmp_path / "notebook"
    for name in NAMES:
        Transcript(folder / transcripts.file_name(name)).append({"type": "named", "name": name})
    assert transcripts.names(folder) == sorted(NAMES)
    found = [path.name.lower() for path in folder.glob("*.jsonl")]
    assert len(set(found)) == len(NAMES)
    assert all(len(name) < 200 and not name.startswith(".") for name in found)
    assert list(tmp_path.iterdir()) == [folder]


def test_a_hashed_name_whose_record_is_damaged_is_listed_by_its_hash(tmp_path):
    file = transcripts.file_name("x" * 300)
    (tmp_path / file).write_text("damaged\n")
    assert transcripts.names(tmp_path) == [file.removesuffix(".jsonl")]
    assert transcripts.names(tmp_path / "missing") == []
