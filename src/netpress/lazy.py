"""Names of a package that are imported when they are first used, so that importing it brings no more than is asked for."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def from_homes(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's ``__getattr__`` (PEP 562): each name of ``homes`` comes from the module of the package that it names, and stays."""

    def __getattr__(name: str) -> Any:  # noqa: N807 - it becomes the module's own
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, found)
        return found

    return __getattr__
