"""From stored images to network input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from netpress.data import Preprocess
from netpress.data.preprocess import is_channels_last
from netpress.errors import ConfigError, DataError


def test_values_by_hand() -> None:
    images = np.array([[[[0, 255, 51]]]], np.uint8)  # (1, 1, 1, 3)
    out = Preprocess(1 / 255, (0.5, 0.5, 0.1), (0.5, 0.25, 0.1))(images, "cpu")
    torch.testing.assert_close(out, torch.tensor([-1.0, 2.0, 1.0]).reshape(1, 3, 1, 1))
    assert out.dtype == torch.float32


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((2, 5, 6), np.uint8, (2, 1, 5, 6)),
        ((2, 5, 6, 3), np.uint8, (2, 3, 5, 6)),
        ((2, 3, 5, 6), np.uint8, (2, 3, 5, 6)),
        ((2, 6, 6, 3), np.float32, (2, 3, 6, 6)),
        ((2, 256, 4, 4), np.float32, (2, 256, 4, 4)),  # feature maps, not 4 channels
        ((2, 3, 6, 6), np.float64, (2, 3, 6, 6)),
        ((2, 7), np.float32, (2, 7)),
        ((2, 5, 6), np.uint16, (2, 1, 5, 6)),
        ((2, 7), np.int64, (2, 7)),
    ],
)
def test_layouts(shape: tuple[int, ...], dtype: type, expected: tuple[int, ...]) -> None:
    out = Preprocess()(np.ones(shape, dtype))
    assert tuple(out.shape) == expected
    assert out.dtype == torch.float32
    assert out.is_contiguous()


def test_channels_last_pixels_land_in_their_channel() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 5, 6, 3), dtype=np.uint8)
    out = Preprocess()(images)
    np.testing.assert_array_equal(out.numpy(), images.transpose(0, 3, 1, 2).astype(np.float32))


def test_the_layout_rule_is_as_documented() -> None:
    assert is_channels_last((2, 8, 9, 4), torch.uint8)
    assert not is_channels_last((2, 8, 9, 5), torch.uint8)
    assert is_channels_last((2, 5, 5, 3), torch.float32)
    assert not is_channels_last((2, 4, 4, 3), torch.float32)
    assert not is_channels_last((2, 8, 9, 3), torch.float32)


def test_what_is_stored_does_not_change() -> None:
    images = torch.rand(2, 3, 6, 6)
    before = images.clone()
    out = Preprocess(2.0, (0.1,), (0.5,))(images)
    assert torch.equal(images, before)
    torch.testing.assert_close(out, (before * 2 - 0.1) / 0.5)
    assert Preprocess()(images).data_ptr() != images.data_ptr()


def test_read_only_and_reversed_arrays_are_taken() -> None:
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    images.flags.writeable = False
    np.testing.assert_array_equal(Preprocess()(images).numpy()[:, 0], images)
    np.testing.assert_array_equal(Preprocess()(images[::-1]).numpy()[:, 0], images[::-1])
    np.testing.assert_array_equal(Preprocess()(images.astype(">i2")).numpy()[:, 0], images)


def test_indices_come_through_whole() -> None:
    out = Preprocess(indices=True)(np.array([[1, 2, 70000]], np.int32))
    assert out.dtype == torch.int64
    assert out.tolist() == [[1, 2, 70000]]


def test_one_number_serves_all_channels_and_a_feature_axis_is_a_channel_axis() -> None:
    out = Preprocess(1.0, (1.0, 2.0, 3.0), (2.0,))(np.array([[1.0, 2.0, 5.0]]))
    assert out.tolist() == [[0.0, 0.0, 1.0]]


def test_other_channels_than_the_mean_has_are_refused() -> None:
    with pytest.raises(DataError, match=r"mean has 3 numbers, the images have 1 channels; got: shape \(2, 1, 5, 5\)"):
        Preprocess(1 / 255, (0.1, 0.2, 0.3), (1.0,))(np.zeros((2, 5, 5), np.uint8))


@pytest.mark.parametrize("images", [np.zeros(3), np.array([["a"]])])
def test_what_is_no_input_is_refused(images: np.ndarray) -> None:
    with pytest.raises(DataError, match="these are not inputs"):
        Preprocess()(images)


@given(
    st.floats(1e-6, 1e6),
    st.lists(st.floats(-10, 10), min_size=3, max_size=3),
    st.lists(st.floats(1e-3, 10), max_size=1),
    st.booleans(),
)
def test_dict_round_trip(scale: float, mean: list[float], std: list[float], indices: bool) -> None:
    preprocess = Preprocess(indices=True) if indices else Preprocess(scale, tuple(mean), tuple(std))
    assert Preprocess.from_dict(preprocess.as_dict()) == preprocess


def test_the_dict_is_plain() -> None:
    assert Preprocess(0.5, (1,), (2,)).as_dict() == {"scale": 0.5, "mean": [1.0], "std": [2.0]}
    assert Preprocess.from_dict({}) == Preprocess()


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"scal": 1}, "unknown field; got: scal; allowed: scale, mean, std, indices"),
        ({"scale": "1"}, "scale has the wrong type; got: '1'; allowed: a number"),
        ({"scale": True}, "scale has the wrong type"),
        ({"mean": 0.5}, "mean has the wrong type; got: 0.5; allowed: a list of numbers"),
        ({"std": ["a"]}, "std has the wrong type"),
        ({"indices": 1}, "indices has the wrong type; got: 1; allowed: true or false"),
        ({"scale": 0}, "scale is out of range"),
        ({"std": [0.0]}, "std is out of range"),
        ({"mean": [float("nan")]}, "mean is out of range"),
        ({"mean": [1, 2], "std": [1, 2, 3]}, "mean and std disagree on the channels; got: 2 and 3"),
        ({"indices": True, "scale": 2}, "indices cannot be scaled"),
    ],
)
def test_from_dict_is_strict(document: dict, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Preprocess.from_dict(document)
