"""Files of weights: found, checked as a whole, loaded; and what the texts say when they do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from netpress import zoo
from netpress.errors import ConfigError, UnknownNameError, WeightsError


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


def written(folder: Path, tensors: dict[str, Tensor]) -> Path:
    path = folder / "w.safetensors"
    save_file(tensors, path)
    return path


def refused(network: nn.Module, path: Path, *, strict: bool = True) -> str:
    """The text of the WeightsError; the network must be as it was."""
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        zoo.load_weights(network, path, strict=strict)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    return str(caught.value)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    source, target = small(), small()
    zoo.load_weights(target, written(tmp_path, source.state_dict()))
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in target.state_dict().items())


def test_half_precision_files_are_cast_to_the_network(tmp_path: Path) -> None:
    source = {key: value.half() if value.is_floating_point() else value for key, value in small().state_dict().items()}
    target = small()
    zoo.load_weights(target, written(tmp_path, source))
    assert target.state_dict()["3.weight"].dtype == torch.float32
    assert torch.equal(target.state_dict()["3.weight"].half(), source["3.weight"])


def test_only_num_batches_tracked_may_be_absent(tmp_path: Path) -> None:
    state = small().state_dict()
    del state["1.num_batches_tracked"]
    zoo.load_weights(small(), written(tmp_path, state))
    del state["1.running_var"]
    text = refused(small(), written(tmp_path, state))
    assert "the weights in w.safetensors do not fit the network; got: 1 missing: 1.running_var (2,);" in text


def test_missing_unexpected_and_differing_are_all_told_at_once(tmp_path: Path) -> None:
    state = small().state_dict()
    state["extra"] = torch.zeros(4, 5)
    state["0.weight"] = torch.zeros(2, 1, 5, 5)
    del state["3.bias"]
    text = refused(small(), written(tmp_path, state))
    assert "1 missing: 3.bias (3,)" in text
    assert "1 unexpected: extra (4, 5)" in text
    assert "1 of another form: 0.weight (2, 1, 5, 5) where the network has (2, 1, 3, 3)" in text
    assert "remedy: build the network that the file was made from" in text


def test_integers_are_no_weights(tmp_path: Path) -> None:
    state = small().state_dict()
    state["3.bias"] = torch.zeros(3, dtype=torch.int8)
    assert "3.bias (3,) int8 where the network has (3,)" in refused(small(), written(tmp_path, state))


def test_long_lists_end_in_a_count(tmp_path: Path) -> None:
    text = refused(zoo.build("resnet20"), written(tmp_path, {"x": torch.zeros(1)}))
    assert "layer1.0.bn1.running_mean (16,)" in text
    assert text.count("layer1.0.") < 10
    assert "97 missing: " in text
    assert " and 87 more" in text


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_named(tmp_path: Path, bad: float) -> None:
    state = {key: value.clone() for key, value in small().state_dict().items()}
    state["3.weight"][1, 2] = bad
    text = refused(small(), written(tmp_path, state))
    assert text.startswith("the weights in w.safetensors are not all finite; got: NaN or infinity in 3.weight;")


def test_not_strict_says_what_it_leaves_out(tmp_path: Path) -> None:
    source, target = small(), small()
    bias = target.state_dict()["3.bias"].clone()
    state = {key: value for key, value in source.state_dict().items() if key != "3.bias"} | {"extra": torch.zeros(2)}
    with pytest.warns(UserWarning, match=r"loaded in part: 1 .*\(3.bias \(3,\)\), 1 .*\(extra \(2,\)\)"):
        zoo.load_weights(target, written(tmp_path, state), strict=False)
    assert torch.equal(target.state_dict()["3.weight"], source.state_dict()["3.weight"])
    assert torch.equal(target.state_dict()["3.bias"], bias)
    state["0.bias"] = torch.zeros(7)
    assert "0.bias (7,) where" in refused(small(), written(tmp_path, state), strict=False)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt", ".pkl"])
def test_pickles_are_refused_unread(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(b"not even a pickle")
    with pytest.raises(ConfigError, match=r"a pickle can run code; .*allowed: .safetensors; remedy: convert with safe"):
        zoo.load_weights(small(), path)


def test_other_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"read from safetensors files only; got: 'w.h5'"):
        zoo.load_weights(small(), tmp_path / "w.h5")


@pytest.mark.parametrize("content", [b"", b"12345678", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0{]"])
def test_damaged_files_are_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    assert refused(small(), path).startswith("w.safetensors cannot be read as safetensors; got: ")


def test_a_file_cut_short_is_told(tmp_path: Path) -> None:
    path = written(tmp_path, small().state_dict())
    path.write_bytes(path.read_bytes()[:-1])
    assert "cannot be read" in refused(small(), path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file of weights"):
        zoo.load_weights(small(), tmp_path / "w.safetensors")


def test_find_weights_by_path_by_root_and_by_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NETPRESS_WEIGHTS", raising=False)
    path = written(tmp_path, small().state_dict())
    assert zoo.find_weights(str(path)) == path
    assert zoo.find_weights("w", tmp_path) == path
    with pytest.raises(ConfigError, match=r"no folder of weights is; got: 'w'; remedy: .*set NETPRESS_WEIGHTS"):
        zoo.find_weights("w")
    monkeypatch.setenv("NETPRESS_WEIGHTS", str(tmp_path))
    assert zoo.find_weights("w") == path
    assert zoo.find_weights("w", tmp_path) == path


def test_find_weights_tells_what_is_not_there(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "resnet20_mine.safetensors")
    with pytest.raises(UnknownNameError, match=r"'resnet20_min'; .*did you mean 'resnet20_mine'"):
        zoo.find_weights("resnet20_min", tmp_path)
    with pytest.raises(ConfigError, match="the folder of weights does not exist"):
        zoo.find_weights("w", tmp_path / "none")
    for path in ("sub/w", "w.safetensors", "/nowhere/w.safetensors"):
        with pytest.raises(ConfigError, match="no such file of weights"):
            zoo.find_weights(path, tmp_path)
