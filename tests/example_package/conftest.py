"""The package is not installed here: its provider is known while its tests run."""

import pytest
from ipychat_parrot import Parrot

from ipychat.catalog import registry


@pytest.fixture(autouse=True)
def _installed(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    registry.register(Parrot, "parrot")
