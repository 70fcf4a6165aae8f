"""Characters that can't be sent, and characters that a terminal or page would act on. Pure."""

import re
import unicodedata

_ACTING = r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
"""Control characters except tab and newline, and the characters that change text direction."""
_ASCII_ACTING = bytes({*range(0x20), 0x7F} - {*b"\t\n"})
_UNSEEN = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef"
"""Printable characters that nobody sees, besides those that Python calls not printable."""
_LIKE_ASCII = "АВЕЅІЈКМНОРСТУХаеорсухіјѕԁԛԝһΑΒΕΖΗΙΚΜΝΟΡΤΥΧο"  # noqa: RUF001 - that is what they are
"""Cyrillic and Greek letters that look like Latin ones."""
_BLANKS = 60
"""Blanks in a row that may move what follows out of sight."""


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


def spelled(text: str) -> str:
    """Return a text as it is to be decided about: with nothing in it that is not seen.

    What is invisible, or looks like another character, is written as Python escapes it.
    """
    text = re.sub(r"\r\n?", "\n", text)  # line ends, to Python
    if not text.isascii():
        text = re.sub(rf"[{_UNSEEN}]", _escaped, text)
        text = re.sub(r"\w*[^\W\x00-\x7f]\w*", _without_doubles, text)
    if not text.replace("\n", "").replace("\t", "").isprintable():
        text = "".join(
            one if one.isprintable() or one in "\n\t" else ascii(one)[1:-1] for one in text
        )
    return re.sub(rf"\s{{{_BLANKS},}}", lambda at: f" … {len(at[0]):,} blanks …\n", text)


def _without_doubles(word: re.Match[str]) -> str:
    """Return a word with letters escaped that look like ASCII, or mean it to Python."""
    others = [one for one in word[0] if not one.isascii()]
    doubles = {one for one in others if ("a" + one).isidentifier() and _folded(one).isascii()}
    if all(one in _LIKE_ASCII or one in doubles for one in others):
        doubles.update(others)  # else it is a word of such a script
    return "".join(ascii(one)[1:-1] if one in doubles else one for one in word[0])


def _folded(letter: str) -> str:
    return unicodedata.normalize("NFKC", letter)


def _escaped(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]


def shortened(text: str, longest: int | None) -> str:
    """Return at most `longest` characters of `text`, and say how many more there are."""
    if longest is None or len(text) <= longest:
        return text
    return f"{text[:longest]} … ({len(text) - longest:,} more characters)"


def counted(number: int, what: str) -> str:
    """Return the number with its noun, in the plural unless it is 1."""
    return f"{number} {what}{'' if number == 1 else 's'}"
