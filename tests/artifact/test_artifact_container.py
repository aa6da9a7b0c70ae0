"""The outer form: what is sealed comes back, and nothing else is taken for it."""

from __future__ import annotations

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netpress.artifact import container
from netpress.errors import (
    ArtifactError,
    ChecksumError,
    FormatError,
    NotAnArtifactError,
    TruncatedError,
    VersionError,
)


def sealed(first: bytes = b"structure", second: bytes = b"payloads") -> bytes:
    return b"".join(container.seal([[first], [second]]))


def resealed(data: bytes) -> bytes:
    """The same bytes with the checksum an attacker would put there."""
    return data[:-32] + hashlib.sha256(data[:-32]).digest()


def test_bytes_by_hand() -> None:
    # Header 44, zeros to 48, "ab", zeros to 56, "c", and the checksum of those 57 bytes.
    body = (
        b"\x89NPR\r\n\x1a\n"
        + struct.pack("<HHQ", 1, 2, 57 + 32)
        + b"GRPH"
        + struct.pack("<Q", 2)
        + b"TENS"
        + struct.pack("<Q", 1)
        + bytes(4)
        + b"ab"
        + bytes(6)
        + b"c"
    )
    assert sealed(b"ab", b"c") == body + hashlib.sha256(body).digest()


@given(st.binary(max_size=40), st.lists(st.binary(max_size=20), max_size=4))
def test_round_trip(first: bytes, second: list[bytes]) -> None:
    data = b"".join(container.seal([[first], second]))
    assert [bytes(section) for section in container.unseal(data)] == [first, b"".join(second)]
    assert container.total_length(data[: container.HEADER_BYTES], len(data)) == len(data)


def test_every_bit_matters() -> None:
    data = sealed()
    for position in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[position] ^= 1 << bit
            with pytest.raises(ArtifactError):
                container.unseal(bytes(changed))


def test_every_bit_of_the_content_is_under_the_checksum() -> None:
    data = sealed()
    for position in range(20, len(data)):
        changed = bytearray(data)
        changed[position] ^= 1
        with pytest.raises(ChecksumError, match="altered after it was written"):
            container.unseal(bytes(changed))


def test_every_shorter_file_is_truncated() -> None:
    data = sealed()
    for length in range(len(data)):
        with pytest.raises(TruncatedError, match=rf"got: {length} bytes"):
            container.unseal(data[:length])


def test_longer_files_are_refused() -> None:
    with pytest.raises(FormatError, match="bytes follow the end"):
        container.unseal(sealed() + b"\0")


@pytest.mark.parametrize("data", [b"PK\x03\x04 and so on", b"\x89NPR\n\x1a\n\0\0\0\0\0\0\0", b"x"])
def test_other_files(data: bytes) -> None:
    with pytest.raises(NotAnArtifactError, match=r"not a \.netpress file; got: it begins with"):
        container.unseal(data)


@pytest.mark.parametrize(("version", "remedy"), [(2, "update netpress"), (0, "download the file again")])
def test_other_versions(version: int, remedy: str) -> None:
    changed = bytearray(sealed())
    changed[8:10] = struct.pack("<H", version)
    with pytest.raises(VersionError, match=rf"got: {version}; allowed: 1; remedy: .*{remedy}"):
        container.unseal(resealed(bytes(changed)))


def test_a_length_too_small_for_header_and_checksum() -> None:
    head = struct.pack("<8sHHQ", container.MAGIC, 1, 2, 40)
    with pytest.raises(TruncatedError, match="no room"):
        container.unseal(head + bytes(20))


@pytest.mark.parametrize("length", [0, 8, 17, 2**63, 2**64 - 1])
def test_section_lengths_that_do_not_fill_the_file(length: int) -> None:
    changed = bytearray(sealed())
    changed[24:32] = struct.pack("<Q", length)
    with pytest.raises(FormatError):
        container.unseal(resealed(bytes(changed)))


def test_padding_is_zero() -> None:
    changed = bytearray(sealed())
    changed[45] = 1
    with pytest.raises(FormatError, match="bytes 44 to 48, between sections, are not zero"):
        container.unseal(resealed(bytes(changed)))


@pytest.mark.parametrize("names", [b"TENSGRPH", b"GRPHGRPH", b"GRPHMORE"])
def test_sections_are_these_two_in_this_order(names: bytes) -> None:
    changed = bytearray(sealed())
    changed[20:24], changed[32:36] = names[:4], names[4:]
    with pytest.raises(FormatError, match="wrong sections"):
        container.unseal(resealed(bytes(changed)))


def test_number_of_sections() -> None:
    changed = bytearray(sealed())
    changed[10:12] = struct.pack("<H", 65535)
    with pytest.raises(FormatError, match="wrong number of sections; got: 65535; allowed: 2"):
        container.unseal(resealed(bytes(changed)))
