"""What a terminal shows of an answer: plain text as it comes.

Control characters are taken out, so that an answer can't send escape sequences. Known secrets are
masked; what was written can't be masked afterwards, so a word is written when it is whole.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ipychat.display.cell import check_json, tool_call
from ipychat.messages import Event, FinishReason, Notice, Reasoning, Reply, Text, ToolCall, Usage
from ipychat.secrets import mask

if TYPE_CHECKING:
    from typing import TextIO

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_WORD = "".join(map(chr, range(ord("!"), ord("~") + 1)))
"""The characters that secrets are made of."""
MAX_WORD = 500
_DIM, _NORMAL = "\x1b[2m", "\x1b[22m"


class TerminalView:
    """Writes one answer to `stream`. `add` what comes, then `close`, however it ended."""

    def __init__(self, stream: TextIO, *, format: str = "markdown") -> None:  # noqa: A002 - the flag
        self.header = ""
        """Who answers, where that must be said; written before all else."""
        self._stream = stream
        self._format = format
        self._tty = stream.isatty()
        self._speaker: type[Event] | None = None
        self._word = ""
        self._in_line = False
        self._closed = False

    def add(self, event: Event) -> None:
        """Write an event."""
        match event:
            case Text(text) | Reasoning(text):
                self._say(text, type(event))
            case Notice(text):
                self._line(text)
            case ToolCall():
                self._line(tool_call(event))
            case Usage() | FinishReason():
                return
        self._stream.flush()

    async def close(self, reply: Reply, *, header: str = "", ending: str = "") -> None:
        """Write what is left, and how it ended; further calls do nothing.

        Raises FormatError for an answer that came to its end and is not what its format says.
        """
        if self._closed:
            return
        self._closed = True
        self.header = header or self.header
        if self._speaker is None:
            self._say(reply.text, Text)
        self._line(ending)
        if self._format == "code" and self._tty:
            self._write_code(reply.text)
        self._stream.flush()
        if self._format == "json":
            check_json(reply)

    def _say(self, text: str, speaker: type[Event]) -> None:
        if speaker is not self._speaker:
            self._line("")
            self._speaker = speaker
        text = self._word + _CONTROLS.sub("", text)
        whole = text if len(text) > MAX_WORD else text.rstrip(_WORD)
        self._word = text[len(whole) :]
        self._write(whole)

    def _line(self, text: str) -> None:
        """End the line that was begun, then write `text` on one of its own."""
        header, self.header = self.header, ""
        word, self._word = self._word, ""
        self._write(word + "\n" if word or self._in_line else "")
        for line in filter(None, (header, text)):
            self._write(_CONTROLS.sub("", line) + "\n", dim=False)

    def _write(self, text: str, *, dim: bool | None = None) -> None:
        if not text:
            return
        self._in_line = not text.endswith("\n")
        if self._tty and (self._speaker is Reasoning if dim is None else dim):
            text = f"{_DIM}{text}{_NORMAL}"
        self._stream.write(mask(text))

    def _write_code(self, text: str) -> None:
        from pygments import highlight  # type: ignore[import-untyped]  # has no hints
        from pygments.formatters import TerminalFormatter  # type: ignore[import-untyped]  # no hints
        from pygments.lexers import get_lexer_by_name  # type: ignore[import-untyped]  # no hints
        from pygments.util import ClassNotFound  # type: ignore[import-untyped]  # has no hints

        from ipychat import markup

        for language, code in markup.code_blocks(_CONTROLS.sub("", text)):
            try:
                lexer = get_lexer_by_name(language)
            except ClassNotFound:
                lexer = get_lexer_by_name("text")
            self._stream.write(mask("\n" + highlight(mask(code), lexer, TerminalFormatter())))
