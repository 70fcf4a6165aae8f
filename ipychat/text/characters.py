"""Characters that can't be sent, and characters that a terminal or page would act on. Pure."""

import re

_ACTING = r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
"""Control characters except tab and newline, and the characters that change text direction."""
_ASCII_ACTING = bytes({*range(0x20), 0x7F} - {*b"\t\n"})


def whole(text: str) -> str:
    """Join split surrogate pairs; replace lone surrogates with U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def split_half(text: str) -> tuple[str, str]:
    """Split off the first half of a surrogate pair that `text` may end with."""
    if text and "\ud800" <= text[-1] <= "\udbff":
        return text[:-1], text[-1]
    return text, ""


def harmless(text: str) -> str:
    """Remove the characters that a terminal or a page would act on."""
    # the common case: the regular expression would hold the loop for a megabyte of text
    if text.isascii():
        return text.encode().translate(None, _ASCII_ACTING).decode()
    return re.sub(_ACTING, "", whole(text))


def shortened(text: str, longest: int | None) -> str:
    """Return at most `longest` characters of `text`, and say how many more there are."""
    if longest is None or len(text) <= longest:
        return text
    return f"{text[:longest]} … ({len(text) - longest:,} more characters)"


def counted(number: int, what: str) -> str:
    """Return the number with its noun, in the plural unless it is 1."""
    return f"{number} {what}{'' if number == 1 else 's'}"
