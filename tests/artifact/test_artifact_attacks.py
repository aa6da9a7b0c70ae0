"""The attacks that docs/format.md lists, one by one, and many that chance makes up."""

from __future__ import annotations

import copy
import hashlib
import json
import resource
import struct
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
from netpress.artifact.container import CHECKSUM_BYTES, HEADER_BYTES, aligned
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
    save(path, Branched(), input_shape=(1, 4, 4), preprocess=None, classes=("a", "b"), metadata={"accuracy": 0.5})
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
    return b"".join(container.seal([[structure], [payloads]]))


def resealed(data: bytes) -> bytes:
    """The same bytes with the checksum an attacker would put there."""
    body = bytearray(data[:-CHECKSUM_BYTES])
    return bytes(body) + hashlib.sha256(body).digest()


def with_bytes(position: int, new: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data[:position] + new + data[position + len(new) :]


def with_structure(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Changes the compressed structure."""

    def attack(data: bytes) -> bytes:
        structure, payloads = container.unseal(data)
        return sealed(change(bytes(structure)), bytes(payloads))

    return attack


def with_json(change: Callable[[str], str]) -> Callable[[bytes], bytes]:
    """Changes the structure's text."""
    return with_structure(lambda structure: zlib.compress(change(zlib.decompress(structure).decode()).encode()))


def with_document(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    """Changes the structure's document in place."""

    def changed(text: str) -> str:
        found = json.loads(text)
        change(found)
        return json.dumps(found)

    return with_json(changed)


def with_row(index: int, field: int, value: object) -> Callable[[bytes], bytes]:
    return with_document(lambda found: found["tensors"][index].__setitem__(field, value))


NAME, TYPE, SHAPE, CODEC, STORED = range(5)
WEIGHT, BIAS = 0, 1  # conv.weight (3, 1, 3, 3) and conv.bias (3)


def bomb(_: bytes) -> bytes:
    packer = zlib.compressobj(9)
    return (
        b"".join(packer.compress(bytes(2**20)) for _ in range(320)) + packer.flush()
    )  # 320 MiB, more than `MEMORY_BYTES`, in 320 KiB


def longer_tail(data: bytes) -> bytes:
    structure, payloads = container.unseal(data)
    return sealed(bytes(structure), bytes(payloads) + bytes(8))


def without_first_tensor(data: bytes) -> bytes:
    structure, payloads = container.unseal(data)
    found = document.unpack(structure)
    length = found["tensors"].pop(WEIGHT)[STORED]
    return sealed(document.pack(found), bytes(payloads[aligned(length) :]))


def padding_not_zero(data: bytes) -> bytes:
    assert HEADER_BYTES == 44  # and 48 is the next multiple of 8
    return with_bytes(45, b"\1")(data)


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


ATTACKS: dict[str, Callable[[bytes], bytes]] = {
    "no bytes at all": lambda data: b"",
    "a file of another kind": lambda data: b"PK\x03\x04" + data[4:],
    "line ends translated in transfer": lambda data: data.replace(b"\r\n", b"\n"),
    "a later version": with_bytes(8, struct.pack("<H", 2)),
    "version 0": with_bytes(8, struct.pack("<H", 0)),
    "cut in the middle": lambda data: data[: len(data) // 2],
    "the last byte missing": lambda data: data[:-1],
    "a declared length of 2^64 - 1": with_bytes(12, struct.pack("<Q", 2**64 - 1)),
    "a declared length below the real one": lambda data: with_bytes(12, struct.pack("<Q", len(data) - 8))(data),
    "bytes appended": lambda data: data + b"\0",
    "one bit of a weight flipped": lambda data: with_bytes(len(data) - 40, bytes([data[-40] ^ 1]))(data),
    "one bit of the checksum flipped": lambda data: with_bytes(len(data) - 1, bytes([data[-1] ^ 1]))(data),
    "a section of 2^64 - 1 bytes": with_bytes(24, struct.pack("<Q", 2**64 - 1)),
    "two section lengths whose sum overflows 64 bits": lambda data: with_bytes(
        24, struct.pack("<Q", 2**63) + data[32:36] + struct.pack("<Q", 2**63 + len(data) - 80)
    )(data),
    "a section that takes its padding": lambda data: with_bytes(24, struct.pack("<Q", padded_length(data)))(data),
    "a section twice": with_bytes(32, b"GRPH"),
    "65535 sections": with_bytes(10, struct.pack("<H", 65535)),
    "padding that is not zero": padding_not_zero,
    "a structure that is not zlib": with_structure(zlib.decompress),
    "a zlib bomb": with_structure(bomb),
    "a zlib stream cut short": with_structure(lambda structure: structure[:-1]),
    "bytes behind the zlib stream": with_structure(lambda structure: structure + b"\0"),
    "brackets nested 100 000 deep": with_json(lambda text: text.replace('"metadata":', '"metadata":' + "[" * 100_000)),
    "a key twice": with_json(lambda text: text.replace("{", '{"task":"x",', 1)),
    "NaN in the metadata": with_json(lambda text: text.replace('"accuracy":0.5', '"accuracy":NaN')),
    "an integer of 5000 digits": with_json(lambda text: text.replace('"accuracy":0.5', '"accuracy":' + "9" * 5000)),
    "a field missing": with_document(lambda found: found.pop("task")),
    "a field too many": with_document(lambda found: found.update(extra=1)),
    "a field of another type": with_document(lambda found: found.update(metadata=[])),
    "a tensor's name twice": with_row(BIAS, NAME, "conv.weight"),
    "a negative length": with_row(BIAS, STORED, -12),
    "a length beyond the section": with_row(BIAS, STORED, 10**6),
    "payload bytes that no tensor owns": longer_tail,
    "a shape of 2^62 values": with_row(WEIGHT, SHAPE, [2**31, 2**31]),
    "a shape of more values than its payload": with_row(WEIGHT, SHAPE, [3, 1, 3, 4]),
    "sizes that multiply to 0 in 64 bits": with_row(WEIGHT, SHAPE, [2**32, 2**32]),
    "a negative size": with_row(WEIGHT, SHAPE, [-3, 1, -3, 3]),
    "an unknown type": with_row(WEIGHT, TYPE, "complex64"),
    "an unknown codec": with_row(WEIGHT, CODEC, 255),
    "a tensor that the graph lacks": with_document(lambda found: found["tensors"].append(["x", "int8", [0], 0, 0])),
    "a tensor that the graph needs left out": without_first_tensor,
    "a tensor of another shape than the graph's": with_row(WEIGHT, SHAPE, [3, 3, 1, 3]),
    "a tensor of another type than the graph's": with_row(WEIGHT, TYPE, "int32"),
    "an operator outside the closed list": with_document(new_operator),
    "a graph that is empty": with_document(empty),
}


def padded_length(data: bytes) -> int:
    length = int(struct.unpack_from("<Q", data, 24)[0])
    assert length % 8, "this structure needs no padding: change the metadata of the fixture by a letter"
    return aligned(length)


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
        assert position < 20 or raised.type is ChecksumError


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
            save(path, found.network, input_shape=found.input_shape, preprocess=None, allow_nonfinite=True)
            read(path)
    finally:
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak_bytes < 32 * 2**20


@given(choose=st.data(), times=st.integers(1, 3))
@settings(max_examples=100, deadline=None)
def test_mutated_documents(
    whole: bytes, tmp_path_factory: pytest.TempPathFactory, choose: st.DataObject, times: int
) -> None:
    structure, payloads = container.unseal(whole)
    found = document.unpack(structure)
    for _ in range(times):
        mutate(found, choose)
    text = json.dumps(found).encode()
    judge(sealed(zlib.compress(text, 1), bytes(payloads)), tmp_path_factory.getbasetemp() / "mutated.netpress")


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
