"""Shows an answer in a terminal while it streams, with styles if a person reads it.

Control characters are removed, so that an answer can't send escape sequences. Known secrets are
masked; as written text can't be masked later, words are written only when complete, and JSON only
when it has ended. Until the first word, a line says which model was asked, for how long, and how to
stop it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import sys
import time
from typing import TYPE_CHECKING

from ipychat.display import _beside, steps
from ipychat.display.cell import check_json, pretty_json
from ipychat.messages import (
    Event,
    FinishReason,
    Image,
    Notice,
    Reasoning,
    Reply,
    Source,
    Step,
    Text,
    ToolCall,
    Usage,
)
from ipychat.secrets import mask
from ipychat.text.characters import harmless

if TYPE_CHECKING:
    from typing import TextIO

    from ipychat.text.styled import Styled

_WORD = "".join(map(chr, range(ord("!"), ord("~") + 1)))
"""The characters that secrets are made of."""
MAX_WORD = 500
FIRST_SIGN = 0.15
"""Seconds before the waiting line appears."""
BEAT = 0.1
"""Seconds between two updates of it."""
_PULSE = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_DIM, _NORMAL = "\x1b[2m", "\x1b[22m"
_CLEAR = "\r\x1b[K"
_PLAIN = str.maketrans(
    {"•": "*", "─": "-", "│": "|", "☐": "o", "☑": "x", **dict.fromkeys(_PULSE, ".")}
)
"""Replacements for terminals without these characters."""


class TerminalView:
    """Writes one answer to `stream`. `add` what comes, then `close`, however it ended.

    Without a stream it writes whole lines to what is standard output by then: a prompt that is open
    puts its own in place, which keeps them off what the user types.
    """

    def __init__(
        self,
        stream: TextIO | None,
        *,
        format: str = "markdown",  # noqa: A002 - the flag
        asked: str = "",
    ) -> None:
        self.header = ""
        """Who answers, where that must be said; written before all else."""
        self._given = stream
        self._format = format
        self._is_styled = _is_styled(stream or sys.stdout)
        self._markdown: Styled | None = None
        if self._is_styled and format in {"markdown", "code"}:
            from ipychat.text.styled import Styled

            self._markdown = Styled(shutil.get_terminal_size().columns)
        self._pulse: asyncio.Task[None] | None = None
        if self._is_styled and stream and asked:
            self._pulse = asyncio.ensure_future(self._beat(asked))
        self._speaker: type[Event] | None = None
        self._word = ""
        self._in_line = False
        self._closed = False

    def add(self, event: Event) -> None:
        """Write an event."""
        self._end_pulse()
        match event:
            case Text() if self._format == "json":
                return
            case Text(text) | Reasoning(text):
                self._say(text, type(event))
            case Notice(text):
                self._line(text)
            case ToolCall():
                self._line(steps.waiting(event))
            case Step():
                self._line(steps.plain(event))
                self._speaker = None
            case Usage() | FinishReason() | Source() | Image():  # these stand at the end
                return
        self._flush()

    async def close(self, reply: Reply, *, header: str = "", ending: str = "") -> None:
        """Write what is left, and how it ended; further calls do nothing.

        Raises FormatError for an answer that came to its end and is not what its format says.
        """
        if self._closed:
            return
        self._closed = True
        self._end_pulse()
        self.header = header or self.header
        if self._format == "json":
            self._say(pretty_json(reply.text) or reply.text, Text)  # an error comes after it
        elif self._speaker is None:
            self._say(reply.text, Text)
        self._line("")
        for line in _beside.plain(reply).splitlines() if self._format != "json" else ():
            self._line(line)
        self._line(ending)
        self._line(str(reply.usage or ""))
        self._flush()
        if self._format == "json":
            check_json(reply)

    def _say(self, text: str, speaker: type[Event]) -> None:
        if speaker is not self._speaker:
            self._line("")
            self._speaker = speaker
        text = self._word + harmless(text)
        whole = text if len(text) > MAX_WORD else text.rstrip(_WORD)
        self._word = text[len(whole) :]
        self._write(whole)

    def _line(self, text: str) -> None:
        """End the line that was begun, then write `text` on one of its own."""
        header, self.header = self.header, ""
        word, self._word = self._word, ""
        self._write(word)
        if self._markdown:
            self._put(self._markdown.rest())
        self._put("\n" if self._in_line else "")
        for line in filter(None, (header, text)):
            self._put(mask(harmless(line)) + "\n")

    def _write(self, text: str) -> None:
        text = mask(text)
        if self._speaker is Reasoning:
            text = f"{_DIM}{text}{_NORMAL}" if self._is_styled and text else text
        elif self._markdown:
            text = self._markdown.take(text)
        self._put(text)

    def _put(self, text: str) -> None:
        if not text:
            return
        self._in_line = not text.removesuffix(_NORMAL).endswith("\n")
        stream = self._given or sys.stdout
        encoding = stream.encoding or "utf-8"
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            # half a character, or one that this terminal has not, is no reason to lose the answer
            text = text.translate(_PLAIN).encode(encoding, "replace").decode(encoding)
        stream.write(text)

    def _flush(self) -> None:
        if self._given:
            self._given.flush()

    async def _beat(self, asked: str) -> None:
        """Show which model was asked, for how long, and how to stop it."""
        begin = time.monotonic()
        await asyncio.sleep(FIRST_SIGN)
        for sign in itertools.cycle(_PULSE):
            said = f"{sign} {harmless(asked)} · {time.monotonic() - begin:.0f} s · Ctrl-C stops"
            shown = said[: shutil.get_terminal_size().columns - 1]
            self._put(f"{_CLEAR}{_DIM}{shown}{_NORMAL}")
            self._flush()
            await asyncio.sleep(BEAT)

    def _end_pulse(self) -> None:
        pulse, self._pulse = self._pulse, None
        if pulse is not None:
            pulse.cancel()
            if self._in_line:
                self._put(_CLEAR)
                self._in_line = False


def _is_styled(stream: TextIO) -> bool:
    """Whether styles are wanted: on a terminal that can show them."""
    is_plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return stream.isatty() and not is_plain
