"""Codecs are found by listing the folder; ``auto`` takes the fewest bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import netpress.codecs as codecs_package
from netpress.codecs import AUTO, Codec, codec_by_code, codec_by_name, codecs, dense, encode
from netpress.errors import ConfigError, FormatError, UnknownNameError


def test_every_file_of_the_folder_is_a_codec_with_its_own_number() -> None:
    files = {path.stem for folder in codecs_package.__path__ for path in Path(folder).glob("*.py")}
    assert {codec.name for codec in codecs()} == {name for name in files if not name.startswith("_")}
    assert len({codec.code for codec in codecs()}) == len(codecs())


def test_lookup_by_name_and_number_agree() -> None:
    for codec in codecs():
        assert codec_by_name(codec.name) is codec
        assert codec_by_code(codec.code) is codec


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown codec; got: 'dens'; .*did you mean 'dense'"):
        codec_by_name("dens")


def test_unknown_number_is_a_fault_of_the_file() -> None:
    with pytest.raises(FormatError, match=r"does not have; got: 255"):
        codec_by_code(255)


@pytest.mark.parametrize("code", [-1, 256])
def test_a_number_beyond_one_byte_is_refused(code: int) -> None:
    with pytest.raises(ConfigError, match="not one byte"):
        Codec(name="wide", code=code, accepts=dense.accepts, encode=dense.encode, decode=dense.decode)


@pytest.fixture
def constant(monkeypatch: pytest.MonkeyPatch) -> Codec:
    """A codec for tensors of one value, beside the real ones."""
    codec = Codec(
        name="constant",
        code=254,
        accepts=lambda tensor: tensor.numel() > 0 and bool((tensor == tensor.reshape(-1)[0]).all()),
        encode=lambda tensor: dense.encode(tensor.reshape(-1)[:1]),
        decode=lambda payload, dtype, shape: dense.decode(payload, dtype, (1,)).expand(shape),
    )
    every = (*codecs(), codec)
    monkeypatch.setattr(codecs_package, "codecs", lambda: every)
    return codec


def test_auto_takes_the_fewest_bytes(constant: Codec) -> None:
    assert encode(torch.full((8,), 2.5)) == (constant, dense.encode(torch.tensor([2.5])))
    assert encode(torch.arange(8))[0].name == "dense"


def test_auto_breaks_ties_by_the_lower_number(constant: Codec) -> None:
    assert encode(torch.ones(1))[0].code == 0


def test_a_named_codec_is_used_even_when_it_is_longer(constant: Codec) -> None:
    chosen, payload = encode(torch.full((8,), 2.5), "dense")
    assert (chosen.name, len(payload)) == ("dense", 32)


@pytest.mark.parametrize("name", [AUTO, "dense"])
def test_a_tensor_that_no_codec_accepts(name: str) -> None:
    with pytest.raises(ConfigError, match=r"declines it; got: torch.complex64, shape \(2,\)"):
        encode(torch.ones(2, dtype=torch.complex64), name)
