from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from graph_networks import IMAGE, NETWORKS, Residual, Transformer, plain, vgg16
from torch import Tensor, nn

from netpress.errors import GraphError
from netpress.graph import LayerCount, count, trace


@pytest.mark.parametrize("name", NETWORKS)
def test_rows_add_up(name: str) -> None:
    network = NETWORKS[name]()
    counts = count(trace(network, torch.randn(2, *IMAGE)))
    assert counts.params == sum(p.numel() for p in network.parameters())
    assert sum(row.params for row in counts.layers) == counts.params
    assert sum(row.macs for row in counts.layers) == counts.macs


@pytest.mark.parametrize("name", NETWORKS)
def test_macs_do_not_depend_on_the_example(name: str) -> None:
    network = NETWORKS[name]()
    assert count(trace(network, torch.randn(1, *IMAGE))).macs == count(trace(network, torch.randn(4, *IMAGE))).macs


class TestByHand:
    def test_plain(self) -> None:
        counts = count(trace(plain(), torch.randn(1, *IMAGE)))
        assert counts.layers == [
            LayerCount("0", "Conv2d", (4, 8, 8), 3 * 4 * 9 + 4, 64 * 4 * 3 * 9),
            LayerCount("1", "BatchNorm2d", (4, 8, 8), 8, 0),
            LayerCount("2", "ReLU", (4, 8, 8), 0, 0),
            LayerCount("3", "MaxPool2d", (4, 4, 4), 0, 0),
            LayerCount("4", "Dropout", (4, 4, 4), 0, 0),
            LayerCount("5", "Flatten", (64,), 0, 0),
            LayerCount("6", "Linear", (5,), 64 * 5 + 5, 64 * 5),
        ]

    def test_transformer(self) -> None:
        macs = count(trace(Transformer(), torch.randn(1, *IMAGE))).macs
        tokens, width = 5, 8
        patches = 4 * width * 3 * 16
        attention = 2 * tokens * tokens * width
        linear = tokens * width * (3 * width + width + 2 * width + 2 * width)
        assert macs == patches + attention + linear + width * 5

    @pytest.mark.parametrize(
        ("function", "macs"),
        [
            (lambda x: x @ x.transpose(2, 3), 3 * 8 * 8 * 8),
            (lambda x: torch.bmm(x[:, 0], x[:, 1]), 8 * 8 * 8),
            (lambda x: torch.einsum("nchw,ndhw->ncd", x, x), 3 * 3 * 8 * 8),
            (lambda x: torch.einsum("...hw,...w->...h", x, x[:, :, 0]), 3 * 8 * 8),
            (lambda x: torch.einsum("nchw->nc", x), 0),
            (lambda x: F.conv2d(x, torch.ones(6, 1, 3, 3), groups=3), 6 * 9 * 6 * 6),
            (lambda x: F.conv_transpose2d(x, torch.ones(3, 2, 2, 2), stride=2), 3 * 64 * 2 * 4),
            (lambda x: F.linear(x, torch.ones(5, 8)), 3 * 8 * 5 * 8),
            (lambda x: F.softmax(x + x, 1).exp(), 0),
        ],
    )
    def test_functions(self, function: object, macs: int) -> None:
        class Net(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return function(x)  # type: ignore[operator]

        assert count(trace(Net(), torch.randn(2, *IMAGE))).macs == macs

    def test_transposed_convolution(self) -> None:
        net = trace(nn.Sequential(nn.ConvTranspose2d(3, 4, 2, stride=2, bias=False)), torch.randn(1, *IMAGE))
        assert count(net).macs == 3 * 64 * 4 * 4

    def test_product_of_parameters_counts_once_a_run(self) -> None:
        class Factored(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.u, self.v = nn.Parameter(torch.randn(5, 2)), nn.Parameter(torch.randn(2, 4))

            def forward(self, x: Tensor) -> Tensor:
                return F.linear(x, self.u @ self.v)

        assert count(trace(Factored(), torch.randn(1, 4))).macs == 5 * 2 * 4 + 5 * 4


class TestKnownNetworks:
    def test_vgg16(self) -> None:
        counts = count(trace(vgg16(), torch.randn(1, 3, 32, 32)))
        assert counts.params == 14_719_818
        convolutions = [row for row in counts.layers if row.kind == "Conv2d"]
        assert sum(row.params for row in convolutions[:7]) == 1_735_488
        assert sum(row.macs for row in convolutions[:7]) == 190_513_152

    def test_resnet20(self) -> None:
        counts = count(trace(Residual((16, 32, 64), blocks=3, classes=10), torch.randn(1, 3, 32, 32)))
        assert (counts.params, counts.macs) == (269_722, 40_551_040)


def test_nonzeros() -> None:
    network = plain()
    with torch.no_grad():
        network[6].weight.view(-1)[:100] = 0
    counts = count(trace(network, torch.randn(1, *IMAGE)))
    assert counts.params - counts.nonzeros == 100 + 4  # and the four biases of the batch normalisation


def test_counting_takes_no_part_of_the_network_along() -> None:
    net = trace(plain(), torch.randn(1, *IMAGE))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    count(net)
    assert net.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_parts_that_do_not_fit() -> None:
    net = trace(plain(), torch.randn(1, *IMAGE))
    net.set_submodule("6", nn.Linear(63, 5))
    with pytest.raises(GraphError, match=r"does not run on an input of shape \(3, 8, 8\); got: Linear '6'"):
        count(net)
