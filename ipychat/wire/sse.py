"""Decode server-sent events, following WHATWG's section 9.2. No I/O.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation

Two deliberate deviations. `close()` returns an event that the stream ends without its blank line,
since services do leave it out; whether an answer is complete is decided by its finish reason, not
by a blank line. And a line `error: {…}`, with which some servers break off, counts as data.
"""

from typing import NamedTuple

from ipychat.errors import FormatError
from ipychat.wire._lines import MAX_LINE, Lines

MAX_EVENT_LINES = 1 << 18
"""Lines of one event. Services send one or two; a million would hold the loop."""
MAX_RETRY_DIGITS = 100
"""A longer `retry` is not a sensible number of milliseconds, and Python would refuse to parse it.
"""


class ServerSentEvent(NamedTuple):
    """One event. `id` is the last one that the stream named; `retry` is in milliseconds."""

    data: str
    event: str = "message"
    id: str = ""
    retry: int | None = None


class EventDecoder:
    """Takes chunks of any size; returns complete events. Linear time, bounded memory."""

    __slots__ = ("_count", "_id", "_lines", "_retry", "_size", "_unfinished")

    def __init__(self) -> None:
        self._lines = Lines()
        self._unfinished: list[str] = []  # complete lines of an unfinished event
        self._size = 0
        self._count = 0  # in these lines
        self._id = ""
        self._retry: int | None = None

    def data_of(self, chunk: bytes) -> str | None:
        """Return the data of a chunk that is exactly one event with one line, as most chunks are.

        None: the chunk is something else and has to be fed.
        """
        if (
            chunk[-2:] == b"\n\n"
            and chunk[:6] == b"data: "
            and chunk.count(b"\n") == 2
            and b"\r" not in chunk
            and not self._unfinished
            and self._lines.begins_anew()
        ):
            return chunk[6:-2].decode("utf-8", "replace")
        return None

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """Return the events that `chunk` completes."""
        lines = self._lines.feed(chunk)
        if (blank := lines.rfind("\n\n")) >= 0:
            end = blank + 2
        elif lines.startswith("\n"):  # ends the unfinished event, whose lines are complete
            end = 1
        else:
            self._keep(lines)
            return []
        whole = "".join([*self._unfinished, lines[:end]])
        self._unfinished.clear()
        self._size = self._count = 0
        self._keep(lines[end:])
        return self._parse(whole)

    def close(self) -> list[ServerSentEvent]:
        """Return the last event if no blank line followed it."""
        last = "".join(self._unfinished) + self._lines.close()
        self._unfinished.clear()
        return self._parse(last)

    def _keep(self, lines: str) -> None:
        if lines:
            self._size += len(lines)
            if self._size > MAX_LINE:
                raise FormatError(f"The service sent an event of over {MAX_LINE >> 20} MiB.")
            self._count += lines.count("\n")
            if self._count > MAX_EVENT_LINES:
                raise FormatError(f"The service sent an event of over {MAX_EVENT_LINES:,} lines.")
            self._unfinished.append(lines)

    def _parse(self, blocks: str) -> list[ServerSentEvent]:
        events: list[ServerSentEvent] = []
        for block in blocks.strip("\n").split("\n\n"):
            # Nearly every event of a chat service is this one line.
            if block.startswith("data: ") and "\n" not in block:
                event = (block[6:], "message", self._id, self._retry)
                # half the cost of constructing it normally
                events.append(tuple.__new__(ServerSentEvent, event))
            elif not block or (block[0] == ":" and "\n" not in block):
                pass  # blank lines or a comment: a service may send millions of them
            elif (other := self._parse_block(block)) is not None:
                events.append(other)
        return events

    def _parse_block(self, block: str) -> ServerSentEvent | None:
        data: list[str] = []
        kind = ""
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match name:
                case "data":
                    data.append(value)
                case "event":
                    kind = value
                case "error" if value.startswith("{"):
                    data.append(value)
                case "id" if "\0" not in value:
                    self._id = value
                case "retry" if value.isascii() and value.isdigit():
                    if len(value) <= MAX_RETRY_DIGITS:
                        self._retry = int(value)
        if not data:
            return None
        return ServerSentEvent("\n".join(data), kind or "message", self._id, self._retry)
