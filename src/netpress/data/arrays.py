"""Data from arrays: an ``.npz`` file, or a callable in the user's own Python file."""

from __future__ import annotations

import importlib.util
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netpress.data.dataset import Data, Split, canonical_labels
from netpress.data.preprocess import Preprocess
from netpress.errors import DataError, NetpressError, UnknownNameError

ARRAY_NAMES = ("x_train", "y_train", "x_test", "y_test", "classes")
_MOST_CLASSES = 100_000
_LOCAL_HEADER_BYTES = 30  # of a zip file, before the member's name


def open_npz(path: Path) -> Data:
    """``x_train``, ``y_train``, ``x_test``, ``y_test`` and ``classes`` of an ``.npz`` file.

    Labels, ``classes`` and the test part may be left out; other arrays are not read. Floating point labels make a
    regression. uint8 images get the scale 1/255, floating point ones none, signed integers of shape (N, F) are indices.
    Images that are stored without compression (``np.savez``) stay on disk and are memory-mapped.

    Raises:
        DataError: No such file, not an npz file, a missing, pickled or misspelled array (``Y_train``, ``xtest``).
    """
    if not path.is_file():
        raise DataError("there is no such data file", got=path, allowed="an .npz file", remedy="check the path")
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if misspelled := sorted(name for name in set(members) - set(ARRAY_NAMES) if _plain(name) in _PLAIN_NAMES):
            raise DataError(f"{path}: misspelled arrays", got=", ".join(misspelled), allowed=", ".join(ARRAY_NAMES))
        arrays = {name: _npz_member(path, info) for name, info in members.items() if name in ARRAY_NAMES}
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError) as error:
        if isinstance(error, NetpressError):
            raise
        raise DataError(
            f"cannot read {path}",
            got=str(error),
            allowed="an .npz file of plain arrays (no pickled objects)",
            remedy="write it with np.savez(path, x_train=..., y_train=..., x_test=..., y_test=...)",
        ) from error
    return data_of(arrays, path.name)


def data_of(arrays: Mapping[str, Any], name: str) -> Data:
    """A data set of named arrays, see :func:`open_npz`; a part that is left out has no rows.

    Raises:
        DataError: No ``x_train``, an unknown name, or labels that are neither classes nor numbers.
    """
    if unknown := sorted(set(arrays) - set(ARRAY_NAMES)):
        raise DataError(f"{name}: unknown arrays", got=", ".join(unknown), allowed=", ".join(ARRAY_NAMES))
    if arrays.get("x_train") is None:
        raise DataError(f"{name}: there is no x_train", got=", ".join(sorted(arrays)) or "nothing", allowed="x_train")
    x_train = _images(arrays["x_train"])
    train = Split(x_train, arrays.get("y_train"))
    x_test = arrays.get("x_test")
    if x_test is not None:
        test = Split(_images(x_test), arrays.get("y_test"))
    else:
        test = Split(x_train[:0], None if train.labels is None else train.labels[:0])
    given = [split.labels for split in (train, test) if isinstance(split.labels, np.ndarray) and len(split.labels)]
    regression = any(labels.dtype == np.float32 for labels in given)
    classes = () if regression else _classes(arrays.get("classes"), given, name)
    task = "regression" if regression else "classification"
    return Data(name, train, test, classes, task, natural_preprocess(x_train))


def natural_preprocess(images: Any) -> Preprocess:
    """uint8: 1/255. Signed integers of shape (N, F): indices. Anything else: as it is."""
    if images.dtype == np.uint8:
        return Preprocess(1 / 255)
    return Preprocess(indices=images.dtype.kind == "i" and len(images.shape) == 2)


def open_python(path: Path, name: str) -> Data:
    """What the callable ``name`` of a Python file returns when it is called without arguments.

    It may return a :class:`Data`; a dict as :func:`data_of` takes it; or the four arrays
    ``(x_train, y_train, x_test, y_test)``. The file is the user's own code and runs as such.

    Raises:
        DataError: No such file, the code fails, or it returns something else.
        UnknownNameError: The file has no such callable.
    """
    if not path.is_file():
        raise DataError("there is no such Python file", got=path, allowed="FILE.py:CALLABLE", remedy="check the path")
    spec = importlib.util.spec_from_file_location(f"netpress_user_data_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise DataError("this is not a Python file", got=path, allowed="FILE.py:CALLABLE")
    module = importlib.util.module_from_spec(spec)
    _run(lambda: spec.loader.exec_module(module), path.name)  # type: ignore[union-attr]
    load = getattr(module, name, None)
    if not callable(load):
        callables = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UnknownNameError(f"callable in {path.name}", name, callables)
    result = _run(load, f"{path.name}:{name}")
    if isinstance(result, Data):
        return result
    if isinstance(result, Mapping):
        return data_of(result, f"{path.name}:{name}")
    if isinstance(result, tuple) and len(result) == 4:
        return data_of(dict(zip(ARRAY_NAMES[:4], result, strict=True)), f"{path.name}:{name}")
    raise DataError(
        f"{path.name}:{name} returned something else than data",
        got=f"{type(result).__name__}" + (f" of {len(result)}" if isinstance(result, tuple) else ""),
        allowed=f"netpress.data.Data, a dict with {', '.join(ARRAY_NAMES)}, or (x_train, y_train, x_test, y_test)",
    )


def _run(code: Callable[[], Any], where: str) -> Any:
    try:
        return code()
    except Exception as error:  # the user's own code may raise anything
        if isinstance(error, NetpressError):
            raise
        raise DataError(
            f"{where} failed", got=f"{type(error).__name__}: {error}", remedy="run the file by itself"
        ) from error


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))


_PLAIN_NAMES = {_plain(name) for name in ARRAY_NAMES}


def _images(images: Any) -> Any:
    if isinstance(images, list | tuple):
        images = np.asarray(images)
    return Split(images).images


def _classes(names: Any, labels: list[NDArray[Any]], where: str) -> tuple[str, ...]:
    if names is not None:
        return tuple(str(name) for name in names)
    if not labels:
        return ()
    most = max(int(part.max()) for part in labels)
    if most >= _MOST_CLASSES:
        raise DataError(
            f"{where}: labels out of range",
            got=f"label {most}",
            allowed=f"0 to {_MOST_CLASSES - 1}",
            remedy="number the classes from 0",
        )
    return tuple(str(k) for k in range(most + 1))


def _npz_member(path: Path, info: zipfile.ZipInfo) -> NDArray[Any]:
    """One array; memory-mapped when it is images stored without compression."""
    name = info.filename.removesuffix(".npy")
    if name.startswith("x_") and info.compress_type == zipfile.ZIP_STORED:
        mapped = _memory_map(path, info)
        if mapped is not None:
            return mapped
    with np.load(path, allow_pickle=False) as arrays:
        array: NDArray[Any] = arrays[name]
    return array if name == "classes" or not name.startswith("y_") else canonical_labels(array)


def _memory_map(path: Path, info: zipfile.ZipInfo) -> NDArray[Any] | None:
    """The array where it lies in the file; None for what must be read (nothing in it, an unusual header)."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        header = file.read(_LOCAL_HEADER_BYTES)
        # The local header's own lengths: its extra field may differ from the one in the central directory.
        name_bytes, extra_bytes = struct.unpack("<HH", header[26:30])
        file.seek(info.header_offset + _LOCAL_HEADER_BYTES + name_bytes + extra_bytes)
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        elif version == (2, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
        else:
            return None
        if dtype.hasobject or 0 in shape or not shape:
            return None
        return np.memmap(path, dtype=dtype, mode="r", offset=file.tell(), shape=shape, order="F" if fortran else "C")
