"""Laws that hold for every reduction layer, and counts by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from netpress.errors import ConfigError, UnknownNameError, WeightsError
from netpress.layers import (
    Bottleneck,
    ConvDecoder,
    ConvEncoder,
    LinearProjection,
    MixerProjection,
    TuckerLift,
    TuckerProjection,
)
from netpress.maths import ModeGrams, project

Shape = tuple[int, ...]
MAPS = {"bottleneck": Bottleneck, "autoencoder": ConvEncoder, "mixer": MixerProjection, "tucker": TuckerProjection}
SIZES: list[tuple[Shape, Shape]] = [
    ((3, 5, 7), (2, 3, 4)),
    ((3, 5, 7), (3, 5, 7)),
    ((1, 1, 1), (1, 1, 1)),
    ((8, 9, 4), (5, 2, 1)),
    ((4, 8, 8), (2, 4, 3)),
]


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("shape", "ranks"), SIZES)
@pytest.mark.parametrize("name", MAPS)
def test_shapes_gradients_and_lift(name: str, shape: Shape, ranks: Shape) -> None:
    layer = MAPS[name](shape, ranks)
    assert (layer.feature_shape, layer.ranks) == (shape, ranks)
    assert layer.out_features == ranks[0] * ranks[1] * ranks[2]
    x = torch.randn(6, *shape, requires_grad=True)
    y = layer(x)
    assert y.shape == (6, layer.out_features)
    back = layer.lift()
    assert back(y).shape == (6, *shape)
    (y * torch.randn_like(y)).sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
    assert x.grad is not None
    assert sum(float(p.grad.abs().sum()) for p in layer.parameters() if p.grad is not None) > 0


@pytest.mark.parametrize("name", MAPS)
def test_one_sample_gives_what_the_batch_gives(name: str) -> None:
    layer = MAPS[name]((6, 5, 4), (3, 2, 2)).eval()
    x = torch.randn(5, 6, 5, 4)
    torch.testing.assert_close(layer(x[2:3]), layer(x)[2:3])


@pytest.mark.parametrize(
    ("build", "parameters"),
    [
        (lambda: TuckerProjection((256, 4, 4), (35, 3, 3)), 35 * 256 + 12 + 12),  # 8,984
        (lambda: TuckerLift((256, 4, 4), (35, 3, 3)), 8_984),
        (lambda: TuckerProjection(10, 3), 30),
        (lambda: LinearProjection((256, 4, 4), 50), 204_800),
        (lambda: Bottleneck((256, 4, 4), (35, 3, 3)), 256 * 35 + 2 * 35),  # 9,030
        (lambda: ConvEncoder((256, 4, 4), (35, 3, 3)), 256 * 35 + 70 + 9 * 35 * 35 + 35),  # 20,090
        (lambda: ConvEncoder((256, 4, 4), (35, 3, 3), width=8), 256 * 8 + 16 + 9 * 8 * 35 + 35),
        # embed 256*35+35 = 8,995; tokens 2*256+16+16 = 544; channels 2*1225+70 = 2,520; norms 140; projection 153
        (lambda: MixerProjection((256, 4, 4), (35, 3, 3)), 8_995 + 544 + 2_520 + 140 + 153),
        (lambda: MixerProjection((256, 4, 4), (35, 3, 3), blocks=2), 8_995 + 2 * (544 + 2_520 + 140) + 153),
    ],
)
def test_parameters_by_hand_also_without_memory(build: Callable[[], nn.Module], parameters: int) -> None:
    assert count(build()) == parameters
    with torch.device("meta"):
        empty = build()
    assert count(empty) == parameters
    assert all(p.is_meta for p in empty.parameters())


@pytest.mark.parametrize("shape", [(12,), (3, 5), (4, 3, 5), (2, 3, 2, 3)])
def test_tucker_agrees_with_the_maths_at_any_order(shape: Shape) -> None:
    ranks = tuple(max(1, size - 1) for size in shape)
    features = torch.randn(20, *shape)
    grams = ModeGrams(shape)
    grams.update(features)
    layer = TuckerProjection(shape, ranks)
    layer.set_projections(grams.projections(ranks))
    expected = project(features, layer.projections())
    torch.testing.assert_close(layer(features), expected.flatten(1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(12,), (6, 5, 4), (3, 5)])
def test_lift_after_tucker_is_the_orthogonal_projector(shape: Shape) -> None:
    layer = TuckerProjection(shape, tuple(max(1, size // 2) for size in shape))  # starts with orthonormal rows
    back = layer.lift()
    x = torch.randn(7, *shape)
    once = back(layer(x))
    torch.testing.assert_close(back(layer(once)), once, atol=1e-5, rtol=1e-5)  # idempotent
    residual = (x - once).flatten(1)
    torch.testing.assert_close((residual * once.flatten(1)).sum(1), torch.zeros(7), atol=1e-4, rtol=0)  # orthogonal
    torch.testing.assert_close(layer(once), layer(x), atol=1e-5, rtol=1e-5)


def test_linear_lift_is_the_orthogonal_projector() -> None:
    layer = LinearProjection((3, 4), 5)
    layer.set_basis(torch.linalg.qr(torch.randn(12, 5)).Q.T)
    back = layer.lift()
    x = torch.randn(7, 3, 4)
    torch.testing.assert_close(back(layer(back(layer(x)))), back(layer(x)), atol=1e-5, rtol=1e-5)
    assert layer(x).shape == (7, 5)
    assert (layer.ranks, layer.out_features) == ((5,), 5)


def test_lift_has_its_own_parameters() -> None:
    layer = TuckerProjection((4, 3, 3), (2, 2, 2))
    back = layer.lift()
    with torch.no_grad():
        for p in back.parameters():
            p.zero_()
    assert all(bool((p != 0).any()) for p in layer.parameters())


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("kind", ["tucker", "linear"])
def test_frozen_stays_and_trainable_moves(kind: str, trainable: bool) -> None:
    layer: nn.Module
    if kind == "tucker":
        layer = TuckerProjection((4, 3, 3), (2, 2, 2), trainable=trainable)
    else:
        layer = LinearProjection((4, 3, 3), 8, trainable=trainable)
    network = nn.Sequential(layer, nn.Linear(8, 2))
    before = {name: p.detach().clone() for name, p in layer.named_parameters()}
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    network(torch.randn(5, 4, 3, 3)).square().sum().backward()
    optimizer.step()
    assert all(torch.equal(p, before[name]) != trainable for name, p in layer.named_parameters())
    assert len(before) == (3 if kind == "tucker" else 1)  # frozen ones still count


def test_decoder_mirrors_the_encoder_and_training_lowers_the_error() -> None:
    encoder = ConvEncoder((6, 5, 7), (3, 2, 4), width=5)
    decoder = encoder.decoder()
    assert decoder.width == 5
    x = torch.randn(16, 6, 5, 7)
    assert decoder(encoder(x)).shape == x.shape
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=0.01)
    errors = []
    for _ in range(40):
        optimizer.zero_grad()
        error = (decoder(encoder(x)) - x).square().mean()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < 0.9 * errors[0]


def test_encoder_strides_only_where_half_the_positions_go() -> None:
    assert ConvEncoder((4, 8, 8), (2, 4, 5)).conv.stride == (2, 1)
    assert isinstance(ConvEncoder((4, 8, 8), (2, 4, 8)).pool, nn.Identity)
    assert isinstance(ConvEncoder((4, 9, 9), (2, 2, 3)).pool, nn.AdaptiveAvgPool2d)


def test_bottleneck_by_hand() -> None:
    layer = Bottleneck((2, 1, 2), (1, 1, 1), activation="identity").eval()
    with torch.no_grad():
        layer.conv.weight.copy_(torch.tensor([1.0, 2.0]).reshape(1, 2, 1, 1))
        layer.norm.weight.fill_((1 + 1e-5) ** 0.5)  # undoes eps
    # positions: 1 + 2 * 3 = 7 and 5 + 2 * 4 = 13, mean 10
    assert layer(torch.tensor([[[[1.0, 5.0]], [[3.0, 4.0]]]])).item() == pytest.approx(10.0, rel=1e-5)


def test_mixer_block_is_the_identity_when_its_last_layers_are_zero() -> None:
    layer = MixerProjection((3, 2, 2), (3, 2, 2))
    block = layer.blocks[0]
    with torch.no_grad():
        for name, p in block.named_parameters():
            if "mlp.2" in name:
                p.zero_()
    x = torch.randn(2, 4, 3)
    assert torch.equal(layer.blocks(x), x)


@pytest.mark.parametrize("name", MAPS)
def test_ranks_out_of_range(name: str) -> None:
    with pytest.raises(ConfigError, match=r"rank of mode 1 does not fit .*\(3, 5, 7\); got: 4; allowed: 1\.\.3"):
        MAPS[name]((3, 5, 7), (4, 1, 1))
    with pytest.raises(ConfigError, match=r"rank of mode 3 .*got: 0; allowed: 1\.\.7"):
        MAPS[name]((3, 5, 7), (1, 1, 0))
    with pytest.raises(ConfigError, match="need 3 ranks"):
        MAPS[name]((3, 5, 7), (1, 1))


def test_other_errors() -> None:
    with pytest.raises(ConfigError, match=r"got: 61; allowed: 1\.\.60"):
        LinearProjection((3, 4, 5), 61)
    for layer in (Bottleneck, ConvEncoder, MixerProjection):
        with pytest.raises(ConfigError, match=r"works on feature maps; got: features of shape \(8,\)"):
            layer((8,), (2,))
    with pytest.raises(ConfigError, match="blocks is out of range; got: 3; allowed: 1 or 2"):
        MixerProjection((3, 2, 2), (1, 1, 1), blocks=3)
    with pytest.raises(ConfigError, match="token_hidden is out of range; got: 0"):
        MixerProjection((3, 2, 2), (1, 1, 1), token_hidden=0)
    with pytest.raises(ConfigError, match="decoder's width"):
        ConvDecoder((3, 2, 2), (1, 1, 1), width=-1)
    with pytest.raises(UnknownNameError, match=r"unknown activation; got: 'rely'.*'relu'"):
        Bottleneck((3, 2, 2), (1, 1, 1), activation="rely")
    tucker = TuckerProjection((3, 2), (2, 1))
    with pytest.raises(WeightsError, match=r"got: \[\(3, 2\)\]; allowed: \[\(2, 3\), \(1, 2\)\]"):
        tucker.set_projections([torch.zeros(3, 2)])
    with pytest.raises(WeightsError, match="mode 2 is not finite"):
        tucker.set_projections([torch.zeros(2, 3), torch.full((1, 2), float("nan"))])
    with pytest.raises(WeightsError, match="basis does not fit"):
        LinearProjection(4, 2).set_basis(torch.zeros(4, 2))
    with pytest.raises(WeightsError, match="basis is not finite"):
        LinearProjection(4, 2).set_basis(torch.full((2, 4), float("inf")))
