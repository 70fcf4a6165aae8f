"""Words for people: near misses, and numbers with their nouns."""

from __future__ import annotations

from collections.abc import Iterable


def near(name: str, known: Iterable[str], most: int = 3) -> str:
    """Ask whether what comes near was meant; empty where nothing does."""
    import difflib

    by_small_letters = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), by_small_letters, n=most, cutoff=0.6)
    return f" Did you mean {' or '.join(by_small_letters[one] for one in near)}?" if near else ""


def counted(number: int, what: str) -> str:
    """Return the number with its noun."""
    return f"{number} {what}{'' if number == 1 else 's'}"
