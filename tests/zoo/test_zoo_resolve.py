"""What the command line's NET stands for."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from netpress import zoo
from netpress.errors import ConfigError, MissingExtraError, UnknownNameError, WeightsError
from netpress.zoo import vision

USER_FILE = """
from __future__ import annotations
from dataclasses import dataclass
from torch import nn

@dataclass
class Widths:
    hidden: int = 5

def make():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, Widths().hidden))
make.input_shape = [3, 2, 2]

def plain():
    return nn.Linear(4, 2)

def odd():
    return nn.Linear(4, 2)
odd.input_shape = (3, 0)

def number():
    return 3

def needs(width):
    return nn.Linear(width, 2)

LINEAR = nn.Linear
SIX = 6
"""


@pytest.fixture
def user_file(tmp_path: Path) -> Path:
    path = tmp_path / "nets.py"
    path.write_text(USER_FILE)
    return path


def test_a_name_of_the_zoo() -> None:
    network, info = zoo.resolve("digits_cnn", seed=1)
    assert not network.training
    assert info == zoo.NetworkInfo(
        name="digits_cnn",
        input_shape=(1, 8, 8),
        classes=10,
        preprocess={"scale": 1 / 16, "mean": [0.305], "std": [0.3759]},
    )
    expected = zoo.build("digits_cnn", seed=1).state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in network.state_dict().items())


def test_classes_and_input_shape_override_the_entry() -> None:
    network, info = zoo.resolve("resnet20", classes=3, input_shape=(3, 48, 48))
    assert (info.classes, info.input_shape) == (3, (3, 48, 48))
    assert network(torch.zeros(1, 3, 48, 48)).shape == (1, 3)


@pytest.mark.parametrize("shape", [(), (3, 0, 2), (3, -1), (3, 2.0), "332", (True, 2)])
def test_an_input_shape_must_be_one(shape: object) -> None:
    with pytest.raises(ConfigError, match=r"input_shape is not a shape; got: .*positive integers"):
        zoo.resolve("lenet5", input_shape=shape)  # type: ignore[arg-type]


def test_a_pretrained_name_brings_weights_and_preprocess(shared: Path) -> None:
    network, info = zoo.resolve("cifar10_resnet20_akamaster", root=shared / "weights")
    expected, preprocess = zoo.load_pretrained("cifar10_resnet20_akamaster", shared / "weights")
    assert all(torch.equal(value, expected.state_dict()[key]) for key, value in network.state_dict().items())
    assert (info.preprocess, info.input_shape, info.classes) == (preprocess, (3, 32, 32), 10)


def test_weights_of_a_known_name_bring_their_preprocess(shared: Path) -> None:
    path = shared / "weights/cifar10_resnet20b_distiller.safetensors"
    _, info = zoo.resolve("resnet20b", weights=path)
    assert info.preprocess == {"scale": 1 / 255, "mean": [0.5] * 3, "std": [0.5] * 3}
    with pytest.raises(WeightsError, match=r"unexpected: fc.bias"):
        zoo.resolve("resnet20", weights=path)


def test_weights_of_ones_own(tmp_path: Path) -> None:
    source = zoo.build("lenet300_100", classes=4, seed=5)
    save_file(source.state_dict(), tmp_path / "mine.safetensors")
    network, info = zoo.resolve("lenet300_100", classes=4, weights="mine", root=tmp_path)
    assert torch.equal(network.state_dict()["5.weight"], source.state_dict()["5.weight"])
    assert info.preprocess == zoo.entry("lenet300_100").preprocess


def test_unknown_specs() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown network; got: 'lenet6'; .*did you mean 'lenet5'"):
        zoo.resolve("lenet6")
    with pytest.raises(UnknownNameError, match=r"did you mean 'cifar10_vgg16bn'"):
        zoo.resolve("cifar10_vgg16")
    with pytest.raises(ConfigError, match=r"unknown source; got: 'hub:x'; allowed: .*torchvision:NAME"):
        zoo.resolve("hub:x")


def test_a_callable_of_a_file(user_file: Path) -> None:
    network, info = zoo.resolve(f"{user_file}:make", seed=2)
    assert info == zoo.NetworkInfo(name=f"{user_file}:make", input_shape=(3, 2, 2), classes=None, preprocess=None)
    assert network(torch.zeros(1, 3, 2, 2)).shape == (1, 5)
    again, _ = zoo.resolve(f"{user_file}:make", seed=2)
    assert torch.equal(network.state_dict()["1.weight"], again.state_dict()["1.weight"])


def test_a_relative_path_and_a_shape_from_outside(user_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(user_file.parent)
    assert zoo.resolve("nets.py:plain")[1].input_shape is None
    assert zoo.resolve(f".{os.sep}nets.py:plain", input_shape=(4,))[1].input_shape == (4,)
    assert "nets" not in sys.modules


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("maek", r"unknown callable in nets.py; got: 'maek'; .*did you mean 'make'"),
        ("SIX", "SIX in nets.py cannot be called; got: int"),
        ("number", r"number does not return a network; got: int; allowed: a torch.nn.Module"),
        ("needs", r"needs failed when it was called without arguments; got: TypeError: .*remedy: give every parameter"),
        ("LINEAR", r"LINEAR failed when it was called without arguments"),
        ("odd", r"the input_shape of .*odd is not a shape; got: \(3, 0\)"),
        ("a.b", "a file without a callable"),
        ("", "a file without a callable"),
    ],
)
def test_what_a_files_callable_may_not_be(user_file: Path, name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        zoo.resolve(f"{user_file}:{name}")


def test_files_that_cannot_be_used(tmp_path: Path, user_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such file; got: 'none.py'"):
        zoo.resolve("none.py:make")
    with pytest.raises(ConfigError, match=r"a file without a callable; got: 'none.py'; allowed: FILE.py:CALLABLE"):
        zoo.resolve("none.py")
    with pytest.raises(ConfigError, match=r"classes cannot be set for a network from a file; got: classes=3"):
        zoo.resolve(f"{user_file}:make", classes=3)
    broken = tmp_path / "broken.py"
    broken.write_text("raise RuntimeError('no luck')")
    with pytest.raises(ConfigError, match=r"broken.py failed while it was imported; got: RuntimeError: no luck"):
        zoo.resolve(f"{broken}:make")
    broken.write_text("def make(:")
    with pytest.raises(ConfigError, match=r"broken.py failed while it was imported; got: SyntaxError"):
        zoo.resolve(f"{broken}:make")


@pytest.mark.parametrize("spec", ["torchvision:resnet18", "timm:resnet18"])
def test_an_absent_package_is_told_with_its_extra(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "timm", None)
    vision.torchvision.cache_clear()
    with pytest.raises(MissingExtraError, match=r'\'torchvision\', which is not installed; .*netpress\[vision\]"'):
        zoo.resolve(spec)


def _has(package: str) -> bool:
    """Whether it is installed; found without importing it, which ``vision`` must be the first to do."""
    import importlib.util

    return importlib.util.find_spec(package) is not None


@pytest.mark.skipif(not _has("torchvision"), reason="needs torchvision")
class TestTorchvision:
    def test_a_network_and_its_input(self) -> None:
        network, info = zoo.resolve("torchvision:resnet18", classes=7, seed=0)
        assert (info.classes, info.input_shape) == (7, (3, 224, 224))
        assert info.preprocess == zoo.entry("resnet18").preprocess
        assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 7)

    def test_an_unknown_name(self) -> None:
        with pytest.raises(
            ConfigError, match=r"unknown torchvision network; got: 'resnet5'; .*did you mean 'resnet50'"
        ):
            zoo.resolve("torchvision:resnet5")

    @pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet101", "mobilenet_v2", "vgg16_224", "vgg19_bn_224"])
    def test_the_zoo_has_the_same_tensors(self, name: str) -> None:
        models = vision.torchvision().models
        with torch.device("meta"):
            ours, theirs = zoo.build(name), models.get_model(name.removesuffix("_224"), weights=None)
        shapes = [{key: value.shape for key, value in each.state_dict().items()} for each in (ours, theirs)]
        assert shapes[0] == shapes[1]

    @pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet_v2"])
    def test_the_zoo_gives_the_same_outputs(self, name: str) -> None:
        theirs = vision.torchvision().models.get_model(name, weights=None).eval()
        ours = zoo.build(name).eval()
        ours.load_state_dict(theirs.state_dict())
        x = torch.randn(2, 3, 64, 64)
        with torch.inference_mode():
            torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.skipif(not _has("timm") or not _has("torchvision"), reason="needs timm and torchvision")
def test_a_network_of_timm() -> None:
    network, info = zoo.resolve("timm:mobilenetv3_small_050", classes=5, seed=0)
    assert isinstance(network, nn.Module)
    assert (info.name, info.classes, info.input_shape) == ("timm:mobilenetv3_small_050", 5, (3, 224, 224))
    with pytest.raises(ConfigError, match=r"unknown timm network; got: 'mobilenetv3_smal'; .*did you mean"):
        zoo.resolve("timm:mobilenetv3_smal")
