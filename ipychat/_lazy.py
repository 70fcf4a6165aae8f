"""What is imported on use: public names, and packages that take long."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def attributes(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a module's `__getattr__` that finds each name in its home module, once."""

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value: Any = import_module(homes[name])
        if homes[name] != f"{package}.{name}":  # else the module itself is meant
            value = getattr(value, name)
        setattr(import_module(package), name, value)
        return value

    return find


async def load(module: str) -> None:
    """Import `module` in a thread: there it holds the loop for a few milliseconds at a time."""
    if module not in _loaded:
        import asyncio

        await asyncio.to_thread(import_module, module)
        _loaded.add(module)


_loaded: set[str] = set()
"""Modules whose import has come to its end; `sys.modules` also has those that are half imported."""
