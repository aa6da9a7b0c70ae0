"""The attacks that docs/format.md lists, one by one, and many that chance makes up."""

from __future__ import annotations

import copy
import hashlib
import json
import resource
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from netpress import errors
from netpress.artifact import container, document, inspect, read, save
from netpress.artifact.container import CHECKSUM_BYTES, MAGIC, MOST_HEADER_BYTES, varint
from netpress.artifact.table import LIMIT_FLOOR_BYTES
from netpress.errors import ArtifactError, ChecksumError, TruncatedError

FORMAT = Path(__file__).parents[2] / "docs" / "format.md"
MEMORY_BYTES = 256 * 2**20


class Branched(nn.Module):
    """Small, with a batch norm, a skip connection and a function of two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.head = nn.Linear(12, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + torch.relu(self.norm(self.conv(x)))  # (N, 3, 4, 4)
        return self.head(nn.functional.max_pool2d(x, 2).flatten(1))  # (N, 2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("attacks") / "a.netpress"
    fields: dict[str, Any] = {"classes": ("a", "b"), "metadata": {"accuracy": 0.5}}
    save(path, Branched(), input_shape=(1, 4, 4), preprocess=None, codec="dense", **fields)
    read(path)  # so that what torch imports on first use of the meta device is not counted to an attack
    return path.read_bytes()


@contextmanager
def limited_memory() -> Iterator[None]:
    """Lets this process take `MEMORY_BYTES` more and no further: a reader that allocates blindly gets a MemoryError."""
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (in_use + MEMORY_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


# ---------------------------------------------------------------- a file taken apart and put together again


def sealed(structure: bytes, payloads: bytes) -> bytes:
    return b"".join(container.seal(structure, [payloads]))


def resealed(data: bytes) -> bytes:
    """The same bytes with the checksum an attacker would put there."""
    body = data[:-CHECKSUM_BYTES]
    return body + hashlib.sha256(body).digest()[:CHECKSUM_BYTES]


def with_bytes(position: int, new: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data[:position] + new + data[position + len(new) :]


def with_lengths(*lengths: bytes) -> Callable[[bytes], bytes]:
    """Other lengths of the two sections in the header."""

    def attack(data: bytes) -> bytes:
        rest = data[container.read_header(data[:MOST_HEADER_BYTES], len(data)).size_bytes :]
        return data[: len(MAGIC) + 1] + b"".join(lengths) + rest

    return attack


def real_lengths(data: bytes) -> tuple[int, int]:
    header = container.read_header(data[:MOST_HEADER_BYTES], len(data))
    return header.structure_bytes, header.payload_bytes


def with_structure(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Changes the compressed structure."""

    def attack(data: bytes) -> bytes:
        structure, payloads = container.unseal(data)
        return sealed(change(bytes(structure)), bytes(payloads))

    return attack


def with_text(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Changes what is compressed: JSON, a zero byte, the table."""
    return with_structure(lambda structure: document.deflate(change(document.inflate(structure))))


def with_json(change: Callable[[str], str]) -> Callable[[bytes], bytes]:
    """Changes the structure's JSON."""

    def changed(text: bytes) -> bytes:
        json_text, end, rows = text.partition(b"\0")
        return change(json_text.decode()).encode() + end + rows

    return with_text(changed)


def with_document(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    """Changes the structure's document in place."""

    def changed(text: str) -> str:
        found = json.loads(text)
        change(found)
        return json.dumps(found)

    return with_json(changed)


def with_table(change: Callable[[bytearray], object]) -> Callable[[bytes], bytes]:
    """Changes the tensor table in place."""

    def changed(text: bytes) -> bytes:
        json_text, end, rows = text.partition(b"\0")
        new = bytearray(rows)
        change(new)
        return json_text + end + bytes(new)

    return with_text(changed)


def with_node(index: int, place: int, value: object) -> Callable[[bytes], bytes]:
    """Changes the configuration of a node of the graph."""
    return with_document(lambda found: found["graph"]["n"][index][2].__setitem__(place, value))


def insert(at: int, new: bytes) -> Callable[[bytearray], object]:
    return lambda rows: rows.__setitem__(slice(at, at), new)


def assign(at: int, new: bytes) -> Callable[[bytearray], object]:
    return lambda rows: rows.__setitem__(slice(at, at + 1), new)


TENSORS = 9  # conv.weight (3, 1, 3, 3), conv.bias (3), norm.* (3) and its counter, head.weight (2, 12), head.bias (2)
WEIGHT, COUNTER = 0, 6
CONV, HEAD = 0, 6  # nodes of the graph
OUT_CHANNELS, OUT_FEATURES = 1, 1


def bomb(_: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (
        b"".join(packer.compress(bytes(2**20)) for _ in range(320)) + packer.flush()
    )  # 320 MiB, more than `MEMORY_BYTES`, in 320 KiB


def longer_tail(data: bytes) -> bytes:
    structure, payloads = container.unseal(data)
    return sealed(bytes(structure), bytes(payloads) + bytes(8))


def shorter_tail(data: bytes) -> bytes:
    structure, payloads = container.unseal(data)
    return sealed(bytes(structure), bytes(payloads)[:-1])


def huge(data: bytes) -> bytes:
    """A layer of 2^40 weights whose payload is said to be as long as the real one."""
    changed = with_node(HEAD, OUT_FEATURES, 2**31 - 1)(data)
    return with_table(lambda rows: (assign(7, varint(2 * 8))(rows), insert(9, varint(96))(rows)))(changed)


def new_operator(found: dict[str, Any]) -> None:
    replace_first(found["graph"], "Conv2d", "system")


def replace_first(value: Any, old: str, new: str) -> None:
    """Replaces a text anywhere in a document, in keys too, and insists that it was there."""
    text = json.dumps(value)
    assert f'"{old}"' in text
    changed = json.loads(text.replace(f'"{old}"', f'"{new}"'))
    value.clear()
    value.update(changed)


def empty(value: dict[str, Any]) -> None:
    value["graph"] = {}


def many_nodes(found: dict[str, Any]) -> None:
    found["graph"]["n"] = [["ReLU", f"m{k}"] for k in range(10_001)]


ATTACKS: dict[str, Callable[[bytes], bytes]] = {
    "no bytes at all": lambda data: b"",
    "a file of another kind": lambda data: b"PK\x03\x04" + data[4:],
    "line ends translated in transfer": lambda data: data.replace(b"\r\n", b"\n"),
    "line ends translated the other way": lambda data: data.replace(b"\n", b"\r\n"),
    "a later version": with_bytes(6, b"\x02"),
    "version 0": with_bytes(6, b"\x00"),
    "cut in the middle": lambda data: data[: len(data) // 2],
    "the last byte missing": lambda data: data[:-1],
    "bytes appended": lambda data: data + b"\0",
    "one bit of a weight flipped": lambda data: with_bytes(len(data) - 40, bytes([data[-40] ^ 1]))(data),
    "one bit of the checksum flipped": lambda data: with_bytes(len(data) - 1, bytes([data[-1] ^ 1]))(data),
    "a section of 2^62 bytes": with_lengths(varint(2**62), varint(0)),
    "a section of 2^63 - 1 bytes": with_lengths(varint(0), varint(2**63 - 1)),
    "two section lengths whose sum overflows 64 bits": with_lengths(varint(2**63 - 1), varint(2**63 - 1)),
    "a length of 70 bits": with_lengths(b"\xff" * 9 + b"\x01", varint(0)),
    "a length written longer than it needs": with_lengths(b"\x85\x80\x00", varint(0)),
    "a section one byte short": lambda data: with_lengths(
        varint(real_lengths(data)[0]), varint(real_lengths(data)[1] - 1)
    )(data),
    "a byte of the structure given to the payloads": lambda data: with_lengths(
        varint(real_lengths(data)[0] - 1), varint(real_lengths(data)[1] + 1)
    )(data),
    "a byte of the payloads given to the structure": lambda data: with_lengths(
        varint(real_lengths(data)[0] + 1), varint(real_lengths(data)[1] - 1)
    )(data),
    "a structure that is not DEFLATE": with_structure(document.inflate),
    "a structure compressed without the dictionary": with_structure(
        lambda structure: zlib.compress(document.inflate(structure))
    ),
    "a DEFLATE bomb": with_structure(bomb),
    "a DEFLATE stream cut short": with_structure(lambda structure: structure[:-1]),
    "bytes behind the DEFLATE stream": with_structure(lambda structure: structure + b"\0"),
    "no table": with_text(lambda text: text.partition(b"\0")[0]),
    "brackets nested 100 000 deep": with_json(lambda text: text.replace('"metadata":', '"metadata":' + "[" * 100_000)),
    "a key twice": with_json(lambda text: text.replace("{", '{"task":"x","task":"x",', 1)),
    "NaN in the metadata": with_json(lambda text: text.replace('"accuracy":0.5', '"accuracy":NaN')),
    "an integer of 5000 digits": with_json(lambda text: text.replace('"accuracy":0.5', '"accuracy":' + "9" * 5000)),
    "no graph": with_document(lambda found: found.pop("graph")),
    "a field too many": with_document(lambda found: found.update(extra=1)),
    "a field of another type": with_document(lambda found: found.update(metadata=[])),
    "a table cut short": with_table(lambda rows: rows.__delitem__(slice(-1, None))),
    "bytes behind the table": with_table(lambda rows: rows.append(0)),
    "a row too few": with_table(lambda rows: rows.__delitem__(0)),
    "a row too many": with_table(insert(0, b"\0")),
    "an unknown codec": with_table(assign(WEIGHT, varint(2 * 255))),
    "a codec's number of 70 bits": with_table(assign(WEIGHT, b"\xff" * 10)),
    "an unknown type": with_table(lambda rows: (assign(WEIGHT, b"\1")(rows), insert(TENSORS, b"\x0a")(rows))),
    "a type of another width": with_table(lambda rows: (assign(WEIGHT, b"\1")(rows), insert(TENSORS, b"\x00")(rows))),
    "a type of another kind": with_table(lambda rows: (assign(WEIGHT, b"\1")(rows), insert(TENSORS, b"\x05")(rows))),
    "payload bytes that no tensor owns": longer_tail,
    "payload bytes missing": shorter_tail,
    "a layer wider than its payload": with_node(CONV, OUT_CHANNELS, 4),
    "a layer of 2^37 bytes": with_node(HEAD, OUT_FEATURES, 2**31 - 1),
    "a layer of 2^37 bytes under another codec": huge,
    "an operator outside the closed list": with_document(new_operator),
    "a graph that is empty": with_document(empty),
    "a graph of 10 001 nodes": with_document(many_nodes),
}


def listed() -> list[tuple[str, bool, type[ArtifactError]]]:
    """The rows of the document's last table: attack, whether it is sealed, verdict."""
    section = FORMAT.read_text(encoding="utf-8").split("## Attacks")[1]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("|")]
    return [
        (attack.removesuffix(", sealed"), attack.endswith(", sealed"), getattr(errors, verdict))
        for attack, verdict in rows[2:]
    ]


def test_the_document_lists_these_attacks() -> None:
    assert [attack for attack, _, _ in listed()] == list(ATTACKS)


@pytest.mark.parametrize(("attack", "is_sealed", "verdict"), listed(), ids=[attack for attack, _, _ in listed()])
def test_verdict(attack: str, is_sealed: bool, verdict: type[ArtifactError], whole: bytes, tmp_path: Path) -> None:
    data = ATTACKS[attack](whole)
    assert data != whole
    path = tmp_path / "attack.netpress"
    path.write_bytes(resealed(data) if is_sealed else data)
    with limited_memory(), pytest.raises(ArtifactError) as raised:
        read(path)
    assert raised.type is verdict
    assert raised.value.got is not None or raised.value.allowed is not None or len(raised.value.what) > 20
    with pytest.raises(verdict):
        inspect(path)


# ---------------------------------------------------------------- damage


def test_every_byte_matters(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "damaged.netpress"
    for position in range(len(whole)):
        path.write_bytes(with_bytes(position, bytes([whole[position] ^ 1 << position % 8]))(whole))
        with pytest.raises(ArtifactError) as raised:
            read(path)
        assert position < 11 or raised.type is ChecksumError


def test_every_shorter_file_is_truncated(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "short.netpress"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(TruncatedError):
            read(path)


# ---------------------------------------------------------------- chance, sealed

NUMBERS = (-(2**63), -1, 0, 1, 2, 3, 7, 64, 4095, 2**31 - 1, 2**31, 2**62, 2**63 - 1, 0.5, -0.0, 1e308)
TEXTS = ("", "x", "inf", "nan", "N", "-3N", "...", "conv", "conv.weight", "__class__", "float32", "Linear", "0" * 300)
ODD = st.sampled_from([None, True, *NUMBERS, *TEXTS, [], {}, [0], [1, 1], [[1]], {"r": 1}, [None, None, 1]])


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside a document."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def mutate(found: dict[str, Any], choose: st.DataObject) -> None:
    way = choose.draw(st.sampled_from(list(places(found))))
    owner: Any = found
    for key in way[:-1]:
        owner = owner[key]
    action = choose.draw(st.sampled_from(["replace", "nudge", "remove", "copy", "swap"]))
    value = owner[way[-1]]
    if action == "nudge" and type(value) is int:
        owner[way[-1]] = value + choose.draw(st.sampled_from([-1, 1, 2, 1000]))
    elif action == "remove":
        del owner[way[-1]]
    elif action == "copy" and isinstance(owner, list):
        owner.insert(way[-1], copy.deepcopy(value))
    elif action == "swap" and isinstance(owner, list):
        owner.reverse()
    else:
        owner[way[-1]] = copy.deepcopy(choose.draw(ODD))  # the sampled object itself must stay as it is


def judge(data: bytes, path: Path) -> None:
    """A typed error, or a network that can be saved and read again; and no more memory than a small file is worth."""
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with limited_memory():
            try:
                found = read(path)
            except ArtifactError:
                return
            fields: dict[str, Any] = {"preprocess": None, "codec": "dense", "allow_nonfinite": True}
            save(path, found.network, input_shape=found.input_shape, **fields)
            read(path)
    finally:
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak_bytes < LIMIT_FLOOR_BYTES + 32 * 2**20


@given(choose=st.data(), times=st.integers(1, 3))
@settings(max_examples=50, deadline=None)
def test_mutated_documents(
    whole: bytes, tmp_path_factory: pytest.TempPathFactory, choose: st.DataObject, times: int
) -> None:
    structure, payloads = container.unseal(whole)
    found, rows = document.unpack(structure)
    for _ in range(times):
        mutate(found, choose)
    text = json.dumps(found).encode() + b"\0" + rows
    judge(sealed(document.deflate(text), bytes(payloads)), tmp_path_factory.getbasetemp() / "mutated.netpress")


@given(edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=3))
@settings(max_examples=50, deadline=None)
def test_mutated_tables(whole: bytes, tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[int, int]]) -> None:
    def change(rows: bytearray) -> None:
        for position, value in edits:
            rows[position % len(rows)] = value

    judge(with_table(change)(whole), tmp_path_factory.getbasetemp() / "mutated.netpress")


@given(position=st.integers(0, 10**6), new=st.binary(min_size=1, max_size=8))
@settings(max_examples=50, deadline=None)
def test_mutated_bytes(whole: bytes, tmp_path_factory: pytest.TempPathFactory, position: int, new: bytes) -> None:
    data = with_bytes(position % (len(whole) - CHECKSUM_BYTES - len(new)), new)(whole)
    judge(resealed(data), tmp_path_factory.getbasetemp() / "mutated.netpress")


@given(position=st.integers(0, 10**6), new=st.text(st.characters(max_codepoint=126, min_codepoint=32), max_size=4))
@settings(max_examples=50, deadline=None)
def test_mutated_text(whole: bytes, tmp_path_factory: pytest.TempPathFactory, position: int, new: str) -> None:
    def change(text: str) -> str:
        start = position % len(text)
        return text[:start] + new + text[start + len(new) :]

    judge(with_json(change)(whole), tmp_path_factory.getbasetemp() / "mutated.netpress")
