"""The codec ``row_grid`` by its bytes: steps in as few of their bytes as say all, levels through the adaptive coder."""

from __future__ import annotations

import pytest
import torch

from netpress.codecs import adaptive, codec_by_name, encode, row_grid
from netpress.errors import ConfigError, FormatError


def int8(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    """As quantization of a layer leaves it: a step of 8 significant bits a row."""
    generator = torch.Generator().manual_seed(seed)
    steps = (torch.rand(rows, 1, generator=generator) + 0.01).bfloat16().float() * 0.01
    steps = steps.bfloat16().float()
    return (40 * torch.randn(rows, columns, generator=generator)).round().clamp(-127, 127) * steps + 0.0


def test_bytes_by_hand() -> None:
    weight = torch.tensor([[0.5, -1.0], [0.0, 0.0], [0.75, 1.5]])
    payload = row_grid.encode(weight)
    levels = torch.tensor([[1.0, -2.0], [0.0, 0.0], [1.0, 2.0]])
    assert payload == bytes.fromhex("02 003f 803f 403f") + adaptive.encode(levels)  # steps .5, 1 and .75
    assert torch.equal(row_grid.decode(payload, torch.float32, (3, 2)), weight)


def test_a_layer_of_integers_takes_about_its_entropy_where_palettes_take_a_file_of_values() -> None:
    weight = int8(64, 288)
    chosen, payload = encode(weight)
    assert chosen.name == "row_grid"
    assert len(payload) < weight.numel()  # a byte each, and less
    others = [len(c.encode(weight)) for name in ("adaptive", "dense") if (c := codec_by_name(name)).accepts(weight)]
    assert len(payload) < 0.5 * min(others)


def test_more_values_than_any_palette_holds() -> None:
    levels = torch.randint(-127, 128, (900, 300), generator=torch.Generator().manual_seed(1))
    weight = levels * (2 * torch.arange(2001, 2901) + 1)[:, None] / 2**20
    assert not adaptive.accepts(weight)
    assert codec_by_name("dense").accepts(weight)
    chosen, payload = encode(weight)
    assert (chosen.name, len(payload) < 1.1 * weight.numel()) == ("row_grid", True)
    assert torch.equal(chosen.decode(memoryview(payload), torch.float32, (900, 300)), weight)


@pytest.mark.parametrize(
    "weight", [torch.randn(4, 30), torch.ones(5), torch.ones(2, 2).half(), torch.zeros(0, 3)], ids=str
)
def test_what_is_declined(weight: torch.Tensor) -> None:
    assert not row_grid.accepts(weight)
    with pytest.raises(ConfigError, match="rows are not whole numbers of one step each"):
        row_grid.encode(weight)


def payload_of(steps: bytes, levels: torch.Tensor, width: int = 2) -> bytes:
    return bytes([width]) + steps + adaptive.encode(levels)


ONE = b"\x80\x3f"  # the high bytes of 1.0
LEVELS = torch.tensor([[1.0, -2.0]])


@pytest.mark.parametrize(
    ("payload", "what"),
    [
        (b"", "has no width"),
        (payload_of(ONE, LEVELS, 0), "has no width"),
        (payload_of(ONE, LEVELS, 5), "has no width"),
        (b"\x02" + ONE, "is too short"),
        (payload_of(b"\0\0" + ONE, LEVELS, 4), "steps that cannot be"),  # two bytes would have said it
        (payload_of(b"\x80\xbf", LEVELS), "steps that cannot be"),  # -1
        (payload_of(b"\x80\x7f", LEVELS), "steps that cannot be"),  # infinite
        (payload_of(b"\x01\x00", LEVELS), "steps that cannot be"),  # a denormal number
        (payload_of(ONE, LEVELS + 0.5), "levels that are not whole numbers"),
        (payload_of(ONE, LEVELS * 32_768), "levels that are not whole numbers"),
        (payload_of(ONE, torch.tensor([[1.0, -0.0]])), "levels that are not whole numbers"),
        (payload_of(ONE, torch.tensor([[1.0, torch.nan]])), "levels that are not whole numbers"),
        (payload_of(b"\x7f\x7f", LEVELS * 1000), "overflows"),
    ],
)
def test_payloads_that_are_refused(payload: bytes, what: str) -> None:
    with pytest.raises(FormatError, match=what):
        row_grid.decode(payload, torch.float32, (1, 2))


@pytest.mark.parametrize(
    ("dtype", "shape"), [(torch.float16, (1, 2)), (torch.float32, (2,)), (torch.float32, (0, 2**40))]
)
def test_other_types_and_shapes_are_refused(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    for read in (row_grid.decode, row_grid.open):
        with pytest.raises(FormatError, match="is of a float32 matrix"):
            read(memoryview(payload_of(ONE, LEVELS)), dtype, shape)
