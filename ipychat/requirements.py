"""Versions of the packages that ipychat needs, and the command that installs an extra's.

Both are read from the installed metadata. A package is checked once, when it is first used: loading
must not wait for that.
"""

from __future__ import annotations

import functools
import re

DISTRIBUTION = "ipychat"
OF_EXTRA = r"""extra == ["']{}["']$"""

_checked: set[str] = set()


class OutdatedError(ImportError):
    """An installed package is older than ipychat supports."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback."""
        return [f"{type(self).__name__}: {self}"]


def check(package: str) -> None:
    """Raise OutdatedError if `package` (its name on the index) is older than ipychat supports.

    pip enforces the lowest versions; conda and `--no-deps` may not. Does nothing if there is no
    metadata, as in a frozen application.
    """
    if package in _checked:
        return
    from importlib import metadata

    try:
        floor, installed = _floor(package), metadata.version(package)
    except metadata.PackageNotFoundError:
        floor = installed = ""
    if _parts(installed) < _parts(floor):
        raise OutdatedError(
            f"ipychat needs {package} {floor} or newer; {installed} is installed.\n"
            f'pip install -U "{package}>={floor}"'
        )
    _checked.add(package)


def install(extra: str) -> str:
    """Return the command that installs the packages of `extra`, quoted for any shell.

    It names the packages themselves, never ipychat: that would not say which checkout, wheel or
    commit is meant, and on PyPI the name belongs to another project.
    """
    split = [[part.strip() for part in one.split(";", 1)] for one in _required()]
    own = re.compile(OF_EXTRA.format(re.escape(extra)))
    named = [name for name, *marker in split if marker and own.search(marker[0])]
    if not named:
        return f"install what its extra {extra} lists"
    return " ".join(["pip install", *(f'"{name}"' for name in named)])


@functools.cache
def _required() -> list[str]:
    from importlib import metadata

    try:
        return metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:  # run from its folder, not installed
        return []


def _floor(package: str) -> str:
    """Return the lowest supported version; empty if any will do."""
    pattern = re.compile(rf"{re.escape(package)}(?![\w.-])[^;]*>=([\d.]+)", re.IGNORECASE)
    return next((found[1] for one in _required() if (found := pattern.match(one))), "")


def _parts(version: str) -> list[int]:
    """Return the numbers that a version starts with."""
    release = re.split(r"[^\d.]", version, maxsplit=1)[0]
    return [int(number) for number in release.split(".") if number]
