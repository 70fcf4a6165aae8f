"""Characters that no message can carry, and those that do more than be read. Pure."""

import re

_ACTING = r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
"""Control characters but tab and line end, and what turns the direction of the text behind it."""
_ASCII_ACTING = bytes({*range(0x20), 0x7F} - {*b"\t\n"})


def whole(text: str) -> str:
    """Join the halves of surrogate pairs; those that are alone become U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def split_half(text: str) -> tuple[str, str]:
    """Return `text` without the half of a character that it may end with, and that half."""
    if text and "\ud800" <= text[-1] <= "\udbff":
        return text[:-1], text[-1]
    return text, ""


def harmless(text: str) -> str:
    """Return `text` without what a terminal or a page would act on."""
    if text.isascii():  # most is, and a megabyte of it would hold the loop
        return text.encode().translate(None, _ASCII_ACTING).decode()
    return re.sub(_ACTING, "", whole(text))


def shortened(text: str, longest: int | None) -> str:
    """Return at most so much of `text`, and how many characters are left out."""
    if longest is None or len(text) <= longest:
        return text
    return f"{text[:longest]} … ({len(text) - longest:,} more characters)"


def counted(number: int, what: str) -> str:
    """Return the number with its noun."""
    return f"{number} {what}{'' if number == 1 else 's'}"
