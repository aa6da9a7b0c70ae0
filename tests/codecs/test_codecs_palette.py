"""Palettes: every value comes back to the bit, from as few bytes as the best of the forms takes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from netpress.codecs._palette import GRID, LISTED, SORTED, pack, read_varint, remembering, symbols_of, unpack, varint
from netpress.errors import FormatError

GRIDS = [torch.round(torch.randn(1000, generator=torch.Generator().manual_seed(s)) * 3) + 0.0 for s in (0, 1)]
TENSORS = {
    "random": torch.randn(100, generator=torch.Generator().manual_seed(2)),
    "grid": GRIDS[0] * 0.0123,
    "fine grid": GRIDS[1] * 2**-13,
    "shifted grid": (torch.arange(40) * 0.5 - 3).float(),
    "zeros": torch.zeros(5),
    "one value": torch.full((4,), -2.5),
    "no value": torch.empty(0),
    "a single number": torch.tensor(3.0),
    "odd patterns": torch.tensor([float("nan"), -0.0, 0.0, float("inf"), -float("inf"), 1e-45]),
    "largest": torch.tensor([0.0, 3.4028234663852886e38]),
    "smallest": torch.tensor([0.0, 1e-45, 3e-45]),
    "bool": torch.tensor([True, False, True]),
    "int64": torch.arange(-3, 300),
    "uint8": torch.arange(0, 256).to(torch.uint8),
    "bfloat16": torch.randn(300, generator=torch.Generator().manual_seed(3)).bfloat16(),
    "float64": torch.randn(30, generator=torch.Generator().manual_seed(4)).double(),
}


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


@pytest.mark.parametrize("name", TENSORS)
def test_every_tensor_comes_back_to_the_bit(name: str) -> None:
    tensor = TENSORS[name]
    palette, symbols = symbols_of(tensor)
    packed = pack(palette)
    again, used = unpack(packed + b"more", tensor.dtype)
    assert used == len(packed)
    assert bits(again.tensor(symbols, tuple(tensor.shape))) == bits(tensor)
    assert (again.origin, again.has_zero, again.step) == (palette.origin, palette.has_zero, palette.step)


def test_values_ascend_and_zero_is_the_origin() -> None:
    palette, symbols = symbols_of(torch.tensor([2.0, -1.0, 0.0, 7.3, -1.0]))
    assert palette.values().tolist() == [-1.0, 0.0, 2.0, np.float32(7.3)]
    assert (palette.origin, palette.has_zero) == (1, True)
    assert symbols.tolist() == [2, 0, 1, 3, 0]
    without, _ = symbols_of(torch.tensor([5.3, -1.1, -2.7]))
    assert (without.origin, without.has_zero) == (2, False)


@pytest.mark.parametrize("step", [0.0123, 0.5, 1e-30, 3.0e8, 2**-20])
def test_a_grid_costs_a_few_bytes_and_names_absent_levels(step: float) -> None:
    tensor = torch.tensor([-3.0, -1.0, 0.0, 1.0, 2.0, 5.0]) * step
    palette, _ = symbols_of(tensor)
    packed = pack(palette)
    assert (packed[0], len(packed), len(palette)) == (GRID, 7, 9)
    assert palette.values().tolist() == (torch.arange(-3, 6) * torch.tensor(step)).tolist()


def test_the_form_is_the_shortest() -> None:
    assert pack(symbols_of(TENSORS["random"])[0])[0] == SORTED
    assert len(pack(symbols_of(TENSORS["random"])[0])) < 0.9 * 400
    assert pack(symbols_of(TENSORS["odd patterns"])[0])[0] in (LISTED, SORTED)
    assert pack(symbols_of(TENSORS["int64"])[0])[0] == LISTED


def test_too_many_values_are_declined() -> None:
    assert symbols_of(torch.arange(65_537).float()) is None
    assert symbols_of(torch.arange(65_537)) is None
    assert len(symbols_of(torch.arange(65_536).float())[0]) == 65_536
    assert symbols_of(torch.arange(5).float(), most=4) is None


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=60))
def test_any_floats_come_back(values: list[float]) -> None:
    tensor = torch.tensor(values, dtype=torch.float32)
    palette, symbols = symbols_of(tensor)
    again, _ = unpack(pack(palette), torch.float32)
    assert bits(again.tensor(symbols, tuple(tensor.shape))) == bits(tensor)


@given(st.binary(max_size=60), st.sampled_from([torch.float32, torch.bfloat16, torch.bool, torch.int64]))
def test_any_bytes_are_a_palette_in_order_or_a_format_error(payload: bytes, dtype: torch.dtype) -> None:
    try:
        palette, used = unpack(payload, dtype)
    except FormatError:
        return
    assert used <= len(payload)
    assert len(np.unique(palette.patterns)) == len(palette)


@pytest.mark.parametrize(
    ("payload", "what"),
    [
        (b"", "missing"),
        (bytes([LISTED]), "within a number"),
        (bytes([LISTED, 2]) + bytes(4), "within its palette"),
        (bytes([LISTED, 2]) + bytes(8), "ascending"),
        (bytes([LISTED]) + varint(65_537), "too many"),
        (bytes([9, 1]), "unknown form"),
        (bytes([GRID, 3]) + np.float32(-1).tobytes() + bytes([2]), "none"),
        (bytes([GRID, 3]) + np.float32(3e38).tobytes() + bytes([0]), "overflows"),
        (bytes([SORTED, 2]) + bytes(4) + bytes([40, 2, 0]), "cannot be"),
        (bytes([SORTED, 0]) + bytes(4) + bytes([3, 0]), "cannot be"),
    ],
)
def test_wrong_bytes_are_named(payload: bytes, what: str) -> None:
    with pytest.raises(FormatError, match=what):
        unpack(payload, torch.float32)


@given(st.integers(0, 2**62))
def test_varints_come_back(value: int) -> None:
    assert read_varint(b"x" + varint(value) + b"y", 1) == (value, 1 + len(varint(value)))


@pytest.mark.parametrize("payload", [b"", b"\x80", b"\x80\x00", b"\xff" * 12])
def test_varints_that_are_none_are_refused(payload: bytes) -> None:
    with pytest.raises(FormatError):
        read_varint(payload, 0)


def test_a_tensor_is_looked_at_once_while_remembering_and_anew_afterwards() -> None:
    tensor = torch.tensor([1.0, 2.5, 1.0])
    with remembering():
        first = symbols_of(tensor)
        assert symbols_of(tensor) is first
    tensor.data[0] = 7.3  # unseen by autograd's version counter
    assert symbols_of(tensor)[0].values().tolist() == torch.tensor([1.0, 2.5, 7.3]).tolist()
