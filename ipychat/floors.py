"""The lowest versions of what ipychat needs: a sentence in place of a traceback below them.

pip holds to the lowest versions that `pyproject.toml` names; conda and `--no-deps` need not. A
package is looked at when it is first used, and then once: loading must not wait for that.
"""

import re

_checked: set[str] = set()


class OutdatedError(ImportError):
    """A package that is installed is older than what ipychat works with."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback."""
        return [f"{type(self).__name__}: {self}"]


def check(package: str) -> None:
    """Raise OutdatedError if `package`, by its name on an index, is older than ipychat allows.

    Says nothing where either has no metadata, as in an application that was frozen.
    """
    if package in _checked:
        return
    from importlib import metadata

    try:
        floor = _floor(package, metadata.requires("ipychat") or [])
        installed = metadata.version(package)
    except metadata.PackageNotFoundError:
        floor = installed = ""
    if _parts(installed) < _parts(floor):
        raise OutdatedError(
            f"ipychat needs {package} {floor} or newer; {installed} is installed.\n"
            f'pip install -U "{package}>={floor}"'
        )
    _checked.add(package)


def _floor(package: str, requirements: list[str]) -> str:
    """Return the lowest version that is allowed; empty where any is."""
    pattern = re.compile(rf"{re.escape(package)}(?![\w.-])[^;]*>=([\d.]+)", re.IGNORECASE)
    return next((found[1] for one in requirements if (found := pattern.match(one))), "")


def _parts(version: str) -> list[int]:
    """Return the numbers that a version begins with."""
    release = re.split(r"[^\d.]", version, maxsplit=1)[0]
    return [int(number) for number in release.split(".") if number]
