"""Matching known words: near misses of a misspelt one, and those that have what was typed."""

from __future__ import annotations

from collections.abc import Iterable


def has_all(name: str, words: Iterable[str]) -> bool:
    """Whether a name contains all the words, whatever stands between letters and digits.

    So `gpt5` finds `gpt-5.5`.
    """
    written, bare = name.lower(), _bare(name)
    return all(word.lower() in written or (_bare(word) or " ") in bare for word in words)


def _bare(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))


def nearest(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Return up to `most` known names that are close to `name`, the closest first."""
    import difflib

    by_small_letters = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), by_small_letters, n=most, cutoff=0.6)
    return [by_small_letters[one] for one in near]


def near(name: str, known: Iterable[str], most: int = 3) -> str:
    """Return " Did you mean …?" with the closest known names; empty if none is close."""
    found = nearest(name, known, most)
    return f" Did you mean {' or '.join(found)}?" if found else ""
