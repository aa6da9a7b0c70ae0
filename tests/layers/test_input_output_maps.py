"""The maps from reduced features to answers: FNN and Hermite polynomials."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from netpress.errors import ConfigError, UnknownNameError, WeightsError
from netpress.layers import FNN, HermiteMap, fold_normalisation
from netpress.maths import HermiteFit, StreamingMoments, hermite_features, multi_indices, polynomial_terms


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_fnn_parameters_as_published() -> None:
    assert count(FNN(315, 20, 10)) == 315 * 20 + 20 + 20 * 10 + 10 == 6_530
    assert count(FNN(7, (5, 4), 3)) == 40 + 24 + 15
    assert count(FNN(7, (), 3)) == 24
    with torch.device("meta"):
        assert count(FNN(315, 20, 10)) == 6_530
    assert FNN(315, 20, 10)(torch.randn(2, 315)).shape == (2, 10)


def test_fold_by_hand() -> None:
    linear = nn.Linear(1, 1)
    with torch.no_grad():
        linear.weight.fill_(6.0)
        linear.bias.fill_(1.0)
    fold_normalisation(linear, torch.tensor([10.0]), torch.tensor([2.0]))
    assert (linear.weight.item(), linear.bias.item()) == (3.0, -29.0)  # 6 / 2; 1 - 3 * 10


def test_folded_map_takes_raw_inputs_where_it_took_normalised_ones() -> None:
    raw = torch.randn(400, 6) * torch.tensor([1.0, 1e3, 1e-1, 5, 7, 9]) + 10
    moments = StreamingMoments(6)
    moments.update(raw)
    network = FNN(6, (5, 4), 3, activation="tanh")
    expected = network(((raw - moments.mean()) / moments.std()).float())
    network.fold_normalisation(moments.mean(), moments.std())
    torch.testing.assert_close(network(raw), expected, atol=1e-3, rtol=0)
    assert count(network) == count(FNN(6, (5, 4), 3))


def test_folding_makes_large_features_learnable() -> None:
    raw = torch.randn(256, 4) * 1e4 + 3e4
    targets = (raw[:, :1] > 3e4).float()
    losses = []
    for folded in (False, True):
        torch.manual_seed(1)
        network = FNN(4, 8, 1)
        if folded:
            network.fold_normalisation(raw.mean(0), raw.std(0))
        head = network.layers[2]
        optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
        for _ in range(60):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(network(raw), targets)
            loss.backward()
            optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[1] < 0.3
    assert losses[0] > 100 * losses[1]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8, 11])
def test_each_pair_appears_once(size: int) -> None:
    layer = HermiteMap(size, 2, 1)
    assert sorted(layer.pairs()) == [(i, j) for i in range(size) for j in range(i + 1, size)]
    assert count(HermiteMap(size, 2, 3)) == 3 * polynomial_terms(size, 2)
    assert count(HermiteMap(size, 1, 3)) == 3 * (size + 1)


def test_parameters_at_published_size() -> None:
    with torch.device("meta"):
        assert count(HermiteMap(50, 2, 10)) == 13_260


@pytest.mark.parametrize("degree", [1, 2])
@pytest.mark.parametrize("size", [1, 2, 5, 6])
def test_map_equals_the_polynomials_with_their_coefficients(size: int, degree: int) -> None:
    layer = HermiteMap(size, degree, 3).double()
    coefficients = torch.randn(polynomial_terms(size, degree), 3, dtype=torch.float64)
    mean, std = torch.randn(size, dtype=torch.float64), torch.rand(size, dtype=torch.float64) + 0.5
    layer.set_fit(coefficients, mean, std)
    x = torch.randn(9, size, dtype=torch.float64)
    torch.testing.assert_close(layer(x), hermite_features((x - mean) / std, degree) @ coefficients)
    torch.testing.assert_close(layer(x[:1]), layer(x)[:1])


def test_least_squares_fit_then_training_reaches_the_inputs_too() -> None:
    x = torch.randn(300, 5) * 3 + 1
    y = (x[:, :1] * x[:, 1:2] - x[:, 2:3].square()) * 0.1
    moments = StreamingMoments(5)
    moments.update(x)
    fit = HermiteFit(5, 2, 1, mean=moments.mean(), std=moments.std())
    fit.update(x, y)
    layer = HermiteMap(5, 2, 1)
    layer.set_fit(fit.solve(), moments.mean(), moments.std())
    torch.testing.assert_close(layer(x), y, atol=1e-3, rtol=1e-3)
    x.requires_grad_(True)
    layer(x).sum().backward()
    # d/dx0 of .1 (x0 x1 - x2^2) is .1 x1
    assert x.grad is not None
    torch.testing.assert_close(x.grad[:, 0], 0.1 * x.detach()[:, 1], atol=1e-3, rtol=1e-3)
    assert layer.head.weight.grad is not None


def test_buffers_are_saved_but_not_counted() -> None:
    layer = HermiteMap(3, 2, 2)
    assert set(layer.state_dict()) == {"offset", "scale", "head.weight", "head.bias"}
    assert {name for name, _ in layer.named_parameters()} == {"head.weight", "head.bias"}
    assert multi_indices(3, 1) == [(), (0,), (1,), (2,)]


def test_errors() -> None:
    with pytest.raises(ConfigError, match=r"width of the map .*got: \(4, 0, 2\)"):
        FNN(4, 0, 2)
    with pytest.raises(UnknownNameError, match="did you mean 'softplus'"):
        FNN(4, 3, 2, activation="softplu")
    with pytest.raises(WeightsError, match=r"do not fit the layer; got: \(3,\), \(4,\); allowed: \(4,\)"):
        FNN(4, 3, 2).fold_normalisation(torch.zeros(3), torch.ones(4))
    with pytest.raises(WeightsError, match="each std positive"):
        FNN(4, 3, 2).fold_normalisation(torch.zeros(4), torch.zeros(4))
    with pytest.raises(WeightsError, match="has a bias"):
        fold_normalisation(nn.Linear(2, 2, bias=False), torch.zeros(2), torch.ones(2))
    with pytest.raises(ConfigError, match="degree of the polynomial map is out of range; got: 3; allowed: 1 or 2"):
        HermiteMap(4, 3, 2)
    with pytest.raises(ConfigError, match="width of the map"):
        HermiteMap(0, 2, 2)
    with pytest.raises(WeightsError, match="does not belong"):
        HermiteMap(2, 2, 1).set_fit(torch.zeros(5, 1), torch.zeros(2), torch.ones(2))
    with pytest.raises(WeightsError, match="must be finite"):
        HermiteMap(2, 1, 1).set_fit(torch.zeros(3, 1), torch.zeros(2), torch.zeros(2))
