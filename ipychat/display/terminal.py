"""What a terminal shows of an answer: plain text as it comes.

Control characters are taken out, so that an answer can't send escape sequences. Known secrets are
masked; what was written can't be masked afterwards, so a word is written when it is whole. For the
same reason code that is to be coloured waits for the end of its block, and JSON for its own.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from ipychat.display.cell import check_json, pretty_json, tool_call
from ipychat.messages import Event, FinishReason, Notice, Reasoning, Reply, Text, ToolCall, Usage
from ipychat.secrets import mask
from ipychat.text.characters import harmless

if TYPE_CHECKING:
    from typing import TextIO

_WORD = "".join(map(chr, range(ord("!"), ord("~") + 1)))
"""The characters that secrets are made of."""
MAX_WORD = 500
_FENCE = re.compile(r" *(`{3,}|~{3,}) *([^\s`]*)")
_DIM, _NORMAL = "\x1b[2m", "\x1b[22m"


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
    ) -> None:
        self.header = ""
        """Who answers, where that must be said; written before all else."""
        self._given = stream
        self._format = format
        self._tty = (stream or sys.stdout).isatty()
        self._code = _CodeBlocks() if format == "code" and self._tty else None
        self._speaker: type[Event] | None = None
        self._word = ""
        self._in_line = False
        self._closed = False

    def add(self, event: Event) -> None:
        """Write an event."""
        match event:
            case Text() if self._format == "json":
                return
            case Text(text) | Reasoning(text):
                self._say(text, type(event))
            case Notice(text):
                self._line(text)
            case ToolCall():
                self._line(tool_call(event))
            case Usage() | FinishReason():
                return
        self._flush()

    async def close(self, reply: Reply, *, header: str = "", ending: str = "") -> None:
        """Write what is left, and how it ended; further calls do nothing.

        Raises FormatError for an answer that came to its end and is not what its format says.
        """
        if self._closed:
            return
        self._closed = True
        self.header = header or self.header
        if self._format == "json":
            self._say(pretty_json(reply.text) or reply.text, Text)  # an error comes after it
        elif self._speaker is None:
            self._say(reply.text, Text)
        self._line("")
        if self._code:
            self._put(self._code.rest())
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
        self._write(word + "\n" if word or self._in_line else "")
        for line in filter(None, (header, text)):
            self._write(harmless(line) + "\n", dim=False)

    def _write(self, text: str, *, dim: bool | None = None) -> None:
        if not text:
            return
        text = mask(text)
        self._in_line = not text.endswith("\n")
        if self._code and self._speaker is Text and dim is None:
            text = self._code.take(text)
        elif self._tty and (self._speaker is Reasoning if dim is None else dim):
            text = f"{_DIM}{text}{_NORMAL}"
        self._put(text)

    def _put(self, text: str) -> None:
        stream = self._given or sys.stdout
        # half a character, or one that this terminal has not, is no reason to lose the answer
        encoding = stream.encoding or "utf-8"
        stream.write(text.encode(encoding, "replace").decode(encoding))

    def _flush(self) -> None:
        if self._given:
            self._given.flush()


class _CodeBlocks:
    """Colours code: what stands in a fence is held back until the fence is closed."""

    def __init__(self) -> None:
        self._fence = self._language = ""
        self._code: list[str] = []
        self._line = ""

    def take(self, text: str) -> str:
        """Return the text that can be written now."""
        return "".join(map(self._take, re.findall(r"[^\n]*\n|[^\n]+", text)))

    def rest(self) -> str:
        """Return the text held back for a fence that was never closed."""
        code, self._code, self._fence = "".join(self._code), [], ""
        return _coloured(code, self._language) if code else ""

    def _take(self, piece: str) -> str:
        self._line += piece
        if not piece.endswith("\n"):
            return "" if self._fence else piece
        line, self._line = self._line, ""
        if not self._fence:
            if opened := _FENCE.match(line):
                self._fence, self._language = opened.groups()
            return piece
        mark = line.strip()
        if mark.startswith(self._fence) and not mark.strip(self._fence[0]):
            return self.rest() + line
        self._code.append(line)
        return ""


def _coloured(code: str, language: str) -> str:
    import pygments  # type: ignore[import-untyped]  # has no hints
    from pygments.formatters import TerminalFormatter  # type: ignore[import-untyped]  # no hints

    from ipychat.text import markup

    tokens = markup.code_tokens(code, language)
    if tokens is None:
        return code
    coloured: str = pygments.format(tokens, TerminalFormatter())
    return coloured
