"""Optional packages: how what an extra needs is installed.

Never by ipychat's own name, which belongs to another project on PyPI, and which would not say which
checkout, wheel or commit is meant: by the names of the packages themselves.
"""

from __future__ import annotations

import re
from importlib import metadata

DISTRIBUTION = "ipychat"
OF_EXTRA = r"""extra == ["']{}["']$"""


def install(extra: str) -> str:
    """Return the line that installs what `extra` needs, quoted as every shell reads it."""
    try:
        wanted = metadata.requires(DISTRIBUTION) or ()
    except metadata.PackageNotFoundError:  # run from its folder, uninstalled
        wanted = ()
    split = [[part.strip() for part in one.split(";", 1)] for one in wanted]
    own = re.compile(OF_EXTRA.format(re.escape(extra)))
    named = [name for name, *marker in split if marker and own.search(marker[0])]
    if not named:
        return f"install what its extra {extra} lists"
    return " ".join(["pip install", *(f'"{name}"' for name in named)])
