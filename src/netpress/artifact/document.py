"""The structure: compact JSON and the tensor table under raw DEFLATE, strict and bounded in both directions.

::

    DEFLATE (RFC 1951, after the text of `dictionary.DICTIONARY`) of: JSON in ASCII | one zero byte | the tensor table
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from typing import Any

from netpress.artifact.dictionary import DICTIONARY
from netpress.errors import ConfigError, FormatError, NetpressError

LIMIT_BYTES = 4 * 2**20
"""The most that a structure may hold before compression; also what a reader decompresses at most."""

DEFAULT_TASK = "classification"
"""The task of a file that does not say one."""

LIMIT_DEPTH = 32
_LIMIT_INTEGER = 2**63
_RAW = -zlib.MAX_WBITS  # without zlib's own header and checksum: the file has a better one


def pack(document: Mapping[str, Any], table: bytes = b"") -> bytes:
    """A JSON-able document and a table as bytes; keys keep their order, so equal documents give equal bytes.

    Raises:
        ConfigError: they hold more than `LIMIT_BYTES` together.
    """
    text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\0" + table
    if len(text) > LIMIT_BYTES:
        raise ConfigError(
            "structure and metadata are too large for one file",
            got=f"{len(text)} bytes of JSON and table",
            allowed=f"{LIMIT_BYTES}",
            remedy="keep long records (logs, histories) out of the metadata",
        )
    return deflate(text)


def deflate(text: bytes) -> bytes:
    """``text`` as raw DEFLATE that begins with the dictionary in its window."""
    packer = zlib.compressobj(9, zlib.DEFLATED, _RAW, 9, zlib.Z_DEFAULT_STRATEGY, DICTIONARY)
    return packer.compress(text) + packer.flush()


def inflate(section: bytes | memoryview) -> bytes:
    """The text that `deflate` packed, from bytes that are not trusted.

    Raises:
        FormatError: not DEFLATE, more than `LIMIT_BYTES` when decompressed, an end too early, or bytes after it.
    """
    stream = zlib.decompressobj(_RAW, DICTIONARY)
    try:
        text = stream.decompress(section, LIMIT_BYTES + 1)
    except zlib.error as error:
        raise FormatError("the structure is not DEFLATE data", got=str(error)) from error
    if len(text) > LIMIT_BYTES:
        raise FormatError("the structure is too large when decompressed", allowed=f"{LIMIT_BYTES} bytes")
    if not stream.eof:
        raise FormatError("the structure's DEFLATE data ends too early")
    if stream.unused_data:
        raise FormatError("bytes follow the structure's DEFLATE data", got=f"{len(stream.unused_data)} bytes")
    return text


def unpack(section: bytes | memoryview) -> tuple[dict[str, Any], bytes]:
    """The document and the table that `pack` wrote, from bytes that are not trusted.

    Raises:
        FormatError: as for `inflate`; or not JSON, not an object, a key twice, a number that is not finite, nested deeper
            than `LIMIT_DEPTH`, or without the zero byte that ends it.
    """
    text, end, table = inflate(section).partition(b"\0")
    if not end:
        raise FormatError("the structure has no tensor table", allowed="a zero byte, then the table, after the JSON")
    try:
        document = json.loads(
            text.decode("ascii"), object_pairs_hook=_object, parse_float=_float, parse_constant=_constant
        )
    except (ValueError, RecursionError) as error:
        raise FormatError("the structure is not JSON as this format has it", got=str(error)) from error
    if not isinstance(document, dict):
        raise FormatError("the structure is not a JSON object", got=type(document).__name__)
    check_json(document, "structure", FormatError)
    return document, table


def check_json(value: object, where: str, error: type[NetpressError] = ConfigError, depth: int = 0) -> Any:
    """Checks that JSON holds ``value`` without loss, and gives it back with lists for tuples and keys sorted.

    Args:
        value: str, int (64 bits), finite float, bool, None, and lists, tuples and dicts with str keys of these.
        where: What to call it in the error's text.
        error: The class to raise.
        depth: How many containers are around it.

    Raises:
        error: it is, or holds, anything else.
    """
    allowed = "text, 64-bit integers, finite numbers, bools, None, and lists and dicts (with text keys) of these"
    if depth > LIMIT_DEPTH:
        raise error(f"{where[:60]}... is nested too deeply", allowed=f"{LIMIT_DEPTH} levels")
    # `type`, not isinstance: numpy's float64 is a float that would come back as another type
    if value is None or type(value) in (str, bool):
        return value
    if type(value) is int and -_LIMIT_INTEGER <= value < _LIMIT_INTEGER:
        return value
    if type(value) is float and math.isfinite(value):
        return value
    if isinstance(value, list | tuple):
        return [check_json(item, f"{where}[{index}]", error, depth + 1) for index, item in enumerate(value)]
    if isinstance(value, dict):
        for key in value:
            if type(key) is not str:
                raise error(f"{where} has a key that is not text", got=repr(key), allowed=allowed)
        return {key: check_json(value[key], f"{where}.{key}", error, depth + 1) for key in sorted(value)}
    raise error(f"{where} cannot be stored", got=f"{type(value).__name__} {value!r:.60}", allowed=allowed)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has one key twice")
    return found


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not finite")
    return number


def _constant(text: str) -> float:
    raise ValueError(f"{text} is not a number of JSON")
