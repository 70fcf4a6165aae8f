"""Decode an NDJSON stream into lines. No I/O, and no JSON: the reader parses each line."""

from ipychat.wire._lines import Lines


class LineDecoder:
    """Takes chunks of any size; returns the lines that are not blank, without line ends."""

    def __init__(self) -> None:
        self._lines = Lines()

    def feed(self, chunk: bytes) -> list[str]:
        """Return the lines that `chunk` completes."""
        return _split(self._lines.feed(chunk))

    def close(self) -> list[str]:
        """Return the last line if it has no line end."""
        return _split(self._lines.close())


def _split(lines: str) -> list[str]:
    return [line for line in lines.split("\n") if line and not line.isspace()]
