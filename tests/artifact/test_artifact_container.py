"""The outer form: what is sealed comes back, and nothing else is taken for it."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netpress.artifact import container
from netpress.artifact.container import CHECKSUM_BYTES, MAGIC, MOST_HEADER_BYTES, varint
from netpress.errors import (
    ArtifactError,
    ChecksumError,
    FormatError,
    NotAnArtifactError,
    TruncatedError,
    VersionError,
)


def sealed(first: bytes = b"structure", second: bytes = b"payloads") -> bytes:
    return b"".join(container.seal(first, [second]))


def resealed(body: bytes) -> bytes:
    """The body with the checksum an attacker would put there."""
    return body + hashlib.sha256(body).digest()[:16]


def test_bytes_by_hand() -> None:
    body = b"\x89NPR\r\n" + b"\x01" + b"\x02" + b"\xac\x02" + b"ab" + b"c" * 300  # 300 = 0b10_0101100
    assert sealed(b"ab", b"c" * 300) == body + hashlib.sha256(body).digest()[:16]


@given(st.binary(max_size=300), st.lists(st.binary(max_size=200), max_size=4))
def test_round_trip(first: bytes, second: list[bytes]) -> None:
    data = b"".join(container.seal(first, second))
    assert [bytes(section) for section in container.unseal(data)] == [first, b"".join(second)]
    assert container.read_header(data[:MOST_HEADER_BYTES], len(data)).total_bytes == len(data)


@given(st.integers(0, 2**63 - 1), st.binary(max_size=3))
def test_varints_come_back_and_leave_what_follows(value: int, rest: bytes) -> None:
    data = b"x" + varint(value)
    assert container.read_varint(data + rest, 1) == (value, len(data))


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", TruncatedError),
        (b"\x80", TruncatedError),
        (b"\xff" * 8, TruncatedError),
        (b"\xff" * 9, FormatError),
        (b"\xff" * 20, FormatError),
        (b"\x80\x00", FormatError),
        (b"\x81\x80\x00", FormatError),
    ],
    ids=range(7),
)
def test_varints_that_are_none(data: bytes, error: type[ArtifactError]) -> None:
    with pytest.raises(error):
        container.read_varint(data, 0)


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
    for position in range(len(MAGIC) + 3, len(data)):
        changed = bytearray(data)
        changed[position] ^= 1
        with pytest.raises(ChecksumError, match="altered after it was written"):
            container.unseal(bytes(changed))


def test_a_byte_that_moves_from_one_section_to_the_other_is_noticed() -> None:
    changed = bytearray(sealed())
    changed[7:9] = bytes([changed[7] - 1, changed[8] + 1])  # the same total
    with pytest.raises(ChecksumError):
        container.unseal(bytes(changed))


def test_every_shorter_file_is_truncated() -> None:
    data = sealed(second=bytes(1000))
    for length in range(len(data)):
        with pytest.raises(TruncatedError):
            container.unseal(data[:length])


def test_longer_files_are_refused() -> None:
    with pytest.raises(FormatError, match="bytes follow the end"):
        container.unseal(sealed() + b"\0")


@pytest.mark.parametrize("data", [b"PK\x03\x04 and so on", b"\x89NPR\n\x01\0\0\0\0\0\0\0", b"\x89NPR\r\r\n\x01", b"x"])
def test_other_files(data: bytes) -> None:
    with pytest.raises(NotAnArtifactError, match=r"not a \.netpress file; got: it begins with"):
        container.unseal(data)


@pytest.mark.parametrize(("version", "remedy"), [(2, "update netpress"), (0, "download the file again")])
def test_other_versions(version: int, remedy: str) -> None:
    changed = bytearray(sealed()[:-CHECKSUM_BYTES])
    changed[6] = version
    with pytest.raises(VersionError, match=rf"got: {version}; allowed: 1; remedy: .*{remedy}"):
        container.unseal(resealed(bytes(changed)))


def test_a_header_alone_and_less() -> None:
    whole = MAGIC + b"\x01\x00\x00"
    assert [len(part) for part in container.unseal(resealed(whole))] == [0, 0]
    with pytest.raises(TruncatedError, match="within its header; got: 8 bytes; allowed: at least 25"):
        container.unseal(whole[:-1])


@pytest.mark.parametrize(
    ("lengths", "error"),
    [
        (varint(8) + varint(8), FormatError),  # one byte less than there is
        (varint(10) + varint(8), TruncatedError),
        (varint(9) + varint(2**62), TruncatedError),
        (varint(2**63 - 1) + varint(8), FormatError),
        (varint(2**62 + 1) + varint(2**62 + 1), FormatError),
        (b"\x89\x00" + varint(8), FormatError),
        (b"\xff" * 10 + varint(8), FormatError),
    ],
    ids=range(7),
)
def test_lengths_that_do_not_fill_the_file(lengths: bytes, error: type[ArtifactError]) -> None:
    with pytest.raises(error):
        container.unseal(resealed(MAGIC + b"\x01" + lengths + b"structure" + b"payloads"))
