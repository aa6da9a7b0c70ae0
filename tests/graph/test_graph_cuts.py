from __future__ import annotations

import pytest
import torch
from graph_networks import IMAGE, NETWORKS, DenseBlock, Residual, Tokens, plain, settled, vgg16
from torch import Tensor, nn

from netpress.errors import CutError
from netpress.graph import count, find_cut, from_document, legal_cuts, split, to_document, trace


@pytest.mark.parametrize("name", NETWORKS)
def test_every_legal_cut_composes_to_the_network(name: str) -> None:
    net = trace(settled(NETWORKS[name]()).eval(), torch.randn(2, *IMAGE))
    x = torch.randn(3, *IMAGE)
    expected, counts = net(x), count(net)
    for cut in {cut.at: cut for cut in legal_cuts(net)}.values():
        before, after = split(net, cut.name)
        middle = before(x)
        assert middle.shape[1:] == cut.shape == before.output_shape == after.input_shape
        assert torch.equal(after(middle), expected)
        assert torch.equal(nn.Sequential(before, after)(x), expected)
        assert {*before.state_dict(), *after.state_dict()} == set(net.state_dict())
        counts_before, counts_after = count(before), count(after)
        assert (counts_before.params, counts_before.macs) == (cut.params_before, cut.macs_before)
        assert (counts_after.params, counts_after.macs) == (cut.params_after, cut.macs_after)
        assert cut.params_before + cut.params_after == counts.params
        assert cut.macs_before + cut.macs_after == counts.macs
        for part in (before, after):
            from_document(*to_document(part))


def test_parts_are_copies() -> None:
    net = trace(plain(), torch.randn(1, *IMAGE))
    before, after = split(net, "3")
    assert before.training
    with torch.no_grad():
        before.get_parameter("0.weight").zero_()
        after.get_parameter("6.weight").zero_()
    assert net.get_parameter("0.weight").abs().sum() > 0
    assert net.get_parameter("6.weight").abs().sum() > 0


class TestPlaces:
    def test_plain_network_can_be_cut_anywhere(self) -> None:
        cuts = legal_cuts(trace(plain(), torch.randn(1, *IMAGE)))
        assert [(cut.name, cut.shape, cut.at) for cut in cuts] == [
            ("1", (4, 8, 8), 1),
            ("2", (4, 8, 8), 2),
            ("3", (4, 8, 8), 3),
            ("4", (4, 4, 4), 4),
            ("5", (4, 4, 4), 5),
            ("6", (64,), 6),
        ]

    def test_residual_network_is_cut_between_blocks(self) -> None:
        names = [cut.name for cut in legal_cuts(trace(Residual(), torch.randn(1, *IMAGE)))]
        assert names == [
            "bn1", "layer1", "layer1.0", "layer1.0.conv1", "layer1.1", "layer1.1.conv1",
            "layer2", "layer2.0", "layer2.0.conv1", "layer2.1", "layer2.1.conv1", "linear",
        ]  # fmt: skip

    def test_cut_of_vgg16_before_its_eighth_convolution(self) -> None:
        cut = find_cut(trace(vgg16(), torch.randn(1, 3, 32, 32)), "features.17")
        assert (cut.shape, cut.params_before, cut.macs_before) == ((256, 4, 4), 1_735_488, 190_513_152)

    def test_dense_block_is_cut_only_at_its_ends(self) -> None:
        network = nn.Sequential(nn.Conv2d(3, 3, 1), DenseBlock(), nn.Linear(9, 2))
        names = [cut.name for cut in legal_cuts(trace(network, torch.randn(1, *IMAGE)))]
        assert names == ["1", "2"]

    def test_two_inputs_packed_in_one(self) -> None:
        cuts = legal_cuts(trace(Tokens(), torch.randint(0, 10, (2, 12))))
        assert [cut.name for cut in cuts] == ["head"]

    def test_parameters_made_for_a_module_go_with_it(self) -> None:
        cuts = legal_cuts(trace(NETWORKS["parametrized"](), torch.randn(1, *IMAGE)))
        head = next(cut for cut in cuts if cut.name == "head")
        assert (head.params_before, head.params_after) == (3 * 4 * 9 + 4 + 4, 4 * 5 + 5)

    def test_shared_parameter_forbids_the_cut(self) -> None:
        net = trace(NETWORKS["shared"](), torch.randn(1, *IMAGE))
        with pytest.raises(CutError, match="before 'second'; got: a parameter is used on both sides"):
            find_cut(net, "second")

    def test_sequence_first_tensor_forbids_the_cut(self) -> None:
        class Turned(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.fc = nn.Linear(8, 8)

            def forward(self, x: Tensor) -> Tensor:
                return self.fc(x.permute(1, 2, 0, 3)).permute(2, 0, 1, 3)

        net = trace(nn.Sequential(nn.ReLU(), Turned()), torch.randn(2, *IMAGE))
        assert [cut.name for cut in legal_cuts(net)] == ["1"]
        with pytest.raises(CutError, match=r"before '1\.fc'; got: what crosses it is not a batch"):
            find_cut(net, "1.fc")


class TestErrors:
    def test_crossed_by_a_skip(self) -> None:
        net = trace(Residual(), torch.randn(1, *IMAGE))
        with pytest.raises(CutError) as caught:
            split(net, "layer1.0.conv2")
        assert "2 tensors cross it: relu, relu of 'layer1.0'" in str(caught.value)
        assert "the nearest legal cuts lie before 'layer1', 'layer1.0', 'layer1.0.conv1'" in str(caught.value)

    def test_unknown_name(self) -> None:
        net = trace(Residual(), torch.randn(1, *IMAGE))
        with pytest.raises(CutError, match=r"got: 'layr2'; allowed: bn1, layer1, .*remedy: did you mean 'layer2' or"):
            find_cut(net, "layr2")

    def test_nothing_before(self) -> None:
        net = trace(plain(), torch.randn(1, *IMAGE))
        with pytest.raises(CutError, match=r"before '0'; got: nothing is left before it; remedy: .* '1', '2', '3'"):
            find_cut(net, "0")

    def test_network_without_a_cut(self) -> None:
        with pytest.raises(CutError, match="this network has no legal cut"):
            find_cut(trace(nn.Sequential(nn.ReLU()), torch.randn(1, 4)), "0")
