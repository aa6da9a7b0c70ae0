"""Which targets there are."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netpress.errors import UnknownNameError

if TYPE_CHECKING:
    from torch import Tensor

    from netpress.artifact import Artifact


@dataclass(frozen=True, kw_only=True)
class Target:
    """One form to export to; the fields are described in `netpress.export`."""

    name: str
    suffix: str
    write: Callable[[Artifact, Path], None]
    open: Callable[[Path], Callable[[Tensor], Tensor]]
    about: Callable[[Path], dict[str, Any]]
    folder: bool = False


def target_names() -> tuple[str, ...]:
    """All targets, sorted."""
    folder = [str(Path(__file__).parent)]
    modules = [entry.name for entry in pkgutil.iter_modules(folder) if not entry.name.startswith("_")]
    return tuple(sorted(name.replace("_", "-") for name in modules))


def target_by_name(name: str) -> Target:
    """The target of that name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in target_names():
        raise UnknownNameError("export target", name, target_names())
    module = importlib.import_module(f"{__package__}.{name.replace('-', '_')}")
    return Target(
        name=name,
        suffix=module.SUFFIX,
        write=module.write,
        open=module.open,
        about=module.about,
        folder=getattr(module, "FOLDER", False),
    )
