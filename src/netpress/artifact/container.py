"""The outer form of a ``.netpress`` file: two sections between a header and a checksum; pure bytes, no tensors.

``docs/format.md`` is the description. In short::

    magic 6 | version 1 | length of the structure, varint | length of the payloads, varint
    structure | payloads | the first 16 bytes of the SHA-256 of every byte before

Only lengths are stored, never offsets, and nothing lies between the parts: sections that overlap, run backwards or leave gaps
cannot be written down.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from netpress.errors import ChecksumError, FormatError, NotAnArtifactError, TruncatedError, VersionError

MAGIC = b"\x89NPR\r\n"
"""Not text, and broken by a transfer that changes line ends or strips the eighth bit (as in PNG, RFC 2083, 3.1)."""

VERSION = 1
CHECKSUM_BYTES = 16
"""Of SHA-256's 32: 128 bits tell an accident from the truth as surely as 256 do, and neither stops who can compute them."""

LEAST_HEADER_BYTES = len(MAGIC) + 3
MOST_HEADER_BYTES = len(MAGIC) + 1 + 2 * 9
MOST_LENGTH = 2**62

_DAMAGED = "copy or download the file again, or save the network once more"


@dataclass(frozen=True)
class Header:
    """Where the parts of a file lie.

    Attributes:
        size_bytes: Of the header itself, at which the structure begins.
        structure_bytes: Length of the structure.
        payload_bytes: Length of the payloads, which follow it.
    """

    size_bytes: int
    structure_bytes: int
    payload_bytes: int

    @property
    def total_bytes(self) -> int:
        """Length of the whole file."""
        return self.size_bytes + self.structure_bytes + self.payload_bytes + CHECKSUM_BYTES


def varint(value: int) -> bytes:
    """A number >= 0, seven bits a byte, the lowest first; the top bit says that more follow (LEB128)."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """The number at byte ``at`` and the place behind it.

    Raises:
        TruncatedError: the bytes end within it.
        FormatError: it takes more than 9 bytes, or more than it needs.
    """
    value = 0
    for index in range(9):
        if at + index >= len(data):
            raise TruncatedError("the bytes end within a number", got=f"{len(data)} bytes", remedy=_DAMAGED)
        byte = data[at + index]
        value |= (byte & 127) << 7 * index
        if byte < 128:
            if byte == 0 and index:
                raise FormatError("a number is written longer than it needs", got=f"{index + 1} bytes for {value}")
            return value, at + index + 1
    raise FormatError("a number is too long", allowed="63 bits in 9 bytes")


def seal(structure: bytes, payloads: Sequence[bytes]) -> Iterator[bytes]:
    """The file, piece by piece.

    Args:
        structure: The first section.
        payloads: The second one, in pieces that are simply joined.

    Yields:
        The bytes of the file in order, the checksum last; only the checksum is computed beside what was given.
    """
    digest = hashlib.sha256()
    lengths = varint(len(structure)) + varint(sum(len(piece) for piece in payloads))
    for piece in (MAGIC + bytes([VERSION]) + lengths, structure, *payloads):
        digest.update(piece)
        yield piece
    yield digest.digest()[:CHECKSUM_BYTES]


def read_header(head: bytes, size_bytes: int) -> Header:
    """Judges a file by its first bytes, before the rest is read.

    Args:
        head: The first `MOST_HEADER_BYTES` bytes, or all there are.
        size_bytes: The real length of the file.

    Returns:
        The header, whose ``total_bytes`` is ``size_bytes``.

    Raises:
        NotAnArtifactError: it begins with something else.
        VersionError: another version of netpress made it.
        TruncatedError: bytes are missing.
        FormatError: bytes follow the end, or a length is not written as this format writes it.
    """
    if not MAGIC.startswith(head[: len(MAGIC)]):
        raise NotAnArtifactError(
            "this is not a .netpress file",
            got=f"it begins with {head[:8]!r}",
            allowed=f"{MAGIC!r}",
            remedy="`netpress compress` and netpress.save write such files",
        )
    if len(head) < LEAST_HEADER_BYTES:
        raise TruncatedError(
            "the file ends within its header",
            got=f"{size_bytes} bytes",
            allowed=f"at least {LEAST_HEADER_BYTES + CHECKSUM_BYTES}",
            remedy=_DAMAGED,
        )
    if (version := head[len(MAGIC)]) != VERSION:
        raise VersionError(
            "the file has another format version",
            got=version,
            allowed=VERSION,
            remedy="update netpress" if version > VERSION else _DAMAGED,
        )
    structure_bytes, at = read_varint(head, len(MAGIC) + 1)
    payload_bytes, at = read_varint(head, at)
    header = Header(at, structure_bytes, payload_bytes)
    if max(structure_bytes, payload_bytes) > MOST_LENGTH:
        raise FormatError("a section is longer than any file", got=header.total_bytes, allowed=MOST_LENGTH)
    if size_bytes < header.total_bytes:
        raise TruncatedError(
            "the file ends too early",
            got=f"{size_bytes} bytes",
            allowed=f"{header.total_bytes}, as it says itself",
            remedy=_DAMAGED,
        )
    if size_bytes > header.total_bytes:
        raise FormatError(
            "bytes follow the end of the file",
            got=f"{size_bytes} bytes",
            allowed=f"{header.total_bytes}, as it says itself",
            remedy=_DAMAGED,
        )
    return header


def unseal(data: bytes) -> tuple[memoryview, memoryview]:
    """Structure and payloads of a whole file, without copying them.

    Args:
        data: All bytes of the file.

    Raises:
        ArtifactError: as for `read_header`; then ChecksumError if any bit was changed.
    """
    header = read_header(data[:MOST_HEADER_BYTES], len(data))
    view = memoryview(data)
    body, stored = view[:-CHECKSUM_BYTES], bytes(view[-CHECKSUM_BYTES:])
    computed = hashlib.sha256(body).digest()[:CHECKSUM_BYTES]
    if computed != stored:
        raise ChecksumError(
            "the file was altered after it was written: its checksum does not agree",
            got=f"sha256 {computed.hex()}",
            allowed=stored.hex(),
            remedy=_DAMAGED,
        )
    end = header.size_bytes + header.structure_bytes
    return body[header.size_bytes : end], body[end:]
