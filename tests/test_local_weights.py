"""Fetching weights: from a hub on loopback that misbehaves, onto real disks."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from ipychat import config, errors
from ipychat.local import weights
from tests import hub as hubs
from tests.hub import BLOB, FACTS, FILE, REPO, REVISION, Hub
from tests.loopback import answer, head

pytestmark = pytest.mark.usefixtures("sessions")

CONTENT = weights.MAGIC + random.Random(5).randbytes(3_500_000)
MIB = 1 << 20


@pytest.fixture
def hub(monkeypatch):
    one = Hub(CONTENT)
    monkeypatch.setenv("HF_ENDPOINT", one.url)
    monkeypatch.setattr(weights, "RETRY_PAUSE", 0.01)
    monkeypatch.setitem(weights.OFFERS, "tiny", one.offer())
    yield one
    one.close()


@pytest.fixture
def path():
    return weights.folder() / FILE


@pytest.fixture
def part(path):
    return path.with_name(f"{FILE}.part")


def whole(path) -> bool:
    return path.read_bytes() == CONTENT


def has(part, size) -> None:
    """Wait until so much has come."""
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size >= size):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


async def test_weights_come_by_the_hubs_redirect_and_their_way_is_told(hub, path, part):
    told = []
    found = await weights.pull("tiny", progress=lambda *how_far: told.append(how_far))
    assert found == path
    assert whole(path)
    assert not part.exists()
    assert path.stat().st_mode & 0o777 == 0o600
    assert [there for there, _ in told] == sorted(there for there, _ in told)
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert weights.there() == ["tiny"]


async def test_what_is_there_is_not_fetched_again(hub):
    await weights.pull("tiny")
    await weights.pull("tiny")
    assert len(hub.cdn.requests) == 1


async def test_no_key_goes_along_not_even_to_the_hub(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_a-token-of-the-tests")
    monkeypatch.setenv("HF_ENDPOINT", hub.url.replace("//", "//someone:a-long-password@"))
    await weights.pull("tiny")
    assert "Authorization" in hub.hub.requests[0].headers, "the mirror's own login"
    for request in (*hub.hub.requests, *hub.cdn.requests):
        assert "hf_a-token-of-the-tests" not in str(request)
    assert hub.cdn.requests[0].query == "signature=of-this-download"
    assert not {"Authorization", "Cookie"} & hub.cdn.requests[0].headers.keys()


async def test_a_mirrors_login_is_in_no_error(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://someone:a-long-password@127.0.0.1:9")
    with pytest.raises(errors.UnreachableError) as caught:
        await weights.pull("tiny")
    assert "a-long-password" not in str(caught.value)


async def test_a_connection_that_breaks_off_is_taken_up_there(hub, path, part, monkeypatch):
    monkeypatch.setattr(weights, "PIECE", 1)  # what has come is on disk, and seen there

    def once_kept(fault, kept):
        """Break off when all that was sent is on disk: what nobody has read yet would be lost."""

        def script(content, received):
            *sent, how = fault(content, received)
            yield from sent
            while not (part.exists() and part.stat().st_size >= kept):
                yield 0.01
            yield how

        return script

    hub.faults = [
        once_kept(hubs.cut(1_000_000), 1_000_000),
        once_kept(hubs.ended(500_001), 1_500_001),
        once_kept(hubs.cut(1), 1_500_002),
    ]
    await weights.pull("tiny")
    assert whole(path)
    assert hub.ranges == [None, "bytes=1000000-", "bytes=1500001-", "bytes=1500002-"]


async def test_where_parts_are_not_given_it_begins_anew(hub, path):
    hub.faults = [hubs.cut(1_000_000), hubs.whole]
    await weights.pull("tiny")
    assert whole(path)


async def test_another_part_than_asked_for_is_refused_and_what_came_stays(hub, part):
    hub.faults = [hubs.cut(1_000_000), hubs.elsewhere]
    with pytest.raises(errors.FormatError, match="a different part"):
        await weights.pull("tiny")
    assert part.read_bytes() == CONTENT[:1_000_000]


async def test_a_download_that_gets_nowhere_is_given_up_and_what_came_stays(hub, part):
    hub.faults = [hubs.cut(1_000_000), *[hubs.cut(0)] * weights.MAX_TRIES]
    with pytest.raises(errors.BrokenAnswerError, match="resumes from there"):
        await weights.pull("tiny")
    assert part.read_bytes() == CONTENT[:1_000_000]
    assert len(hub.ranges) == 1 + weights.MAX_TRIES


async def test_a_hub_that_is_busy_is_asked_again(hub, path):
    hub.cdn.on(BLOB, answer(b"", status=503, Retry_After="0"), hub._send)
    await weights.pull("tiny")
    assert whole(path)


async def test_a_file_that_the_hub_does_not_have_is_said_at_once(hub, monkeypatch):
    monkeypatch.setitem(weights.OFFERS, "tiny", hub.offer(revision="f" * 40))
    with pytest.raises(errors.NotFoundError):
        await weights.pull("tiny")
    assert len(hub.hub.requests) == 1


async def test_a_file_with_another_hash_is_thrown_away(hub, path, part):
    hub.content = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    with pytest.raises(errors.StoreError, match="SHA-256"):
        await weights.pull("tiny")
    assert not path.exists()
    assert not part.exists()
    hub.content = CONTENT
    await weights.pull("tiny")
    assert whole(path)


async def test_a_file_without_end_does_not_fill_the_disk(hub, part):
    hub.content = CONTENT * 20
    largest = []
    with pytest.raises(errors.StoreError, match="not what it should be"):
        await weights.pull("tiny", progress=lambda there, _: largest.append(there))
    assert max(largest) < len(CONTENT) + 2 * MIB
    assert not part.exists()


async def test_a_disk_without_room_is_said_before_anything_is_fetched(hub, monkeypatch):
    monkeypatch.setitem(weights.OFFERS, "tiny", hub.offer(bytes=10**18))
    with pytest.raises(errors.StoreError, match="IPYCHAT_HOME") as caught:
        await weights.pull("tiny")
    assert "1000000000.20 GB" in str(caught.value)
    assert not hub.hub.requests


@pytest.mark.skipif(sys.platform != "linux", reason="has a full disk to write to")
async def test_a_disk_that_gets_full_is_an_error_that_says_so(hub, path, part):
    path.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")
    with pytest.raises(errors.StoreError, match="No space left on device"):
        await weights.pull("tiny")
    assert not path.exists()


async def test_a_cancelled_download_goes_on_where_it_was(hub, path, part):
    hub.faults = [hubs.stopped(3 * MIB)]
    fetching = asyncio.create_task(weights.pull("tiny"))
    await asyncio.to_thread(has, part, MIB)
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    kept = part.stat().st_size
    await weights.pull("tiny")
    assert whole(path)
    assert hub.ranges == [None, f"bytes={kept}-"]


def command(hub, *words: str) -> subprocess.Popen[str]:
    """The command, in whose table is what the hub has."""
    code = (
        "from ipychat.local import weights, __main__\n"
        f"weights.OFFERS['tiny'] = weights.Offer(*{tuple(hub.offer())!r})\n"
        "__main__.main()"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code, *words], **pipes)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("by", "said"),
    [(signal.SIGKILL, ""), (signal.SIGINT, "Stopped. What was received is kept: ")],
    ids=["killed", "interrupted"],
)
async def test_a_process_that_ends_keeps_what_has_come(hub, path, part, by, said):
    hub.faults = [hubs.stopped(3 * MIB)]
    with command(hub, "pull", "tiny") as fetching:
        await asyncio.to_thread(has, part, MIB)
        fetching.send_signal(by)
        assert said in fetching.communicate(timeout=30)[1]
    kept = part.stat().st_size
    await weights.pull("tiny")
    assert whole(path)
    assert hub.ranges == [None, f"bytes={kept}-"]


async def test_two_who_want_the_same_fetch_it_once(hub, path, part, monkeypatch):
    monkeypatch.setattr(weights, "PIECE", 1)  # what has come is on disk, and seen there
    hub.faults = [hubs.stopped(3 * MIB)]
    told = []
    first = asyncio.create_task(weights.pull("tiny"))
    await asyncio.to_thread(has, part, MIB)
    second = asyncio.create_task(weights.pull("tiny", progress=lambda *far: told.append(far)))
    while not told:
        await asyncio.sleep(0.01)
    assert MIB <= told[0][0] <= 3 * MIB, "the second sees how far the first is"
    assert len(hub.ranges) == 1
    await asyncio.to_thread(has, part, 3 * MIB)
    first.cancel()
    await second
    assert whole(path)
    assert hub.ranges == [None, f"bytes={3 * MIB}-"], "and goes on from there"


async def test_redirects_without_end_are_not_followed(hub):
    place = {"Location": BLOB, "Content-Length": "0"}
    hub.cdn.on(BLOB, [head(302, "text/plain", chunked=False, headers=place)])
    with pytest.raises(errors.ServiceError, match="too many times"):
        await weights.pull("tiny")
    assert len(hub.cdn.requests) < 10


def test_a_redirect_to_an_address_that_is_not_encrypted_is_refused():
    assert weights._target("https://a.example/x", "/y") == "https://a.example/y"
    assert weights._target("http://a.example/x", "https://b.example/y") == "https://b.example/y"
    for location in ("http://a.example/x", "file:///etc/passwd", "ftp://a.example/x"):
        with pytest.raises(errors.ServiceError, match="unencrypted"):
            weights._target("https://a.example/x", location)


async def test_a_host_that_is_not_allowed_is_not_followed_to(hub):
    config.use(config.Config(allowed_hosts=("localhost",)))
    with pytest.raises(errors.PolicyError):
        await weights.pull("tiny")
    assert not hub.hub.requests


# -- a hash that the table does not have


@pytest.fixture
def unknown(hub, monkeypatch):
    monkeypatch.setitem(
        weights.OFFERS, "tiny", hub.offer(bytes=3_000_000, revision="main", sha256="")
    )
    return hub


async def test_an_unknown_hash_is_asked_of_the_hub_once_and_kept(unknown, path):
    await weights.pull("tiny")
    assert whole(path)
    assert weights.offer("tiny").sha256 == unknown.sha256
    path.unlink()
    unknown.content = bytes(len(CONTENT))
    unknown.sha256 = "0" * 64
    with pytest.raises(errors.StoreError, match="SHA-256"):
        await weights.pull("tiny")
    assert len(unknown.hub.asked(FACTS)) == 1
    assert unknown.hub.requests[-1].path == f"/{REPO}/resolve/{REVISION}/{FILE}"


@pytest.mark.parametrize(
    "said",
    [
        [],
        {"sha": REVISION, "siblings": []},
        {"sha": REVISION, "siblings": [{"rfilename": FILE}]},
        {"sha": REVISION, "siblings": [{"rfilename": FILE, "lfs": {"sha256": "x", "size": 9}}]},
        {"sha": REVISION, "siblings": [{"rfilename": FILE, "lfs": {"sha256": "0" * 64}}]},
        {"sha": REVISION, "siblings": [{"rfilename": FILE, "lfs": {"sha256": "0" * 64, "size": True}}]},
        {"sha": "../x", "siblings": [{"rfilename": FILE, "lfs": {"sha256": "0" * 64, "size": 9}}]},
        {"sha": REVISION, "siblings": ["a", None]},
    ],
)  # fmt: skip
async def test_a_hub_that_tells_nonsense_of_a_file_is_not_believed(unknown, said):
    body = json.dumps(said).encode()
    unknown.hub.on(FACTS, answer(body, content_type="application/json"))
    with pytest.raises(errors.FormatError, match="size and SHA-256"):
        await weights.pull("tiny")
    assert not weights.offer("tiny").sha256
    assert not unknown.cdn.requests


# -- files that are there


async def test_weights_that_are_damaged_are_said_to_be_and_fetched_again(hub, path):
    await weights.pull("tiny")
    weights.check(path)
    damaged = bytearray(CONTENT)
    damaged[2_000_000] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(errors.StoreError, match=r"SHA-256.*\n.*pull tiny"):
        weights.check(path)
    await weights.pull("tiny")
    assert whole(path)


async def test_weights_that_are_not_whole_are_said_to_be(hub, path):
    await weights.pull("tiny")
    os.truncate(path, 1000)
    with pytest.raises(errors.StoreError, match="1,000 of 3,500,004 bytes"):
        weights.check(path)


async def test_what_has_not_changed_is_not_hashed_again(hub, path, monkeypatch):
    await weights.pull("tiny")
    monkeypatch.setattr(weights, "_digest", lambda _: "0" * 64)
    weights.check(path)
    os.utime(path)
    with pytest.raises(errors.StoreError, match="SHA-256"):
        weights.check(path)


def test_a_file_of_another_kind_or_none_is_said_to_be(tmp_path):
    page = tmp_path / "model.gguf"
    with pytest.raises(errors.StoreError, match="No such file"):
        weights.check(page)
    page.write_text("<html>Not found</html>")
    with pytest.raises(errors.StoreError, match="not a GGUF file"):
        weights.check(page)


def test_every_offer_says_what_it_is():
    for name, offer in weights.OFFERS.items():
        assert weights.place(name).parent == weights.folder()
        assert offer.licence
        hashed = (len(offer.revision), len(offer.sha256))
        assert hashed == (4, 64) if offer.wheel else hashed in {(40, 64), (4, 0)}
    with pytest.raises(errors.ModelNotSupportedError, match=r"qwen2\.5-0\.5b"):
        weights.offer("none")


# -- the command


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ipychat.local", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.heavy
def test_the_command_lists_what_can_be_had():
    listed = run("list").stdout
    assert "qwen2.5-0.5b" in listed
    assert "0.49 GB, Apache-2.0" in listed
    assert str(weights.folder()) in listed


@pytest.mark.heavy
def test_the_command_fetches_and_tells_how_far_it_is_and_where_it_put_it(hub, path):
    with command(hub, "pull", "tiny") as fetching:
        out, err = fetching.communicate(timeout=60)
    assert out == f"{path}\n"
    assert err.splitlines()[-1] == "100 %  3.5 MB of 3.5 MB"
    assert whole(path)


@pytest.mark.heavy
def test_the_command_says_in_few_lines_what_went_wrong(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "nonsense")
    failed = run("pull", "qwen2.5-0.5b")
    assert failed.returncode == 1
    offered, said, *more = failed.stderr.splitlines()
    assert offered.startswith("qwen2.5-0.5b: 0.49 GB, Apache-2.0, ")
    assert said.startswith("UnreachableError: ")
    assert len(more) <= 3
    assert run("pull", "none").stderr.startswith("ModelNotSupportedError: ")
