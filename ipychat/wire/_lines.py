"""Split chunks of bytes into lines of text, for the decoders of this package."""

from ipychat.errors import FormatError

MAX_LINE = 16 * 1024 * 1024
"""Bytes. Services send lines of up to 1.5 MiB; anything longer than this is hostile."""


class Lines:
    r"""Splits a stream of bytes at LF, CRLF and CR, each of which becomes `\n`.

    Takes linear time however the stream is cut, and holds no more than one unfinished line. Bytes
    that are not UTF-8 become U+FFFD; a byte order mark at the very start is dropped.
    """

    __slots__ = ("_after_cr", "_at_start", "_size", "_unfinished")

    def __init__(self) -> None:
        self._unfinished: list[bytes] = []
        self._size = 0
        self._after_cr = False  # an LF that comes next belongs to this CR
        self._at_start = True

    def feed(self, chunk: bytes) -> str:
        r"""Return the lines that `chunk` completes, each with its `\n`; empty if there are none."""
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        if b"\r" in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        end = chunk.rfind(b"\n") + 1
        if not end:
            self._keep(chunk)
            return ""
        whole = b"".join([*self._unfinished, chunk[:end]])
        self._unfinished.clear()
        self._size = 0
        self._keep(chunk[end:])
        return self._decode(whole)

    def begins_anew(self) -> bool:
        """Whether the next chunk starts a new line, and is not the first one."""
        return not (self._unfinished or self._after_cr or self._at_start)

    def close(self) -> str:
        r"""Return an unfinished last line, with a `\n` added."""
        last = b"".join(self._unfinished)
        self._unfinished.clear()
        return self._decode(last) + "\n" if last else ""

    def _keep(self, rest: bytes) -> None:
        if rest:
            self._size += len(rest)
            if self._size > MAX_LINE:
                raise FormatError(f"The service sent a line of over {MAX_LINE >> 20} MiB.")
            self._unfinished.append(rest)

    def _decode(self, whole: bytes) -> str:
        text = whole.decode("utf-8", "replace")
        if self._at_start:
            self._at_start = False
            return text.removeprefix("\ufeff")
        return text
