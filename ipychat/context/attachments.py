"""Files and images as parts of a message: texts, PDFs, and whatever can be drawn.

A file's kind is determined by its bytes, never by its name. Other binary files are rejected.
"""

from __future__ import annotations

import base64
import inspect
import io
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ipychat.context._text import line, why
from ipychat.errors import UsageError
from ipychat.messages import FilePart, ImagePart, TextPart
from ipychat.text.fences import fenced

TEXT_LIMIT = 1 << 20
BINARY_LIMIT = 20 << 20
"""Bytes of a file that may be attached: a text, an image or a PDF."""
CHUNK = 1 << 20
READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""Flags to open a file that may be anything: don't block."""
IMAGES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
}
"""The first bytes of each format; WebP has its size before its name."""


def file_part(path: str | Path, *, base: Path | None = None) -> TextPart | ImagePart | FilePart:
    """Return a file as a part of a message: a text, an image or a PDF.

    A relative path starts at `base`. Raises UsageError if the file is missing, unreadable, too
    large, or of any other kind.
    """
    where, data = _read(path, base)
    if kind := _image_type(data):
        return ImagePart.of_bytes(data, kind)
    if data.startswith(b"%PDF-"):
        return FilePart(where.name, data, "application/pdf")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UsageError(
            f"{path} is neither a text in UTF-8 nor an image (png, jpeg, gif, webp) nor a PDF: "
            "it can't be attached."
        )
    if len(data) > TEXT_LIMIT:
        raise UsageError(
            f"{path} has {len(data):,} bytes; an attached text has at most {TEXT_LIMIT:,}.\n"
            "Attach only the part that matters."
        )
    # the path as written shows where a file is in a project; an absolute one tells of the user
    name = where.name if Path(path).expanduser().is_absolute() else Path(path).as_posix()
    language = where.suffix[1:] if where.suffix[1:].isalnum() else ""
    return TextPart(f"{line(name, 200)}\n{fenced(text, language)}")


def image_part(value: Any, name: str) -> ImagePart:
    """Return an image as a part of a message.

    It may be bytes, a path, a web address, a matplotlib figure or a part of one, or anything that
    displays itself as PNG or JPEG. Raises UsageError if it is no image.
    """
    if isinstance(value, str) and re.fullmatch(r"https?://\S+", value, re.IGNORECASE):
        return ImagePart(value)
    if isinstance(value, str | Path):
        data: bytes | None = _read(value)[1]
    elif isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value)
    else:
        try:
            data = drawn(value)
        except Exception as error:
            raise UsageError(f"{name} could not be drawn: {why(error)}") from error
    if data is None:
        raise UsageError(
            f"{name} is no image but of type {type(value).__name__}.\nAn image is a path, an "
            "http(s) address, bytes, a PIL image or a matplotlib figure."
        )
    kind = _image_type(data)
    if kind is None:
        raise UsageError(f"{name} is not a PNG, JPEG, GIF or WebP image.")
    if len(data) > BINARY_LIMIT:
        raise UsageError(f"{name} is too large: an image has at most {BINARY_LIMIT:,} bytes.")
    return ImagePart.of_bytes(data, kind)


def _read(path: str | Path, base: Path | None = None) -> tuple[Path, bytes]:
    try:
        where = Path(path).expanduser()
        where = base.expanduser() / where if base else where
        _check_kind(path, where.stat().st_mode)
        descriptor = os.open(where, READ)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            _check_kind(path, os.fstat(descriptor).st_mode)  # the file may have been replaced
            data = b"".join(_chunks(path, file))
    except FileNotFoundError:
        start = "" if Path(path).is_absolute() else f" in {base or Path.cwd()}"
        raise UsageError(f"There is no file {path}{start}.") from None
    except (OSError, ValueError, RuntimeError) as error:  # the last two: no such name, no such user
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{line(str(path), 200)} can't be read: {reason}") from None
    if len(data) > BINARY_LIMIT:
        raise UsageError(f"{path} is too large: a file has at most {BINARY_LIMIT:,} bytes.")
    return where, data


def _check_kind(path: str | Path, mode: int) -> None:
    if not stat.S_ISREG(mode):  # a pipe might never end
        kind = "a folder; name the files in it" if stat.S_ISDIR(mode) else "a device or a pipe"
        raise UsageError(f"{path} is not a file but {kind}.")


def _chunks(path: str | Path, file: io.FileIO) -> Iterator[bytes]:
    """Yield a file's bytes, to just over the limit; some system files are endless."""
    left = BINARY_LIMIT + 1
    while left and (chunk := file.read(min(left, CHUNK))) != b"":
        if chunk is None:
            raise UsageError(f"{path} is endless: the system writes to it as it is read.")
        left -= len(chunk)
        yield chunk


def _image_type(data: bytes) -> str | None:
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for begin, kind in IMAGES.items() if data.startswith(begin)), None)


def drawn(value: Any) -> bytes | None:
    """Return the bytes of a figure's image; None if the value can't be drawn."""
    # looked up on the class: some objects have every attribute
    belongs = inspect.getattr_static(value, "figure", None) is not None
    figure: Any = value.figure if belongs else value
    if hasattr(type(figure), "savefig"):
        with io.BytesIO() as file:
            figure.savefig(file, format="png")
            return file.getvalue()
    for method in ("_repr_png_", "_repr_jpeg_"):
        if hasattr(type(value), method) and (shown := getattr(value, method)()):
            # a tuple of the data and its size
            shown = shown[0] if isinstance(shown, tuple) else shown
            # a rich display is bytes, or the base64 that a notebook file holds for them
            return base64.b64decode(shown) if isinstance(shown, str) else bytes(shown)
    return None
