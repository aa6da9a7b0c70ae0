"""The catalog, and each network's parameters, shapes and layer names."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from netpress import zoo
from netpress.errors import ConfigError, UnknownNameError
from netpress.zoo.families.mobilenet_v2 import scaled_channels
from netpress.zoo.families.resnet_cifar import PadShortcut

# With the entry's own number of classes: published, or added up by hand from the architecture.
PARAMETERS = {
    "deepdta": 2_030_337,
    "digits_cnn": 95_466,
    "lenet300_100": 266_610,
    "lenet5": 431_080,
    "mobilenet_v2": 3_504_872,
    "mobilenet_v2_32": 2_236_682,
    "mobilenet_v2_x0_5": 1_968_680,
    "resnet18": 11_689_512,
    "resnet18_32": 11_173_962,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet50_32": 23_520_842,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "resnet20b": 272_474,
    "resnet8_tiny": 78_186,
    "vgg16": 14_719_818,
    "vgg16_bn": 14_724_042,
    "vgg16_224": 138_357_544,
    "vgg16_bn_224": 138_365_992,
    "vgg16_conv10_bn": 8_959_562,
    "vgg19": 20_029_514,
    "vgg19_224": 143_667_240,
    "vgg19_bn_224": 143_678_248,
    "vgg19_bn_4096": 38_969_802,
    "wrn16_8": 10_961_370,
    "wrn28_10": 36_479_194,
    "wrn40_4": 8_949_210,
}


def on_meta(name: str, classes: int | None = None) -> nn.Module:
    with torch.device("meta"):
        return zoo.build(name, classes=classes).eval()


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_of_the_default_number_of_classes(name: str) -> None:
    assert parameters(on_meta(name)) == PARAMETERS[name]


@pytest.mark.parametrize(
    ("name", "classes", "expected"),
    [("vgg19_224", 10, 139_611_210), ("resnet101", 10, 42_520_650), ("vgg16_bn", 100, 14_724_042 + 90 * 513)],
)
def test_parameters_of_another_number_of_classes(name: str, classes: int, expected: int) -> None:
    assert parameters(on_meta(name, classes)) == expected


@pytest.mark.parametrize("name", zoo.names())
def test_every_entry_takes_its_input_shape_and_gives_its_classes(name: str) -> None:
    entry = zoo.entry(name)
    network = on_meta(name)
    looked_up = entry.preprocess.get("indices", False)
    inputs = torch.empty(2, *entry.input_shape, device="meta", dtype=torch.int64 if looked_up else torch.float32)
    assert network(inputs).shape == (2, entry.classes)
    if not looked_up:
        assert len(entry.preprocess["mean"]) == len(entry.preprocess["std"]) == entry.input_shape[0]
    assert all(std > 0 for std in entry.preprocess["std"])
    assert entry.paper


@pytest.mark.parametrize(
    "name",
    ["digits_cnn", "lenet300_100", "lenet5", "resnet20", "resnet20b", "resnet8_tiny", "mobilenet_v2_32", "wrn16_1"],
)
def test_small_networks_run_and_every_parameter_learns(name: str) -> None:
    entry = zoo.entry(name)
    network = zoo.build(name, classes=7, seed=0)
    assert network.training
    output = network(torch.randn(4, *entry.input_shape))
    assert output.shape == (4, 7)
    output.logsumexp(1).sum().backward()
    assert [key for key, value in network.named_parameters() if value.grad is None] == []


def test_names_are_sorted_and_of_every_family() -> None:
    names = zoo.names()
    assert names == sorted(set(names))
    assert set(PARAMETERS) <= set(names)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown network; got: 'resnet21'; .*did you mean .*'resnet20'"):
        zoo.entry("resnet21")
    with pytest.raises(UnknownNameError, match="vgg16"):
        zoo.build("vgg-16")


def test_an_entry_is_frozen_and_its_preprocess_is_the_callers_own() -> None:
    entry = zoo.entry("resnet20")
    with pytest.raises(dataclasses.FrozenInstanceError):
        entry.name = "other"  # type: ignore[misc]
    entry.preprocess["mean"][0] = 9.0
    assert zoo.entry("resnet20").preprocess["mean"] == [0.4914, 0.4822, 0.4465]


def test_same_seed_same_weights_and_the_global_generator_stays() -> None:
    before = torch.get_rng_state()
    first, again, other = (zoo.build("lenet5", seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["0.weight"], other["0.weight"])


def test_without_a_seed_the_global_generator_decides() -> None:
    first = zoo.build("lenet300_100").state_dict()["1.weight"]
    second = zoo.build("lenet300_100").state_dict()["1.weight"]
    torch.manual_seed(0)
    assert torch.equal(zoo.build("lenet300_100").state_dict()["1.weight"], first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("classes", [0, -1, True, 2.0, "10"])
def test_classes_must_be_a_positive_integer(classes: object) -> None:
    with pytest.raises(ConfigError, match=r"classes is not a number of classes; got: .*at least 1"):
        zoo.build("lenet5", classes=classes)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [-1, True, 0.5])
def test_seed_must_be_an_integer_from_zero(seed: object) -> None:
    with pytest.raises(ConfigError, match="seed is not a seed"):
        zoo.build("lenet5", seed=seed)  # type: ignore[arg-type]


def test_option_a_shortcut_by_hand() -> None:
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    expected = torch.zeros(1, 3, 2, 2)
    expected[0, 1] = torch.tensor([[0.0, 2.0], [8.0, 10.0]])
    assert torch.equal(PadShortcut(1)(x), expected)


@pytest.mark.parametrize(
    ("channels", "width", "expected"), [(32, 1.0, 32), (24, 0.5, 16), (16, 0.5, 8), (96, 0.75, 72), (8, 0.1, 8)]
)
def test_scaled_channels(channels: int, width: float, expected: int) -> None:
    assert scaled_channels(channels, width) == expected


@given(channels=st.integers(1, 2000), width=st.floats(0.05, 2))
def test_scaled_channels_are_multiples_of_8_that_lose_at_most_a_tenth(channels: int, width: float) -> None:
    scaled = scaled_channels(channels, width)
    assert scaled % 8 == 0
    assert scaled >= 0.9 * channels * width


def test_vgg16_before_its_8th_convolution_leaves_256_4_4() -> None:
    features = on_meta("vgg16").get_submodule("features")
    assert isinstance(features, nn.Sequential)
    convolutions = [index for index, layer in enumerate(features) if isinstance(layer, nn.Conv2d)]
    assert features[: convolutions[7]](torch.empty(1, 3, 32, 32, device="meta")).shape == (1, 256, 4, 4)
    assert parameters(features[: convolutions[7]]) == 1_735_488


@pytest.mark.parametrize(("name", "side"), [("mobilenet_v2", 7), ("mobilenet_v2_32", 4), ("mobilenet_v2_32_x0_5", 4)])
def test_mobilenet_keeps_a_feature_map_worth_averaging(name: str, side: int) -> None:
    features = on_meta(name).get_submodule("features")
    shape = zoo.entry(name).input_shape
    assert features(torch.empty(1, *shape, device="meta")).shape == (1, 1280, side, side)


def test_the_tiny_resnet_pads_below_and_to_the_right() -> None:
    network = zoo.build("resnet8_tiny", seed=0)
    seen: list[torch.Tensor] = []
    network.get_submodule("conv3").register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(torch.full((1, 3, 32, 32), 255.0))
    assert seen[0].shape == (1, 16, 33, 33)
    assert seen[0][:, :, 0, :].any()
    assert not seen[0][:, :, -1, :].any()
    assert not seen[0][:, :, :, -1].any()
    assert {module.eps for module in network.modules() if isinstance(module, nn.BatchNorm2d)} == {1e-3}


def test_torchvision_layer_names_in_order() -> None:
    assert list(on_meta("resnet18").state_dict())[:8] == [
        *("conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var", "bn1.num_batches_tracked"),
        *("layer1.0.conv1.weight", "layer1.0.bn1.weight"),
    ]
    keys = on_meta("mobilenet_v2").state_dict()
    assert {
        "features.0.0.weight",
        "features.1.conv.1.weight",
        "features.2.conv.1.0.weight",
        "classifier.1.bias",
    } <= set(keys)
    assert keys["features.18.0.weight"].shape == (1280, 320, 1, 1)
    assert on_meta("vgg16_224").state_dict()["classifier.6.weight"].shape == (1000, 4096)


def test_digits_cnn_learns_in_seconds() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    pixels, labels = datasets.load_digits(return_X_y=True)
    x = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    y = torch.tensor(labels)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    fit, held_out = order[:1437], order[1437:]
    network = zoo.build("digits_cnn", seed=0)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(3):
        for batch in fit[torch.randperm(len(fit))].split(64):
            optimizer.zero_grad()
            functional.cross_entropy(network(x[batch]), y[batch]).backward()
            optimizer.step()
    with torch.no_grad():
        right = (network.eval()(x[held_out]).argmax(1) == y[held_out]).float().mean()
    assert right > 0.97
