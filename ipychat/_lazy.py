"""Imports on first use: public names, and packages that are slow to import."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def attributes(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a module's `__getattr__` that imports each name from its home module, once."""

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value: Any = import_module(homes[name])
        if homes[name] != f"{package}.{name}":  # else the name is the module itself
            value = getattr(value, name)
        setattr(import_module(package), name, value)
        return value

    return find


async def load(module: str) -> None:
    """Import `module` in a thread, where it holds the loop for only milliseconds at a time."""
    if module not in _loaded:
        import asyncio

        await asyncio.to_thread(import_module, module)
        _loaded.add(module)


_loaded: set[str] = set()
"""Fully imported modules; `sys.modules` also holds those still being imported."""
