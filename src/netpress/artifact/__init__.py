"""The ``.netpress`` file: one network with all that is needed to run it; ``docs/format.md`` describes the bytes.

`open_contents` reads a file without torch; the other names are imported when they are first used, since they bring it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from netpress.artifact.contents import Contents, open_contents
from netpress.lazy import from_homes

if TYPE_CHECKING:
    from netpress.artifact.inspection import inspect
    from netpress.artifact.reading import Artifact, load, read
    from netpress.artifact.writing import save, size

__all__ = ["Artifact", "Contents", "inspect", "load", "open_contents", "read", "save", "size"]

_HOME = {
    "inspect": "inspection",
    "Artifact": "reading",
    "load": "reading",
    "read": "reading",
    "save": "writing",
    "size": "writing",
}

__getattr__ = from_homes(__name__, _HOME)
