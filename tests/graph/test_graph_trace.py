from __future__ import annotations

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from graph_networks import (
    IMAGE,
    NETWORKS,
    InPlace,
    Residual,
    Shared,
    SqueezeExcite,
    Tokens,
    Transformer,
    plain,
    settled,
)
from torch import Tensor, nn

from netpress.errors import TraceError, UnsupportedOperatorError
from netpress.graph import Batch, GraphNetwork, Node, Ref, trace


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> nn.Module:
    return settled(NETWORKS[request.param]())


class TestOfEveryNetwork:
    def test_outputs_are_the_networks(self, network: nn.Module) -> None:
        traced = trace(network, torch.randn(2, *IMAGE))
        network.eval()
        traced.eval()
        for size in (1, 2, 5):
            x = torch.randn(size, *IMAGE)
            torch.testing.assert_close(traced(x), network(x), rtol=1e-5, atol=1e-6)

    def test_network_is_untouched(self, network: nn.Module) -> None:
        state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        flags = [module.training for module in network.modules()]
        attributes = [set(module.__dict__) for module in network.modules()]
        random_state = torch.get_rng_state()
        traced = trace(network, torch.randn(1, *IMAGE, generator=torch.Generator().manual_seed(1)))
        assert torch.equal(random_state, torch.get_rng_state())
        assert [module.training for module in network.modules()] == flags
        assert [set(module.__dict__) for module in network.modules()] == attributes
        with torch.no_grad():
            for parameter in traced.parameters():
                parameter.add_(1)
        for name, tensor in network.state_dict().items():
            assert torch.equal(tensor, state[name])

    def test_gradients_are_the_networks(self, network: nn.Module) -> None:
        if isinstance(network, InPlace):
            return  # torch itself cannot go backwards through it; its program can, below
        traced = trace(network.eval(), torch.randn(2, *IMAGE))
        x = torch.randn(2, *IMAGE)
        network(x).square().sum().backward()
        traced(x).square().sum().backward()
        gradients = {name: p.grad for name, p in network.named_parameters()}
        checked = 0
        for name, parameter in traced.named_parameters():
            if name in gradients:
                torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-5)
                checked += 1
        assert checked == len(gradients)

    def test_tracing_again_changes_nothing(self, network: nn.Module) -> None:
        traced = trace(network.eval(), torch.randn(2, *IMAGE))
        again = trace(traced, torch.randn(2, *IMAGE))
        assert again.nodes == traced.nodes
        assert list(again.state_dict()) == list(traced.state_dict())

    def test_copies_run_on_their_own_tensors(self, network: nn.Module) -> None:
        traced = trace(network.eval(), torch.randn(2, *IMAGE))
        x = torch.randn(2, *IMAGE)
        expected = traced(x).detach()
        twin = copy.deepcopy(traced)
        with torch.no_grad():
            for parameter in traced.parameters():
                parameter.zero_()
        assert torch.equal(twin(x), expected)

    def test_saved_and_loaded_by_pickle(self, network: nn.Module) -> None:
        traced = trace(network.eval(), torch.randn(2, *IMAGE))
        x = torch.randn(2, *IMAGE)
        file = io.BytesIO()
        expected = traced(x)
        torch.save(traced, file)
        file.seek(0)
        assert torch.equal(torch.load(file, weights_only=False)(x), expected)

    def test_runs_in_inference_mode(self, network: nn.Module) -> None:
        traced = trace(network.eval(), torch.randn(2, *IMAGE))
        x = torch.randn(3, *IMAGE)
        with torch.inference_mode():
            torch.testing.assert_close(traced(x), network(x))

    def test_traces_in_inference_mode(self, network: nn.Module) -> None:
        with torch.inference_mode():
            traced = trace(network.eval(), torch.randn(2, *IMAGE))
        traced(torch.randn(2, *IMAGE)).sum().backward()


class TestProgram:
    def test_leaf_modules_keep_their_names_and_state(self) -> None:
        network = settled(Residual())
        traced = trace(network, torch.randn(1, *IMAGE))
        assert traced.state_dict().keys() == network.state_dict().keys()
        for name, tensor in network.state_dict().items():
            assert torch.equal(traced.state_dict()[name], tensor)
        assert isinstance(traced.get_submodule("layer1.0.conv1"), nn.Conv2d)

    def test_by_hand(self) -> None:
        class Net(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.fc = nn.Linear(4, 3)

            def forward(self, x: Tensor) -> Tensor:
                y = self.fc(x.view(x.size(0), -1))
                return y + torch.softmax(y, dim=1) * 2

        traced = trace(Net(), torch.randn(1, 2, 2))
        assert traced.nodes == (
            Node("", "reshape", (Ref(0), (Batch(1), -1))),
            Node("fc", "Linear", (Ref(1),)),
            Node("", "softmax", (Ref(2), 1)),
            Node("", "mul", (Ref(3), 2)),
            Node("", "add", (Ref(2), Ref(4))),
        )
        assert (traced.input_shape, traced.output_shape) == ((2, 2), (3,))

    def test_functions_bear_the_name_of_their_module(self) -> None:
        traced = trace(Residual(), torch.randn(1, *IMAGE))
        assert {node.name for node in traced.nodes if node.op == "pad"} == {"layer2.0"}

    def test_prefix_of_a_nested_graph(self) -> None:
        inner = trace(Residual().eval(), torch.randn(1, *IMAGE))
        outer = trace(nn.Sequential(inner, nn.Softmax(1)), torch.randn(1, *IMAGE))
        expected = [f"0.{node.name}" if node.name else "0" for node in inner.nodes]
        assert [node.name for node in outer.nodes] == [*expected, "1"]
        assert [node.op for node in outer.nodes[:-1]] == [node.op for node in inner.nodes]

    def test_what_the_output_does_not_need_is_left_out(self) -> None:
        class Net(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.used, self.auxiliary, self.never = nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(4, 3)

            def forward(self, x: Tensor) -> Tensor:
                self.auxiliary(x).exp()
                return self.used(x)

        traced = trace(Net(), torch.randn(1, 4))
        assert [node.name for node in traced.nodes] == ["used"]
        assert list(traced.state_dict()) == ["used.weight", "used.bias"]

    def test_a_root_that_is_a_leaf_keeps_its_keys(self) -> None:
        network = nn.Linear(4, 3)
        traced = trace(network, torch.randn(1, 4))
        assert list(traced.state_dict()) == ["weight", "bias"]
        x = torch.randn(3, 4)
        assert torch.equal(traced(x), network(x))

    def test_shared_module_and_shared_tensor_stay_shared(self) -> None:
        traced = trace(Shared(), torch.randn(1, *IMAGE))
        assert [node.name for node in traced.nodes].count("conv") == 2
        assert traced.get_parameter("first.weight") is traced.get_parameter("second.weight")

    def test_in_place_modules_are_undone(self) -> None:
        traced = trace(InPlace(), torch.randn(1, *IMAGE))
        assert traced.get_submodule("relu").inplace is False

    def test_in_place_changes_no_longer_forbid_gradients(self) -> None:
        traced = trace(InPlace(), torch.randn(1, *IMAGE))
        traced(torch.randn(2, *IMAGE)).sum().backward()
        assert traced.get_parameter("conv.weight").grad is not None

    def test_hooked_leaf_is_traced_through(self) -> None:
        network = nn.Sequential(nn.Linear(4, 3))
        network[0].register_forward_hook(lambda module, args, output: output * 2)
        traced = trace(network, torch.randn(1, 4))
        assert [node.op for node in traced.nodes] == ["parameter", "parameter", "linear", "mul"]

    def test_subclass_of_a_leaf_is_traced_through(self) -> None:
        class Doubled(nn.Linear):
            def forward(self, input: Tensor) -> Tensor:
                return super().forward(input) * 2

        assert trace(nn.Sequential(Doubled(4, 3)), torch.randn(1, 4)).nodes[-1].op == "mul"

    def test_leaf_whose_tensors_changed_shape_is_traced_through(self) -> None:
        network = nn.Sequential(nn.Linear(4, 3))
        network[0].weight = nn.Parameter(torch.randn(2, 4))
        network[0].bias = None
        assert trace(network, torch.randn(1, 4)).nodes[-1].op == "linear"

    def test_integers_stay_integers(self) -> None:
        network = Tokens()
        x = torch.randint(0, 10, (2, 12))
        traced = trace(network, x)
        assert traced.input_dtype == torch.int64
        assert torch.equal(traced(x), network(x))

    def test_repr_names_shapes(self) -> None:
        assert "(3, 8, 8) -> (5,), 7 nodes" in repr(trace(plain(), torch.randn(1, *IMAGE)))

    def test_replaced_module_is_run(self) -> None:
        traced = trace(plain().eval(), torch.randn(1, *IMAGE))
        traced.set_submodule("6", nn.Linear(64, 2))
        assert traced(torch.randn(3, *IMAGE)).shape == (3, 2)

    def test_values_are_freed_after_their_last_use(self) -> None:
        import weakref

        traced = trace(nn.Sequential(*[nn.ReLU() for _ in range(4)]), torch.randn(1, 4))
        alive: list[weakref.ref[Tensor]] = []
        most = 0

        def watch(index: int, value: Tensor) -> None:
            nonlocal most
            alive.append(weakref.ref(value))
            most = max(most, sum(ref() is not None for ref in alive))

        with torch.no_grad():
            traced.run(torch.randn(2, 4), watch)
        assert most <= 2


class TestMode:
    def test_dropout_function_follows_the_networks_flag(self) -> None:
        network = SqueezeExcite()
        traced = trace(network, torch.randn(2, *IMAGE))
        assert traced.training
        x = torch.randn(4, *IMAGE)
        torch.manual_seed(3)
        expected = network(x)
        torch.manual_seed(3)
        assert torch.equal(traced(x), expected)
        traced.eval()
        assert torch.equal(traced(x), traced(x))

    def test_batch_norm_function_follows_the_networks_flag(self) -> None:
        class Subclass(nn.BatchNorm2d):
            pass

        network = nn.Sequential(Subclass(3))
        traced = trace(network, torch.randn(2, *IMAGE))
        x = torch.randn(4, *IMAGE)
        assert torch.equal(traced(x), network(x))
        assert torch.equal(traced.get_buffer("0.running_mean"), network[0].running_mean)
        traced.eval()
        network.eval()
        assert torch.equal(traced(x), network(x))

    def test_frozen_leaf_stays_frozen(self) -> None:
        network = plain()
        network[1].eval()
        traced = trace(network, torch.randn(2, *IMAGE))
        assert traced.training
        assert traced.get_submodule("0").training
        assert not traced.get_submodule("1").training

    def test_requires_grad_is_kept(self) -> None:
        network = plain()
        network[0].requires_grad_(False)
        traced = trace(network, torch.randn(2, *IMAGE))
        assert [p.requires_grad for p in traced.parameters()] == [p.requires_grad for p in network.parameters()]


def _of(function: object) -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)
            self.register_buffer("steps", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            return function(self, self.fc(x))  # type: ignore[operator]

    return nn.Sequential(Net())


def _fill(self: nn.Module, x: Tensor) -> Tensor:
    x[:, 0] = 1
    return x


def _count_steps(self: nn.Module, x: Tensor) -> Tensor:
    self.steps += 1
    return x * self.steps


def _change_a_view(self: nn.Module, x: Tensor) -> Tensor:
    view = x.view(-1, 2, 2)
    view += 1
    return x


class TestRefusals:
    @pytest.mark.parametrize(
        ("function", "text"),
        [
            (lambda self, x: torch.fft.fft(x), r"fft is not among .* in module '0'"),
            (lambda self, x: torch.cumsum(x, 1), r"cumsum is not among .* remedy: say it with those: add, sub"),
            (_fill, r"__setitem__ is not among"),
            (lambda self, x: F.normalize(x, p=3.0), r"normalize is not among .*p=3"),
            (lambda self, x: torch.add(x, x, alpha=2), r"add is not among .*alpha=2"),
            (lambda self, x: F.pad(x, (1, 1), value=x.shape[0]), r"pad with these arguments .*'value' must be"),
        ],
    )
    def test_unsupported(self, function: object, text: str) -> None:
        with pytest.raises(UnsupportedOperatorError, match=text):
            trace(_of(function), torch.randn(2, 4))

    @pytest.mark.parametrize(
        ("function", "text"),
        [
            (lambda self, x: (x, x), "must return one tensor; got: tuple"),
            (lambda self, x: {"out": x}, "must return one tensor; got: dict"),
            (lambda self, x: x.sum(), r"must be batch-first; got: \(\) for 2 samples"),
            (lambda self, x: torch.ones(x.shape[0], 3), "output does not depend on its input"),
            (lambda self, x: self.fc.weight, "output does not depend on its input"),
            (lambda self, x: x if x.sum() > 0 else -x, r"reads values of its input .*__bool__ in module '0'"),
            (lambda self, x: x * float(x.mean()), "reads values of its input"),
            (lambda self, x: x + torch.rand(4), "not a multiple of it.*values of a tensor made in forward in add"),
            (
                lambda self, x: x * (x.shape[0] + 1),
                "not a multiple of it.*3 for 2 and 4 for 3 samples in mul of module",
            ),
            (lambda self, x: x if x.shape[0] == 2 else x.relu(), "another course for another batch size"),
            (lambda self, x: x.relu() if x.shape[0] == 2 else x.abs(), "another course.*relu and abs in module '0'"),
            (lambda self, x: F.dropout(x), r"dropout is active in eval mode.*remedy: pass training=self\.training"),
            (lambda self, x: x @ x, "fails on a batch of shape .*RuntimeError"),
            (_count_steps, r"changes its buffer '0\.steps' in eval mode"),
            (_change_a_view, "after another view of its memory was changed in place"),
        ],
    )
    def test_not_traceable(self, function: object, text: str) -> None:
        with pytest.raises(TraceError, match=text):
            trace(_of(function), torch.randn(2, 4))

    def test_two_inputs(self) -> None:
        with pytest.raises(TraceError, match="as its only input"):
            trace(nn.Bilinear(4, 4, 2), torch.randn(2, 4))

    def test_example_must_be_a_batch(self) -> None:
        with pytest.raises(TraceError, match=r"at least one sample; got: shape \(0, 4\)"):
            trace(nn.Linear(4, 2), torch.randn(0, 4))
        with pytest.raises(TraceError, match="got: int"):
            trace(nn.Linear(4, 2), 3)  # type: ignore[arg-type]

    def test_name_taken_by_the_graph_itself(self) -> None:
        network = nn.Sequential()
        network.add_module("nodes", nn.Linear(4, 2))
        with pytest.raises(TraceError, match="'nodes' is taken"):
            trace(network, torch.randn(2, 4))

    def test_wrong_copy_is_noticed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(GraphNetwork, "forward", lambda self, x: self.run(x) * 1.01)
        with pytest.raises(TraceError, match="does not give the network's outputs; got: a difference of up to"):
            trace(nn.Sequential(nn.Linear(4, 2)), torch.randn(2, 4))


CALLS = {
    "reflected": lambda x: 1 - (2 / (1 + x.abs())) ** 2 + 2**x,
    "comparison": lambda x: torch.where(x > 0, x, 0.1 * x).masked_fill(x < -1, float("-inf")).exp(),
    "einsum": lambda x: torch.einsum("nchw,nchv->nwv", x, x),
    "split": lambda x: torch.cat([p * k for k, p in enumerate(x.split([1, 2], 1))], 1),
    "chunk": lambda x: x.chunk(2, -1)[1] + x.narrow(-1, 0, 4),
    "stack": lambda x: torch.stack([x, -x], 1).flatten(0, 1).unflatten(0, (-1, 2)).sum(1) + x[:, [0, 2, 1]],
    "resize": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False),
    "size": lambda x: F.interpolate(x, size=x.shape[-1] + 2),
    "pool": lambda x: F.max_pool2d(x, 3, 2, 1) + F.avg_pool2d(x, (2, 2)) + F.adaptive_max_pool2d(x, 4),
    "norm": lambda x: F.normalize(x.flatten(1)) + F.layer_norm(x, x.shape[1:]).flatten(1),
    "variance": lambda x: x.var((2, 3), unbiased=False) + x.std((2, 3)) + x.flatten(2).max(-1).values,
    "layout": lambda x: x.permute(0, 2, 3, 1).contiguous().movedim(-1, 1).swapaxes(2, 3).mT.roll(1, 2).flip(3),
    "cast": lambda x: (x > 0).float() + x.double().to(x.dtype) + x.detach().clone(),
    "new": lambda x: x[:, :, None, 0, ..., ::2].expand_as(x[:, :, ::2, ::2]).repeat(1, 2, 1, 1),
    "functional": lambda x: F.conv2d(x, torch.ones(2, 3, 3, 3), stride=2, padding=1).clamp(0, 6).view(x.size(0), -1),
    "activations": lambda x: F.gelu(x, approximate="tanh") + F.elu(x) + F.softplus(x) + F.hardtanh(x) + F.logsigmoid(x),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls(name: str) -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return CALLS[name](x)

    traced = trace(Net(), torch.randn(2, *IMAGE))
    x = torch.randn(5, *IMAGE)
    torch.testing.assert_close(traced(x), Net()(x))


def test_transformer_reads_its_own_parameters() -> None:
    traced = trace(Transformer(), torch.randn(1, *IMAGE))
    assert [node.name for node in traced.nodes if node.is_tensor] == ["cls_token", "pos_embed"]
    assert Node("", "expand", (Ref(4), (Batch(1), -1, -1))) in traced.nodes
