"""Print the lowest version that `pyproject.toml` allows of each package, as pip takes it.

    pip install $(python tools/floors.py keyring socks)

The names are those of extras whose packages are wanted, too.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
REQUIREMENT = re.compile(r"([\w.-]+)>=([\d.]+)")


def floors(*extras: str) -> list[str]:
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    requirements = [*project["dependencies"], *(one for name in extras for one in optional[name])]
    found = [REQUIREMENT.match(one) for one in requirements]
    if None in found:
        raise SystemExit(f"{requirements[found.index(None)]!r} in {PROJECT.name} has no floor.")
    return [f"{match[1]}=={match[2]}" for match in found if match]


if __name__ == "__main__":
    print(*floors(*sys.argv[1:]))
