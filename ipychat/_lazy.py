"""Public names that are imported on use."""

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
