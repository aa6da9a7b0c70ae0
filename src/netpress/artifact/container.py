"""The outer form of a ``.netpress`` file: named sections between a header and a checksum; pure bytes, no tensors.

``docs/format.md`` is the description. In short::

    magic 8 | version 2 | sections 2 | total length 8 | (name 4 | length 8) per section
    sections, each at the next multiple of 8, zeros between | SHA-256 of every byte before it, 32

Only lengths are stored, never offsets: sections that overlap or run backwards cannot be written down.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence

from netpress.errors import ChecksumError, FormatError, NotAnArtifactError, TruncatedError, VersionError

MAGIC = b"\x89NPR\r\n\x1a\n"
"""Not text, and broken by a transfer that changes line ends or strips the eighth bit (as in PNG, RFC 2083, 3.1)."""

VERSION = 1
SECTIONS = (b"GRPH", b"TENS")
"""The sections of format 1, all of them, in this order."""

ALIGNMENT = 8
CHECKSUM_BYTES = hashlib.sha256().digest_size
_PREFIX = struct.Struct("<8sHHQ")
_ROW = struct.Struct("<4sQ")
HEADER_BYTES = _PREFIX.size + _ROW.size * len(SECTIONS)

_DAMAGED = "copy or download the file again, or save the network once more"


def aligned(offset: int) -> int:
    """The next multiple of `ALIGNMENT` at or after ``offset``."""
    return -(-offset // ALIGNMENT) * ALIGNMENT


def seal(sections: Sequence[Sequence[bytes]]) -> Iterator[bytes]:
    """The file, piece by piece.

    Args:
        sections: For each of `SECTIONS` its content, in pieces that are simply joined.

    Yields:
        The bytes of the file in order, the checksum last; only the checksum is computed beside what was given.
    """
    digest = hashlib.sha256()
    for piece in _unsealed(sections):
        digest.update(piece)
        yield piece
    yield digest.digest()


def _unsealed(sections: Sequence[Sequence[bytes]]) -> Iterator[bytes]:
    lengths = [sum(len(piece) for piece in pieces) for pieces in sections]
    starts, end = _layout(lengths)
    yield _PREFIX.pack(MAGIC, VERSION, len(SECTIONS), end + CHECKSUM_BYTES)
    for name, length in zip(SECTIONS, lengths, strict=True):
        yield _ROW.pack(name, length)
    position = HEADER_BYTES
    for start, length, pieces in zip(starts, lengths, sections, strict=True):
        yield bytes(start - position)
        yield from pieces
        position = start + length


def _layout(lengths: Sequence[int]) -> tuple[list[int], int]:
    """Where sections of these lengths begin, and where the last one ends."""
    starts, end = [], HEADER_BYTES
    for length in lengths:
        starts.append(aligned(end))
        end = starts[-1] + length
    return starts, end


def total_length(head: bytes, size_bytes: int) -> int:
    """Judges a file by its first bytes, before the rest is read.

    Args:
        head: The first `HEADER_BYTES` bytes, or all there are.
        size_bytes: The real length of the file.

    Returns:
        The length the file says it has, which is ``size_bytes``.

    Raises:
        NotAnArtifactError: it begins with something else.
        VersionError: a later netpress made it.
        TruncatedError: bytes are missing.
        FormatError: bytes follow the end.
    """
    if not MAGIC.startswith(head[: len(MAGIC)]):
        raise NotAnArtifactError(
            "this is not a .netpress file",
            got=f"it begins with {head[: len(MAGIC)]!r}",
            allowed=f"{MAGIC!r}",
            remedy="`netpress compress` and netpress.save write such files",
        )
    if len(head) < _PREFIX.size:
        raise TruncatedError(
            "the file ends within its header",
            got=f"{size_bytes} bytes",
            allowed=f"at least {HEADER_BYTES + CHECKSUM_BYTES}",
            remedy=_DAMAGED,
        )
    _, version, _, total = _PREFIX.unpack_from(head)
    if version != VERSION:
        raise VersionError(
            "the file has another format version",
            got=version,
            allowed=VERSION,
            remedy="update netpress" if version > VERSION else _DAMAGED,
        )
    if size_bytes < total:
        raise TruncatedError(
            "the file ends too early", got=f"{size_bytes} bytes", allowed=f"{total}, as it says itself", remedy=_DAMAGED
        )
    if size_bytes > total:
        raise FormatError(
            "bytes follow the end of the file",
            got=f"{size_bytes} bytes",
            allowed=f"{total}, as it says itself",
            remedy=_DAMAGED,
        )
    if total < HEADER_BYTES + CHECKSUM_BYTES:
        raise TruncatedError(
            "the file has no room for its header and checksum",
            got=f"{total} bytes",
            allowed=f"at least {HEADER_BYTES + CHECKSUM_BYTES}",
            remedy=_DAMAGED,
        )
    return int(total)


def unseal(data: bytes) -> list[memoryview]:
    """The sections of a whole file, without copying them.

    Args:
        data: All bytes of the file.

    Returns:
        One view for each of `SECTIONS`.

    Raises:
        ArtifactError: as for `total_length`; then ChecksumError if any bit was changed, and FormatError if the sections
            are not those of this version, do not fill the file exactly, or have other bytes than zeros between them.
    """
    total_length(data[:HEADER_BYTES], len(data))
    view = memoryview(data)
    body, stored = view[:-CHECKSUM_BYTES], bytes(view[-CHECKSUM_BYTES:])
    computed = hashlib.sha256(body).digest()
    if computed != stored:
        raise ChecksumError(
            "the file was altered after it was written: its checksum does not agree",
            got=f"sha256 {computed.hex()[:16]}...",
            allowed=f"{stored.hex()[:16]}...",
            remedy=_DAMAGED,
        )
    _, _, count, _ = _PREFIX.unpack_from(body)
    if count != len(SECTIONS):
        raise FormatError("wrong number of sections", got=count, allowed=len(SECTIONS))
    rows = [_ROW.unpack_from(body, _PREFIX.size + index * _ROW.size) for index in range(count)]
    names = tuple(name for name, _ in rows)
    if names != SECTIONS:
        raise FormatError("wrong sections", got=list(names), allowed=list(SECTIONS))
    lengths = [length for _, length in rows]
    starts, end = _layout(lengths)
    if end != len(body):
        raise FormatError("the sections do not fill the file", got=f"they end at byte {end}", allowed=len(body))
    ends = [HEADER_BYTES, *(start + length for start, length in zip(starts, lengths, strict=True))]
    for gap_start, gap_end in zip(ends, starts, strict=False):
        if any(body[gap_start:gap_end]):
            raise FormatError(f"bytes {gap_start} to {gap_end}, between sections, are not zero")
    return [body[start : start + length] for start, length in zip(starts, lengths, strict=True)]


def checksum(data: bytes) -> str:
    """The stored SHA-256 of a whole file, in hexadecimal."""
    return data[-CHECKSUM_BYTES:].hex()
