"""What is kept on disk: private, atomic, locked, shared by kernels, surviving kills."""

import contextlib
import json
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ipychat.errors import StoreError
from ipychat.store import credentials, files
from ipychat.store.credentials import ServiceSession

UPDATES = """
import sys
from pathlib import Path
from ipychat.store import files
path, who = Path(sys.argv[1]), sys.argv[2]
for i in range(200):
    files.update_json(path, lambda kept: {**kept, f"{who}.{i}": "x"})
"""
LOGIN = """
import asyncio, os, sys
from ipychat.providers import RobocodersAPI
from ipychat.wire import http
async def main():
    given = RobocodersAPI.create_async_generator("", [{"role": "user", "content": "?"}])
    print("".join([piece async for piece in given]))
    await http.close()
asyncio.run(main())
"""


def processes(code: str, *arguments: list[str]) -> list[subprocess.Popen]:
    return [
        subprocess.Popen([sys.executable, "-c", code, *args], stdout=subprocess.PIPE)
        for args in arguments
    ]


@pytest.mark.heavy
def test_eight_processes_of_two_hundred_updates_lose_none(tmp_path):
    path = tmp_path / "robocoders.json"
    for process in processes(UPDATES, *([str(path), str(who)] for who in range(8))):
        process.communicate(timeout=100)
        assert process.returncode == 0
    assert len(json.loads(path.read_text())) == 1600
    assert not list(tmp_path.glob(".robocoders.json.*"))


@pytest.mark.heavy
def test_eight_processes_that_find_no_token_log_in_once(service, monkeypatch):
    from tests.loopback import answer
    from tests.protocols import login_page, session_page

    monkeypatch.setenv("IPYCHAT_ROBOCODERS_URL", service.url)
    service.on("/auth", [0.2, *login_page("a-token-of-the-service")])
    service.on("/create-session", session_page("s"))
    service.on("/chat", answer(b'{"message": "Hi"}\n'))
    for process in processes(LOGIN, *([] for _ in range(8))):
        assert process.communicate(timeout=60)[0] == b"Hi\n"
    assert len(service.asked("/auth")) == 1
    assert len(service.asked("/create-session")) == 1
    assert len(service.asked("/chat")) == 8


def _write_for_ever(path: Path) -> None:
    number = 0
    while True:
        number += 1
        files.write(path, json.dumps({"number": number, "padding": "x" * 5000}).encode())


@pytest.mark.slow("200 processes begin and are killed")
def test_a_process_killed_while_it_writes_leaves_the_file_whole(tmp_path):
    path = tmp_path / "robocoders.json"
    fork = multiprocessing.get_context("fork")
    for kill in range(200):
        writer = fork.Process(target=_write_for_ever, args=(path,))
        writer.start()
        before = path.stat().st_ino if path.exists() else None
        while not path.exists() or path.stat().st_ino == before:
            time.sleep(0)
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        assert json.loads(path.read_bytes())["number"] >= 1, kill


def test_what_killed_writers_left_is_swept_when_it_is_old(tmp_path):
    path = tmp_path / "a.json"
    old, new = tmp_path / ".a.json.old", tmp_path / ".a.json.new"
    old.touch()
    new.touch()
    os.utime(old, (0, 0))
    files.update_json(path, lambda kept: kept)
    assert (old.exists(), new.exists()) == (False, True)


def test_files_and_folders_are_private_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        files.update_json(tmp_path / "new" / "er" / "a.json", lambda _: {"a": 1})
    finally:
        os.umask(before)
    for folder in (tmp_path / "new", tmp_path / "new" / "er"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for file in (tmp_path / "new" / "er").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b'{"a": ', "not valid JSON"),
        (b"\xff\xfe\x00", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[1]", "not hold a JSON object"),
        (b"", "not valid JSON"),
    ],
)
def test_a_damaged_file_is_moved_aside_and_reported(tmp_path, content, fault):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=fault):
        assert files.read_json(path) == {}
    [aside] = tmp_path.glob("a.json.damaged-*")
    assert aside.read_bytes() == content
    assert not path.exists()


def test_a_damaged_file_is_never_written_over(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("precious")
    with pytest.warns(UserWarning, match="Kept as"):
        files.update_json(path, lambda kept: {**kept, "b": 1})
    assert json.loads(path.read_text()) == {"b": 1}
    assert next(tmp_path.glob("a.json.damaged-*")).read_text() == "precious"


def test_a_folder_where_the_file_should_be_is_reported(tmp_path):
    (tmp_path / "a.json").mkdir()
    with pytest.warns(UserWarning, match="Is a directory"):
        assert files.read_json(tmp_path / "a.json") == {}


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    files.update_json(path, lambda _: {"a": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StoreError, match="No space left on device"):
        files.update_json(path, lambda _: {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert not list(tmp_path.glob(".a.json.*"))


def test_an_interrupt_while_writing_leaves_no_orphan(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.write(tmp_path / "a.json", b"{}")
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_is_never_given_back_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LOCK_TIMEOUT", 0.05)
    path = tmp_path / "a.json"
    with files.locked(path), pytest.raises(StoreError, match=r"a\.json\.lock for 0\.05 s"):
        files.update_json(path, lambda kept: kept)


def test_what_cannot_be_removed_or_locked_is_an_error_with_the_reason(tmp_path):
    (tmp_path / "a.json").mkdir()
    with pytest.raises(StoreError, match="Can't remove"):
        files.remove(tmp_path / "a.json")
    (tmp_path / "b.json.lock").mkdir()
    with pytest.raises(StoreError, match="Can't lock"), files.locked(tmp_path / "b.json"):
        pass


def test_home_is_the_environments_else_the_platforms(monkeypatch, tmp_path):
    monkeypatch.setenv("IPYCHAT_HOME", "~/here")
    assert files.home() == Path.home() / "here"
    monkeypatch.delenv("IPYCHAT_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert files.home().name == "ipychat"
    assert files.get_cookies_dir() == str(files.home())


def test_what_the_disk_would_not_take_is_kept_until_it_does(tmp_path, monkeypatch, caplog):
    session = ServiceSession(tmp_path / "s.json")
    with monkeypatch.context() as patch:
        patch.setattr(files, "update_json", _refuse)
        session.save({"root": "r", "access_token": "one"})
        session.update({"root": "r", "sid": "two"})
    assert session.read_for("r") == {"root": "r", "access_token": "one", "sid": "two"}
    assert not session.path.exists()
    session.update({"root": "r", "sid": "three"})
    kept = json.loads(session.path.read_text())
    assert kept == {"root": "r", "access_token": "one", "sid": "three"}
    assert session.path not in credentials._unsaved
    assert "until it ends" in caplog.text


def _refuse(*_):
    raise StoreError("The disk is full.")


def test_clearing_what_cannot_be_removed_is_logged(tmp_path, caplog):
    (tmp_path / "s.json").mkdir()
    ServiceSession(tmp_path / "s.json").clear()
    assert "Can't remove" in caplog.text


async def test_a_login_goes_on_without_a_lock_where_there_is_no_disk(tmp_path, caplog):
    (tmp_path / "file").touch()
    async with ServiceSession(tmp_path / "file" / "s.json").login():
        pass
    assert "No lock for s.json" in caplog.text


# -- locks that others hold, and links

HOLD = """
import fcntl, sys
with open(sys.argv[1], "w") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    print("held", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def held_elsewhere(path: Path):
    """Another process holds the lock that stands for `path`."""
    files.private_folder(path.parent)
    lock = files.lock_file(path)
    command = [sys.executable, "-c", HOLD, lock]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        try:
            yield
        finally:
            holder.stdin.close()


@pytest.mark.heavy
def test_a_lock_that_was_waited_for_in_vain_is_waited_for_no_more_until_it_is_free(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(files, "LOCK_TIMEOUT", 1.0)
    path = tmp_path / "a.json"
    with held_elsewhere(path):
        waited = []
        for _ in range(3):
            began = time.monotonic()
            with pytest.raises(files.HeldError, match="Another process has held"):
                files.update_json(path, lambda kept: kept)
            waited.append(time.monotonic() - began)
        assert waited[0] >= 1.0
        assert max(waited[1:]) < 1.0
    files.update_json(path, lambda kept: kept)
    with held_elsewhere(path):
        began = time.monotonic()
        with pytest.raises(files.HeldError):
            files.update_json(path, lambda kept: kept)
        assert time.monotonic() - began >= 1.0, "it was free meanwhile"


def test_a_lock_is_never_taken_through_a_link(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / "a.json.lock").symlink_to(precious)
    with pytest.raises(StoreError, match=r"(?s)a\.json\.lock is a link.*Remove it"):
        files.update_json(tmp_path / "a.json", lambda kept: kept)
    assert precious.read_text() == "precious"
