"""Bytes → the lines of an NDJSON stream. No I/O, and no JSON: who reads a line types it."""

from ipychat.wire._lines import Lines


class LineDecoder:
    """Feed it chunks of any size; it gives the lines that are not blank, without their ends."""

    def __init__(self) -> None:
        self._lines = Lines()

    def feed(self, chunk: bytes) -> list[str]:
        """Return the lines that `chunk` completes."""
        return _split(self._lines.feed(chunk))

    def close(self) -> list[str]:
        """Return the last line, if it had no line end."""
        return _split(self._lines.close())


def _split(lines: str) -> list[str]:
    return [line for line in lines.split("\n") if line and not line.isspace()]
