"""Coded layers answer as the dense ones do, in bounded memory, and say plainly what they are not for."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from netpress.artifact import coded_layers
from netpress.errors import ConfigError, TrainingError
from netpress.layers.succinct import SuccinctConv1d, SuccinctConv2d, SuccinctLinear


@dataclass
class Plain:
    """A "code" that is the matrix itself; it notes what it is asked to multiply with."""

    matrix: NDArray[np.float32]
    asked: list[tuple[tuple[int, ...], int]] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return self.matrix.shape[0]

    @property
    def columns(self) -> int:
        return self.matrix.shape[1]

    @property
    def memory_bytes(self) -> int:
        return self.matrix.nbytes

    def multiply(self, x: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32]:
        assert x.dtype == np.float32
        assert x.flags.c_contiguous
        self.asked.append((x.shape, threads))
        return self.matrix @ x

    def __deepcopy__(self, memo: dict[int, Any]) -> Plain:
        raise AssertionError("a coded weight is not copied")


def coded(weight: torch.Tensor) -> Plain:
    return Plain(weight.detach().reshape(weight.shape[0], -1).numpy())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7,), (1, 7), (5, 7), (2, 3, 7), (0, 7)], ids=str)
def test_linear(bias: bool, shape: tuple[int, ...]) -> None:
    dense = nn.Linear(7, 4, bias=bias)
    layer = SuccinctLinear(coded(dense.weight), dense.bias)
    x = torch.randn(shape)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), dense(x))


@pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel")
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_conv2d_is_torch_s(data: st.DataObject) -> None:
    def pair(low: int, high: int) -> tuple[int, int]:
        return data.draw(st.tuples(st.integers(low, high), st.integers(low, high)))

    kernel, dilation = pair(1, 3), pair(1, 2)
    padding: Any = data.draw(st.sampled_from(["same", "valid", "numbers"]))
    stride = (1, 1) if padding == "same" else pair(1, 3)
    padding = pair(0, 2) if padding == "numbers" else padding
    mode = data.draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    channels, filters, samples = (data.draw(st.integers(1, 3)) for _ in range(3))
    dense = nn.Conv2d(channels, filters, kernel, stride, padding, dilation, padding_mode=mode)
    layer = SuccinctConv2d(
        coded(dense.weight), dense.bias, stride, padding, dilation, kernel_size=kernel, padding_mode=mode
    )
    size = (samples, channels, data.draw(st.integers(5, 9)), data.draw(st.integers(5, 9)))
    x = torch.randn(size)
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(coded_layers, "CHUNK_BYTES", data.draw(st.sampled_from([1, 300, 2000, 2**24])))
        torch.testing.assert_close(layer(x), dense(x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(layer(x[0]), dense(x[0]), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings(
    "ignore:Using padding=.same. with even kernel"
)  # said once a process, by whichever test is first
@pytest.mark.parametrize("settings", [{}, {"stride": 3, "padding": 4, "dilation": 2}, {"padding": "same"}], ids=str)
def test_conv1d_is_torch_s(settings: dict[str, Any]) -> None:
    dense = nn.Conv1d(5, 6, 4, **settings)
    layer = SuccinctConv1d(coded(dense.weight), dense.bias, **settings, kernel_size=4)
    x = torch.randn(3, 5, 20)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), dense(x))


def test_an_input_that_is_not_contiguous() -> None:
    dense = nn.Conv2d(3, 4, 3)
    layer = SuccinctConv2d(coded(dense.weight), dense.bias, kernel_size=3)
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        expected = dense(x)
        torch.testing.assert_close(layer(x.contiguous(memory_format=torch.channels_last)), expected)
        torch.testing.assert_close(layer(x.flip(0)[1:]), expected[:1])


def test_no_samples() -> None:
    dense = nn.Conv2d(3, 4, 3)
    layer = SuccinctConv2d(coded(dense.weight), dense.bias, kernel_size=3)
    assert layer(torch.zeros(0, 3, 8, 8)).shape == (0, 4, 6, 6)


def test_patches_of_many_samples_are_laid_out_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coded_layers, "CHUNK_BYTES", 4 * 27 * 100)  # a hundred places of a 3x3 kernel on 3 channels
    weight = coded(torch.randn(4, 3, 3, 3))
    SuccinctConv2d(weight, kernel_size=3, padding=1)(torch.zeros(5, 3, 7, 7))
    assert [shape for shape, _ in weight.asked] == [(27, 2 * 49), (27, 2 * 49), (27, 49)]
    weight.asked.clear()
    SuccinctConv2d(weight, kernel_size=3, padding=1)(torch.zeros(1, 3, 30, 30))  # three lines of thirty at a time
    assert [shape for shape, _ in weight.asked] == [(27, 90)] * 10


def test_threads_are_torch_s(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = coded(torch.randn(2, 3))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    SuccinctLinear(weight, None)(torch.zeros(1, 3))
    assert weight.asked == [((3, 1), 5)]


def test_training_is_refused() -> None:
    layer = SuccinctLinear(coded(torch.randn(2, 3)), None)
    with pytest.raises(TrainingError, match=r"cannot be trained; got: training mode; .*remedy: .*execution='dense'"):
        layer.train()(torch.zeros(1, 3))
    with pytest.raises(TrainingError, match="an input that asks for gradients"):
        layer.eval()(torch.zeros(1, 3, requires_grad=True))
    with torch.no_grad():
        layer(torch.zeros(1, 3, requires_grad=True))
    assert not list(layer.parameters())


@pytest.mark.parametrize("change", [lambda m: m.to("meta"), lambda m: m.half(), lambda m: m.to(torch.float64)])
def test_other_devices_and_types_are_refused(change: Any) -> None:
    network = nn.Sequential(nn.Flatten(), SuccinctLinear(coded(torch.randn(2, 3)), torch.zeros(2)))
    with pytest.raises(ConfigError, match=r"stays in float32 on the CPU; got: .*remedy: .*execution='dense'"):
        change(network)
    assert network.to("cpu") is network
    for x in (torch.zeros(1, 3, dtype=torch.float64), torch.zeros(1, 3, device="meta")):
        with pytest.raises(ConfigError, match="takes float32 on the CPU"):
            network(x)


def test_copies_share_the_weight_and_have_a_bias_of_their_own() -> None:
    layer = SuccinctLinear(coded(torch.randn(2, 3)), torch.zeros(2))
    twin = copy.deepcopy(layer)
    assert twin.coded is layer.coded
    twin.bias.add_(1)
    assert layer.bias.tolist() == [0, 0]
    assert list(layer.state_dict()) == ["bias"]
    assert "2 x 3 in 24 bytes" in repr(layer)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda w: SuccinctLinear(w, torch.zeros(3)), "the bias does not fit"),
        (lambda w: SuccinctLinear(w, torch.zeros(4).double()), "the bias does not fit"),
        (lambda w: SuccinctConv2d(w, kernel_size=3, groups=2), "has one group; got: 2"),
        (lambda w: SuccinctConv2d(w, kernel_size=5), "does not fit the kernel; got: 27 columns"),
        (lambda w: SuccinctConv2d(w, kernel_size=(3, 3, 3)), "kernel_size is out of range"),
        (lambda w: SuccinctConv2d(w, kernel_size=3, stride=0), "stride is out of range"),
        (lambda w: SuccinctConv2d(w, kernel_size=3, padding=-1), "padding is out of range"),
        (lambda w: SuccinctConv2d(w, kernel_size=3, padding="some"), "not a padding; got: 'some'"),
        (lambda w: SuccinctConv2d(w, kernel_size=3, padding="same", stride=2), "needs a stride of 1"),
        (lambda w: SuccinctConv2d(w, kernel_size=3, padding_mode="odd"), "not a padding mode; got: 'odd'"),
    ],
    ids=range(10),
)
def test_settings_that_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(coded(torch.randn(4, 3, 3, 3)))


@pytest.mark.parametrize("shape", [(3, 4), (2, 4, 8, 8), (2, 3, 2, 8), (1, 2, 3, 8, 8), (3,)], ids=str)
def test_inputs_of_another_shape(shape: tuple[int, ...]) -> None:
    weight = coded(torch.randn(4, 3, 3, 3))
    with pytest.raises(ConfigError, match="the input of a coded layer has the wrong shape"):
        SuccinctConv2d(weight, kernel_size=3)(torch.zeros(shape))
    with pytest.raises(ConfigError, match=r"wrong shape; got: .*; allowed: \(..., 27\)"):
        SuccinctLinear(weight, None)(torch.zeros(shape))
