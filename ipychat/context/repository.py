"""What RepoAgent may see of a git repository: a map of its tracked files, and some of their text.

Both the repository and the prompt may be hostile. Git is asked for names only, and runs nothing
that the repository configures. A file is opened only if it is tracked, does not look like a secret,
and is reached from the repository's top without following a link; the latter is enforced while
opening it, so there is no gap between the check and the use.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import posixpath
import re
import shutil
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from ipychat.secrets import mask
from ipychat.text.fences import fenced

GIT = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "--no-optional-locks")
# a partial clone may name any command as its way to fetch missing objects: nothing is fetched
GIT_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "",
    "LC_ALL": "C",
}
KEPT = ("GIT_CONFIG_", "GIT_CEILING_DIRECTORIES", "GIT_DISCOVERY_ACROSS_", "GIT_EXEC_PATH")
"""Git's variables that don't name another repository than the folder's."""
GIT_SECONDS = 5
MAX_FILES = 20_000
MAX_LIST = 16 << 20
"""Bytes of git's list of files that are read."""
MAX_FILE = 1 << 20
MAX_SCORED = 8 << 20
"""Bytes of a file that is quoted, and of all files that are compared with the prompt."""
MAX_PROMPT = 20_000
MAX_LINE = 400
MAX_NAME = 200
MAX_DEPTH = 8
MAX_WORDS = 40
"""The longest words of the prompt, up to this many, are compared with paths and contents."""
MAX_CANDIDATES = 40
MAX_NAMED = 12
MAX_MATCHING = 8
HEAD_LINES = 15
CONTEXT_LINES = 4
"""Lines of a long file: its first ones, and those around each matching line."""
GAP = 48
"""Characters that the remark about omitted lines may take."""

SECRET = "(not shown: may hold secrets)"  # noqa: S105 - a remark
LINK = "(a link: not followed)"
SUBMODULE = "(a submodule: not shown)"
DATA = ("txt", "json", "yaml", "yml", "toml", "ini", "cfg", "conf", "env", "properties", "xml")
COPY = r"(\.(bak|old|orig|save|copy|[0-9]+)|~)+$"
SECRETS = (
    *(".env", ".env.*", "*.env", ".envrc", ".netrc", "_netrc", ".npmrc", ".pypirc", ".htpasswd"),
    *(".pgpass", ".git-credentials", "credentials*", "secrets*", "*.kdbx", "*.jks", "*.keystore"),
    *(f"*{word}*.{kind}" for word in ("secret", "credential") for kind in DATA),
    *(".ssh", ".aws", ".docker", ".kube", ".gnupg", ".vault-token", "kubeconfig*", "*.tfstate*"),
    *("*.pem", "*.key", "*.p12", "*.pfx", "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*"),
)
COMMON = {
    *("and", "are", "can", "code", "does", "file", "files", "for", "from", "has", "how", "not"),
    *("repo", "repository", "show", "that", "the", "this", "what", "where", "why", "with", "you"),
}


class _Tracked(NamedTuple):
    path: str  # relative to the repository's top, with slashes
    remark: str  # why it is not read; empty if it may be read


class _NothingToShow(Exception):  # noqa: N818 - not an error: the agent is told this instead
    """Why there is no repository to see, in one sentence."""


async def describe(folder: Path, prompt: str, budget: int = 24_000) -> str:
    """Describe what in `folder`'s repository relates to `prompt`, in up to `budget` characters."""
    try:
        folder, top = await asyncio.to_thread(_find, folder)
        told = (await _git(folder, "rev-parse", "--show-toplevel"))[0]
        if not await asyncio.to_thread(_same, top, os.fsdecode(told.removesuffix(b"\n"))):
            # core.worktree may point at the user's home, and the index list what is there
            raise _NothingToShow("The git repository keeps its files elsewhere: none is shown.")
        listed, whole = await _git(top, "ls-files", "-z", "--stage")
    except _NothingToShow as why:
        return mask(str(why))[: max(0, budget)]
    return await asyncio.to_thread(
        _describe, folder, top, listed=listed, whole=whole, prompt=prompt, room=budget
    )


def _find(folder: Path) -> tuple[Path, Path]:
    """Return the resolved folder, and the nearest one at or above it with a `.git`."""
    try:
        folder = folder.resolve(strict=True)
        for top in (folder, *folder.parents):
            if folder.is_dir() and os.path.lexists(top / ".git"):
                return folder, top
    except (OSError, RuntimeError, ValueError):
        raise _NothingToShow("The folder of the repository is not there.") from None
    raise _NothingToShow("The folder is not in a git repository, so there are no files to see.")


def _same(top: Path, told: str) -> bool:
    try:
        return Path(told).samefile(top)
    except (OSError, ValueError):
        return False


async def _git(folder: Path, *arguments: str) -> tuple[bytes, bool]:
    """Return git's output, up to its limit, and whether it is complete."""
    git = shutil.which("git")
    # a relative path could be the repository's own program
    if git is None or not Path(git).is_absolute():
        raise _NothingToShow("git is not installed here, so the repository can't be seen.")
    ours = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or k.startswith(KEPT)}
    pipe, none = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    command = (git, *GIT, *arguments)
    env = ours | GIT_ENVIRONMENT
    try:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=folder, env=env, stdin=none, stdout=pipe, stderr=pipe
        )
    # on Windows a selector loop can't start processes
    except (OSError, NotImplementedError) as error:
        raise _NothingToShow(f"git can't be started here: {type(error).__name__}.") from None
    assert process.stdout is not None  # noqa: S101 - requested above
    assert process.stderr is not None  # noqa: S101
    read, ends, whole = bytearray(), 0, True
    try:
        async with asyncio.timeout(GIT_SECONDS):
            while chunk := await process.stdout.read(1 << 16):
                read += chunk
                ends += chunk.count(0)
                if ends > MAX_FILES or len(read) > MAX_LIST:
                    return bytes(read), not whole
            said = await process.stderr.read(4096)
            if await process.wait():
                reason = said.decode(errors="replace").partition("\n")[0][:300]
                raise _NothingToShow(f"git can't read the repository: {reason}")
    except TimeoutError:
        raise _NothingToShow(f"git did not answer within {GIT_SECONDS} seconds.") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GIT_SECONDS):
                    await process.communicate()  # with full pipes, `wait` may never return
    return bytes(read), whole


def _parse(listed: bytes) -> list[_Tracked]:
    """Return the tracked files sorted by path, without entries that no honest index has."""
    files = {}
    for entry in listed.split(b"\0")[:-1][:MAX_FILES]:
        about, _, name = entry.partition(b"\t")
        path = os.fsdecode(name)
        # as a lenient file system sees them: no case, nothing invisible, no trailing dots
        visible = "".join(c for c in _key(path) if c.isprintable())
        parts = [part.rstrip(". ") for part in visible.split("/")]
        # absolute, with "..", or in git's own folder
        if not all(parts) or {".git", "git~1"} & set(parts):
            continue
        bare = [re.sub(COPY, "", part) for part in parts]
        secret = any(fnmatchcase(part, pattern) for part in (*parts, *bare) for pattern in SECRETS)
        other = {b"160000": SUBMODULE, b"120000": LINK}.get(about[:6], "")
        files[path] = _Tracked(path, SECRET if secret else other)
    return [files[path] for path in sorted(files)]


def _describe(
    folder: Path, top: Path, *, listed: bytes, whole: bool, prompt: str, room: int
) -> str:
    files = _parse(listed)
    if not files:
        return mask("The git repository tracks no files.")[: max(0, room)]
    if len(prompt) > MAX_PROMPT:
        prompt = f"{prompt[: MAX_PROMPT // 2]}\n{prompt[-MAX_PROMPT // 2 :]}"
    said = f"The git repository {_shown(top.name)}: {len(files):,} tracked files"
    said += ".\n" if whole else f", the first of more than {MAX_FILES:,}; the rest is not known.\n"
    said += _map(top, files, room // 3 - len(said))
    found = set(re.findall(r"[^\W_]{3,}", _key(prompt))) - COMMON
    found |= {word[:-1] for word in found if len(word) > 4 and word.endswith("s")}
    words = sorted(found, key=lambda word: (-len(word), word))[:MAX_WORDS]
    chosen = dict.fromkeys([*_named(folder, top, files, prompt), *_matching(top, files, words)])
    if not chosen:
        readmes = (f for f in files if posixpath.basename(_key(f.path)).startswith("readme"))
        chosen = dict.fromkeys(sorted(readmes, key=_depth)[:1])
    left_out = 0
    for index, file in enumerate(chosen):
        left = room - len(said) - GAP
        text, remark = _read(top, file)
        share = left // min(3, len(chosen) - index)
        quote = f"{_shown(file.path)} {remark}\n"
        if not remark:
            quote = _quote(file.path, text, words, share)
        fits = bool(quote) and len(quote) < left
        said += f"\n{quote}" if fits else ""
        left_out += not fits
    if left_out:
        said += f"\n… {left_out} more that match: no room here.\n"
    return mask(said)[: max(0, room)]


def _key(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def _depth(file: _Tracked) -> tuple[int, str]:
    return file.path.count("/"), file.path


def _shown(path: str) -> str:
    """A path on one line, escaped if it has characters that can't be printed or decoded."""
    path = mask(path)
    path = path if path.isprintable() else json.dumps(path)
    return path if len(path) <= MAX_NAME else f"{path[:MAX_NAME]}…"


def _fenced(lines: Iterable[str]) -> str:
    return fenced("\n".join(lines)) + "\n"


def _map(top: Path, files: list[_Tracked], room: int) -> str:
    """List the paths with their sizes; if they don't fit, folders with their numbers of files."""
    if sum(len(file.path) for file in files) <= room:
        looks = ((file, *_look(top, file, 0)) for file in files)
        text = _fenced(f"{_shown(f.path)}  {why or f'{size:,} bytes'}" for f, why, size, _ in looks)
        if len(text) <= room:
            return text
    parents = [file.path.split("/")[:-1] for file in files]
    for depth in range(min(MAX_DEPTH, max(map(len, parents))), -1, -1):
        counts = Counter("/".join(parent[:depth]) for parent in parents)
        lines = [f"{_shown(at or '.')}/  {n:,} files" for at, n in sorted(counts.items())]
        if len(text := _fenced(lines)) <= room or depth <= 1:
            break
    numbers, kept = [n for _, n in sorted(counts.items())], len(lines)
    while kept and len(text) > room:
        kept -= max(1, kept // 50)
        note = f"… {len(lines) - kept:,} more folders, {sum(numbers[kept:]):,} files: left out"
        text = _fenced([*lines[:kept], note])
    return text


def _named(folder: Path, top: Path, files: list[_Tracked], prompt: str) -> list[_Tracked]:
    """The tracked files that the prompt mentions: by path, the end of a path, or name."""
    by_path: dict[str, list[_Tracked]] = {}
    by_name: dict[str, list[_Tracked]] = {}
    for file in sorted(files, key=_depth):
        by_path.setdefault(_key(file.path), []).append(file)
        by_name.setdefault(posixpath.basename(_key(file.path)), []).append(file)
    prompt = _key(prompt)
    quoted = re.findall(r"""`[^`\n]+`|"[^"\n]+"|'[^'\n]+'""", prompt)
    pieces = re.split(r"""[\s,;:()|=<>\[\]{}"'`*!?]+""", prompt)
    start, here = _key(f"{top.as_posix().rstrip('/')}/"), _key(folder.relative_to(top).as_posix())
    found: dict[_Tracked, None] = {}
    for name in dict.fromkeys([*quoted, *prompt.split(), *pieces]):
        path = name.strip("`\"'(<[{,;:!?)>]}*@").rstrip(".").replace("\\", "/").removeprefix(start)
        plain = posixpath.normpath(path)
        ends = by_name.get(posixpath.basename(plain), [])
        like = (
            by_path.get(posixpath.normpath(f"{here}/{path}"))
            or by_path.get(plain)
            or [file for file in ends if _key(f"/{file.path}").endswith(f"/{plain}")]
        )
        for file in like:
            found[file] = None
            if file.remark == LINK:  # a link's target is shown under its own path, if tracked
                with contextlib.suppress(OSError, ValueError):
                    target = (top / file.path).readlink().as_posix()
                    target = posixpath.join(posixpath.dirname(file.path), target)
                    found |= dict.fromkeys(by_path.get(_key(posixpath.normpath(target)), []))
    return list(found)[:MAX_NAMED]


def _matching(top: Path, files: list[_Tracked], words: list[str]) -> list[_Tracked]:
    """The files that match the words best by path and, for the best of these, by content."""
    by_path = []
    for file in files:
        path = _key(file.path)
        parts, name = (set(re.findall(r"[^\W_]+", p)) for p in (path, posixpath.basename(path)))
        score = sum(3 + 6 * (word in parts) + 6 * (word in name) for word in words if word in path)
        by_path += [] if file.remark else [(-score, *_depth(file), file)]
    best, left = [], MAX_SCORED
    for score, _, path, file in sorted(by_path)[:MAX_CANDIDATES]:
        text = _key(_read(top, file)[0]) if left > 0 else ""
        left -= len(text)
        hits = (min(text.count(word), 5) for word in words)
        best.append((score - sum(3 + hit for hit in hits if hit), path, file))
    best.sort()
    return [file for score, _, file in best[:MAX_MATCHING] if score and 3 * score <= best[0][0]]


def _quote(path: str, text: str, words: list[str], room: int) -> str:
    """The text with line numbers: all of it, or its head and the surroundings of matching lines."""
    lines = text.removesuffix("\n").split("\n")
    width = len(f"{len(lines)}")
    for n, line in enumerate(lines):
        more = f" … {len(line) - MAX_LINE:,} more characters" if len(line) > MAX_LINE else ""
        lines[n] = f"{n + 1:>{width}}  {line[:MAX_LINE]}{more}"
    heading = f"{_shown(path)} ({len(lines):,} lines)\n"
    if sum(map(len, lines)) <= room and len(whole := heading + _fenced(lines)) <= room:
        return whole
    longest = max(map(len, re.findall("`+", "\n".join(lines))), default=0)
    room -= len(heading) + 2 * max(3, longest + 1) + 3 + GAP
    found = re.compile("|".join(map(re.escape, words)) or "(?!)")
    scores = [(-len(set(found.findall(_key(line)))), n) for n, line in enumerate(lines)]
    windows = [
        range(max(0, n - CONTEXT_LINES), n + CONTEXT_LINES + 1)
        for score, n in sorted(scores)
        if score
    ]
    chosen: set[int] = set()
    for window in [range(HEAD_LINES), *windows]:
        new = {n for n in window if n < len(lines)} - chosen
        price = sum(len(lines[n]) + 1 for n in new) + GAP
        if price <= room and new:
            chosen |= new
            room -= price
    for n, line in enumerate(lines):  # the head continues for as long as there is room
        if n not in chosen:
            if len(line) + 1 > room:
                break
            chosen.add(n)
            room -= len(line) + 1
    shown, last = [], -1
    for n in [*sorted(chosen), len(lines)]:
        if n > last + 1:
            shown.append(f"… lines {last + 2}-{n} are not shown")
        shown += lines[n : n + 1]
        last = n
    return heading + _fenced(shown) if chosen else ""


def _read(top: Path, file: _Tracked) -> tuple[str, str]:
    """The masked text of a file, or why it is not shown."""
    remark, size, data = _look(top, file, MAX_FILE + 1)
    if not remark and b"\0" in data[: 8 << 10]:
        remark = "(not shown: binary)"
    if not remark and max(size, len(data)) > MAX_FILE:
        remark = "(not shown: over 1 MiB)"
    return ("", remark) if remark else (mask(data.decode("utf-8-sig", "replace")), "")


def _look(top: Path, file: _Tracked, most: int) -> tuple[str, int, bytes]:
    """Why a file is not read, or its size and its first `most` bytes."""
    try:
        if file.remark:
            return file.remark, 0, b""
        with _opened(top, file.path) as opened:
            about = os.fstat(opened)
            if not stat.S_ISREG(about.st_mode):
                return "(not shown: not a file)", 0, b""
            with open(opened, "rb", closefd=False) as stream:
                return "", about.st_size, stream.read(most)
    except (FileNotFoundError, ValueError):
        return "(not in the working folder)", 0, b""
    except OSError as error:
        link = error.errno in {errno.ELOOP, errno.ENOTDIR, errno.EMLINK}
        return LINK if link else "(can't be read)", 0, b""


@contextlib.contextmanager
def _opened(top: Path, path: str) -> Iterator[int]:
    """Open a file without following any link below `top`."""
    flags = os.O_RDONLY  # nonblocking: a pipe in a file's place would block
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_BINARY"):
        flags |= getattr(os, name, 0)
    *folders, name = path.split("/")
    if os.open in os.supports_dir_fd:
        opened = os.open(top, flags | os.O_DIRECTORY)
        try:
            for part, kind in [*((folder, os.O_DIRECTORY) for folder in folders), (name, 0)]:
                inner = os.open(part, flags | kind, dir_fd=opened)
                os.close(opened)
                opened = inner
            yield opened
        finally:
            os.close(opened)
    else:  # Windows: check where the opened file really is
        opened = os.open(where := top / path, flags)
        try:
            there = where.resolve(strict=True) == where
            if not there or not os.path.samestat(os.fstat(opened), where.lstat()):
                raise OSError(errno.ELOOP, "behind a link")
            yield opened
        finally:
            os.close(opened)
