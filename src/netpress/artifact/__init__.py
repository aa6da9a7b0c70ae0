"""The ``.netpress`` file: one network with all that is needed to run it; ``docs/format.md`` describes the bytes."""

from netpress.artifact.inspection import inspect
from netpress.artifact.reading import Artifact, load, read
from netpress.artifact.writing import save, size

__all__ = ["Artifact", "inspect", "load", "read", "save", "size"]
