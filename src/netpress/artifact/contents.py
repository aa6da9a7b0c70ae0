"""From a file to what it says, without torch. Nothing in the file is trusted; nothing of it is executed or imported."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from typing import Any

from netpress.artifact import container, disk, document, table
from netpress.errors import FormatError
from netpress.program import Program

_FIELDS = {"graph": dict, "preprocess": dict, "task": str, "classes": list, "metadata": dict}


@dataclass(frozen=True)
class Contents:
    """A file whose form was checked and whose tensors were not yet decoded.

    Attributes:
        program: The network without its tensors.
        tensors: How each tensor is stored.
        sizes: Bytes by part: ``structure`` (the graph, the tensor table, payloads of up to 16 bytes, and the fields below, all
            under one compression), ``tensors`` (all other payloads), ``checksum``, ``overhead`` (the header), and ``total``,
            their sum and the length of the file.
        data: The whole file.
    """

    program: Program
    tensors: list[table.StoredTensor]
    preprocess: dict[str, Any] | None
    task: str
    classes: tuple[str, ...]
    metadata: dict[str, Any]
    sizes: dict[str, int]
    data: bytes = field(repr=False)

    @property
    def sha256(self) -> str:
        """Of the whole file, as ``sha256sum`` prints it."""
        return hashlib.sha256(self.data).hexdigest()


def open_contents(path: str | os.PathLike[str]) -> Contents:
    """Reads and checks a file up to, not including, its tensors' values.

    Raises:
        ArtifactError: a subclass that says what is wrong with the file.
    """
    data = disk.read_file(path)
    structure, payloads = container.unseal(data)
    found, rows = document.unpack(structure)
    if "graph" not in found or not found.keys() <= _FIELDS.keys():
        raise FormatError("the structure has other fields", got=f"{sorted(found)!r:.200}", allowed=sorted(_FIELDS))
    for name, value in found.items():
        if not isinstance(value, _FIELDS[name]):
            raise FormatError(
                f"field {name!r} has the wrong type", got=type(value).__name__, allowed=_FIELDS[name].__name__
            )
    classes = found.get("classes", [])
    if not all(isinstance(name, str) for name in classes):
        raise FormatError("field 'classes' holds more than names", got=f"{classes!r:.80}")
    program = Program(found["graph"])
    sizes = {"structure": len(structure), "tensors": len(payloads), "checksum": container.CHECKSUM_BYTES}
    sizes["overhead"] = len(data) - sum(sizes.values())
    tensors = table.unpack(rows, program.expected, payloads, len(data))
    _check_types(program, tensors)
    return Contents(
        program=program,
        tensors=tensors,
        preprocess=found.get("preprocess"),
        task=found.get("task", document.DEFAULT_TASK),
        classes=tuple(classes),
        metadata=found.get("metadata", {}),
        sizes={**sizes, "total": len(data)},
        data=data,
    )


def _check_types(program: Program, tensors: list[table.StoredTensor]) -> None:
    """Another type of floating point may stand in the place of the usual one; nothing else may."""
    for stored in tensors:
        usual = program.expected[stored.name].dtype
        if stored.dtype != usual and not (stored.dtype.is_floating_point and usual.is_floating_point):
            raise FormatError(f"the tensor {stored.name!r} is of another type", got=stored.dtype, allowed=usual)
