"""The structure: lossless JSON and a table under DEFLATE, strict and bounded."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netpress.artifact import document
from netpress.artifact.dictionary import DICTIONARY
from netpress.errors import ConfigError, FormatError

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), JSON, max_size=4), st.binary(max_size=40))
def test_round_trip(value: dict[str, object], table: bytes) -> None:
    stored = document.pack(document.check_json(value, "value"), table)
    assert document.unpack(stored) == (value, table)
    assert (
        document.pack(document.check_json(dict(reversed(value.items())), "value"), table) == stored
    )  # order is no trace


def test_bytes_by_hand() -> None:
    # one block of RFC 1951, 3.2.4: last, stored, its length, the complement of the length, the bytes
    assert document.unpack(b"\x01\x08\x00\xf7\xff" + b'{"a":1}\0') == ({"a": 1}, b"")
    assert document.deflate(b"") == b"\x03\x00"  # last, fixed codes, the end


def test_the_dictionary_is_that_of_format_1() -> None:
    page = (Path(__file__).parents[2] / "docs" / "format.md").read_text(encoding="utf-8")
    assert len(DICTIONARY) <= 4096
    assert f"{len(DICTIONARY):,} bytes" in page
    assert hashlib.sha256(DICTIONARY).hexdigest() in page


def test_what_the_dictionary_holds_costs_next_to_nothing() -> None:
    assert len(document.deflate(DICTIONARY[-200:])) < 12


@given(st.binary(max_size=200))
def test_any_bytes_give_a_typed_error_or_a_document(data: bytes) -> None:
    for section in (data, document.deflate(data), document.deflate(b"{" + data + b"}\0")):
        try:
            assert isinstance(document.unpack(section)[0], dict)
        except FormatError:
            continue


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "not a JSON object; got: list"),
        ('{"a": NaN}', "NaN is not a number"),
        ('{"a": -Infinity}', "-Infinity is not a number"),
        ('{"a": 1e999}', "1e999 is not finite"),
        ('{"a": 1, "a": 2}', "one key twice"),
        ('{"a": 9223372036854775808}', "structure.a cannot be stored; got: int 9223372036854775808"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON as this format has it"),
        ('{"a": 1', "not JSON as this format has it"),
        ('{"a": "\u00e9"}', "not JSON as this format has it"),
        ('{"a": ' + "[" * 50 + "]" * 50 + "}", "nested too deeply; allowed: 32 levels"),
        ('{"a": ' + "[" * 100_000, "not JSON as this format has it"),
        ("", "not JSON as this format has it"),
    ],
    ids=range(12),
)
def test_json_that_is_refused(text: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        document.unpack(document.deflate(text.encode() + b"\0"))


def test_deflate_that_is_refused() -> None:
    stored = document.deflate(b"{}\0")
    with pytest.raises(FormatError, match="not DEFLATE data"):
        document.unpack(b"\xff{}")
    with pytest.raises(FormatError, match="ends too early"):
        document.unpack(stored[:-1])
    with pytest.raises(FormatError, match="ends too early"):
        document.unpack(b"")
    with pytest.raises(FormatError, match="bytes follow the structure's DEFLATE data; got: 3 bytes"):
        document.unpack(stored + b"abc")
    with pytest.raises(FormatError, match="has no tensor table"):
        document.unpack(document.deflate(b"{}"))


def test_a_bomb_takes_no_memory() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(256)) + packer.flush()  # 256 MiB in 256 KiB
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="too large when decompressed"):
            document.unpack(bomb)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 4 * document.LIMIT_BYTES


def test_the_writer_keeps_the_readers_limit() -> None:
    with pytest.raises(
        ConfigError, match=r"too large for one file; got: .* bytes of JSON and table; .*remedy: keep long records"
    ):
        document.pack({"log": "x" * document.LIMIT_BYTES})
    document.unpack(document.pack({"log": "x" * (document.LIMIT_BYTES - 11)}))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "m.a cannot be stored; got: float nan"),
        (float("-inf"), "got: float -inf"),
        (np.float64(1.0), "got: float64"),
        (np.int64(1), "got: int64"),
        ({1, 2}, "got: set"),
        (b"x", "got: bytes"),
        (2**63, "got: int 9223372036854775808"),
        ({1: "x"}, "m.a has a key that is not text; got: 1"),
        ([0, {"b": object}], r"m.a\[1\].b cannot be stored; got: type"),
    ],
    ids=repr,
)
def test_metadata_that_json_would_lose(value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        document.check_json({"a": value}, "m")


def test_a_value_that_holds_itself() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(ConfigError, match="nested too deeply"):
        document.check_json(loop, "m")


def test_tuples_become_lists_and_keys_are_sorted() -> None:
    checked = document.check_json({"b": (1, 2), "a": None}, "m")
    assert json.dumps(checked) == '{"a": null, "b": [1, 2]}'
