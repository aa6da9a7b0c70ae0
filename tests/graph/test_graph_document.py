from __future__ import annotations

import copy
import json
import zlib
from typing import Any

import pytest
import torch
from graph_networks import IMAGE, NETWORKS, Residual, Shared, Tokens, Transformer, plain, settled
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from netpress.errors import FormatError, GraphError, UnsupportedOperatorError
from netpress.graph import GraphNetwork, expected_tensors, from_document, to_document, trace


def _bytes(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


@pytest.fixture(params=NETWORKS)
def traced(request: pytest.FixtureRequest) -> GraphNetwork:
    return trace(settled(NETWORKS[request.param]()).eval(), torch.randn(2, *IMAGE))


class TestRoundTrip:
    def test_same_program_same_outputs(self, traced: GraphNetwork) -> None:
        document, tensors = to_document(traced)
        read = from_document(json.loads(_bytes(document)), tensors)
        assert read.nodes == traced.nodes
        assert (read.input_shape, read.output_shape) == (traced.input_shape, traced.output_shape)
        assert list(read.state_dict()) == list(traced.state_dict())
        assert not read.training
        x = torch.randn(3, *IMAGE)
        assert torch.equal(read(x), traced(x))

    def test_written_again_it_is_the_same_document(self, traced: GraphNetwork) -> None:
        document, tensors = to_document(traced)
        again, same_tensors = to_document(from_document(json.loads(_bytes(document)), tensors))
        assert _bytes(again) == _bytes(document)
        assert list(same_tensors) == list(tensors)

    def test_expected_tensors_are_those(self, traced: GraphNetwork) -> None:
        document, tensors = to_document(traced)
        expected = expected_tensors(document)
        assert [(name, t.shape, t.dtype) for name, t in expected.items()] == [
            (name, t.shape, t.dtype) for name, t in tensors.items()
        ]
        assert all(t.device.type == "meta" for t in expected.values())

    def test_parameters_and_buffers_keep_their_kind(self, traced: GraphNetwork) -> None:
        read = from_document(*to_document(traced))
        assert [name for name, _ in read.named_parameters()] == [name for name, _ in traced.named_parameters()]

    def test_integer_input(self) -> None:
        traced = trace(Tokens(), torch.randint(0, 10, (2, 12)))
        read = from_document(*to_document(traced))
        assert read.input_dtype == torch.int64
        x = torch.randint(0, 10, (3, 12))
        assert torch.equal(read(x), traced(x))

    def test_half_precision(self) -> None:
        traced = trace(plain().half().eval(), torch.randn(2, *IMAGE, dtype=torch.float16))
        read = from_document(*to_document(traced))
        x = torch.randn(3, *IMAGE, dtype=torch.float16)
        assert torch.equal(read(x), traced(x))

    def test_network_that_does_nothing(self) -> None:
        read = from_document(*to_document(trace(nn.Identity(), torch.randn(1, 4))))
        x = torch.randn(3, 4)
        assert read.nodes == ()
        assert torch.equal(read(x), x)

    def test_shared_tensors_are_written_once_and_stay_shared(self) -> None:
        document, tensors = to_document(trace(Shared(), torch.randn(1, *IMAGE)))
        assert document["t"] == [["second.weight", "first.weight"]]
        assert "second.weight" not in tensors
        read = from_document(document, tensors)
        assert read.get_parameter("first.weight") is read.get_parameter("second.weight")

    def test_size_of_everything_but_weights(self) -> None:
        lenet = nn.Sequential(
            nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
        )
        resnet20 = Residual((16, 32, 64), blocks=3, classes=10)
        for network, shape, most in ((lenet, (1, 28, 28), 160), (resnet20, (3, 32, 32), 600)):
            document, _ = to_document(trace(network, torch.randn(1, *shape)))
            assert len(zlib.compress(_bytes(document), 9)) <= most

    def test_by_hand(self) -> None:
        document, _ = to_document(trace(plain(), torch.randn(1, *IMAGE)))
        assert document == {
            "v": 1,
            "in": [3, 8, 8],
            "n": [
                ["Conv2d", "0", [3, 4, 3, 1, 1]],
                ["BatchNorm2d", "1", [4]],
                ["ReLU", "2"],
                ["MaxPool2d", "3", [2]],
                ["Dropout", "4"],
                ["Flatten", "5"],
                ["Linear", "6", [64, 5]],
            ],
        }


class TestWriting:
    def test_foreign_module_must_be_traced_first(self) -> None:
        class Scale(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return x * 2

        traced = trace(plain(), torch.randn(1, *IMAGE))
        traced.set_submodule("2", Scale())
        with pytest.raises(UnsupportedOperatorError, match=r"module '2' is not among .*Scale.*trace the network again"):
            to_document(traced)
        to_document(trace(traced, torch.randn(1, *IMAGE)))

    def test_listed_module_in_place_of_another(self) -> None:
        traced = trace(plain().eval(), torch.randn(1, *IMAGE))
        traced.set_submodule("2", nn.LeakyReLU(0.2))
        read = from_document(*to_document(traced))
        x = torch.randn(2, *IMAGE)
        assert torch.equal(read(x), traced(x))

    def test_tensors_beside_the_program(self) -> None:
        traced = trace(plain(), torch.randn(1, *IMAGE))
        traced.register_buffer("odd", torch.zeros(1))
        with pytest.raises(GraphError, match="other tensors than its program uses; got: odd"):
            to_document(traced)


def _without(document: dict[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in document.items() if k != key}


def _with_node(k: int, node: Any) -> Any:
    def change(document: dict[str, Any]) -> dict[str, Any]:
        document["n"][k] = node
        return document

    return change


HOSTILE = {
    "not an object": (lambda d: [d], "not a network's document"),
    "unknown key": (lambda d: d | {"code": "import os"}, "not a network's document"),
    "later version": (lambda d: d | {"v": 2}, "another version; got: 2; allowed: 1"),
    "version as boolean": (lambda d: d | {"v": True}, "another version"),
    "no shape": (lambda d: _without(d, "in"), "not an input shape"),
    "shape of text": (lambda d: d | {"in": ["3"]}, "not an input shape"),
    "empty shape side": (lambda d: d | {"in": [0, 8, 8]}, "not an input shape"),
    "input too large for its modules": (lambda d: d | {"in": [3, 2**30, 2**30]}, "do not fit together"),
    "type of input": (lambda d: d | {"dt": "object"}, "not a type of input"),
    "nodes of text": (lambda d: d | {"n": "ReLU"}, "not a list of nodes"),
    "nodes without end": (lambda d: d | {"n": [["relu", "", 1]] * 10_001}, "not a list of nodes; allowed: up to 10000"),
    "no nodes": (lambda d: d | {"n": []}, "tensors that the network has no place for"),
    "many results": (lambda d: d | {"n": [*d["n"], ["unbind", "", 1]]}, "must give one tensor; got: unbind"),
    "node is text": (_with_node(0, "Conv2d"), "node 0 .*must be a list"),
    "operator by import": (_with_node(0, ["os.system", "0", ["true"]]), "node 0 .*'os.system' is not an operator"),
    "operator by attribute": (_with_node(0, ["__class__", "0"]), "not an operator of the closed list"),
    "listed class, unlisted module": (_with_node(2, ["LSTM", "2", [3, 3]]), "not an operator of the closed list"),
    "name with a path": (_with_node(2, ["ReLU", "../x"]), "not a name of a module"),
    "name of a dunder": (_with_node(2, ["ReLU", "__class__"]), "clash"),
    "name of a method": (_with_node(2, ["ReLU", "forward"]), "clash"),
    "name in a leaf": (_with_node(2, ["ReLU", "0.act"]), "clash"),
    "endless name": (_with_node(2, ["ReLU", ".".join("a" * 40)]), "not a name of a module"),
    "module twice, not alike": (_with_node(1, ["Conv2d", "0", [4, 4, 3, 1, 1]]), "described twice"),
    "future tensor": (_with_node(2, ["relu", "", 0]), "how many values back a tensor lies"),
    "tensor before the input": (_with_node(2, ["relu", "", 9]), "how many values back a tensor lies"),
    "negative width": (_with_node(0, ["Conv2d", "0", [3, -4, 3]]), "argument 'out_channels' must be a whole number"),
    "width as float": (_with_node(0, ["Conv2d", "0", [3, 4.0, 3]]), "argument 'out_channels' must be"),
    "no stride": (_with_node(0, ["Conv2d", "0", [3, 4, 3, 0]]), "argument 'stride' must be"),
    "groups that do not divide": (_with_node(0, ["Conv2d", "0", [3, 4, 3, 1, 1, 1, 2]]), "node 0 .*divisible"),
    "padding outside the table": (_with_node(2, ["Embedding", "2", [4, 8, 4]]), "node 2 .*Padding_idx must be within"),
    "memory of a planet": (_with_node(6, ["Linear", "6", [64, 2**31 - 1]]), r"tensor '6\.weight' has another shape"),
    "more than a planet": (_with_node(6, ["Linear", "6", [2**31 - 1, 2**31 - 1]]), "node 6|another shape"),
    "too many arguments": (_with_node(2, ["relu", "", 1, 1]), "at most 1 arguments"),
    "missing argument": (_with_node(2, ["softmax", "", 1]), "argument 'dim' is missing"),
    "split into a billion": (_with_node(2, ["split", "", 1, 1, 0]), "taken apart by item"),
    "result never used": (_with_node(2, ["relu", "", 2]), "a node's result is never used"),
    "wrong width": (_with_node(2, ["transpose", "", 1, 1, 7]), "do not fit together; got: transpose"),
    "batch flattened": (_with_node(5, ["Flatten", "5", [0]]), "do not fit together|not batch-first"),
    "tensor left over": (_with_node(1, ["ReLU", "1"]), r"tensors that the network has no place for; got: 1\.bias"),
    "tensor missing": (_with_node(2, ["Linear", "2", [8, 8]]), r"tensors are missing; got: 2\.bias, 2\.weight"),
    "tie to nowhere": (lambda d: d | {"t": [["0.weight", "nowhere"]]}, "shared tensor that is not there"),
    "tie of unlike": (lambda d: d | {"t": [["0.weight", "0.bias"]]}, "not alike"),
    "tie to itself": (lambda d: d | {"t": [["0.bias", "0.bias"]]}, "shared tensor that is not there"),
    "tie of three": (lambda d: d | {"t": [["0.bias"] * 3]}, "not two names"),
    "parameter without a shape": (_with_node(0, ["parameter", "w"]), "must have a shape"),
    "parameter in a leaf that lacks it": (
        lambda d: d | {"n": [*d["n"], ["parameter", "6.odd"], ["linear", "", 2, 1]]},
        "the leaf module '6' has no parameter 'odd'",
    ),
}


class TestReading:
    @pytest.mark.parametrize("case", HOSTILE)
    def test_hostile_document(self, case: str) -> None:
        change, text = HOSTILE[case]
        document, tensors = to_document(trace(plain(), torch.randn(1, *IMAGE)))
        with pytest.raises(FormatError, match=text):
            from_document(change(copy.deepcopy(document)), tensors)

    def test_pieces_without_end_are_refused_before_they_are_made(self) -> None:
        document = {"v": 1, "in": [2**31 - 1], "n": [["unbind", "", 1, 1], ["item", "", 1, 0]]}
        with pytest.raises(FormatError, match="unbind into 2147483647 pieces; at most 4096"):
            from_document(document, {})

    @pytest.mark.parametrize(
        ("tensor", "text"),
        [
            (torch.zeros(4, 3, 3, 4), r"'0\.weight' has another shape; got: \(4, 3, 3, 4\); allowed: \(4, 3, 3, 3\)"),
            (torch.zeros(4, 3, 3, 3, dtype=torch.int64), "is of another type; got: torch.int64"),
            (torch.zeros(4, 3, 3, 3).to_sparse(), "is not a dense tensor"),
            (None, "is not a dense tensor; got: NoneType"),
        ],
    )
    def test_tensor_that_does_not_fit(self, tensor: Any, text: str) -> None:
        document, tensors = to_document(trace(plain(), torch.randn(1, *IMAGE)))
        with pytest.raises(FormatError, match=text):
            from_document(document, tensors | {"0.weight": tensor})

    def test_given_tensors_are_not_copied(self) -> None:
        document, tensors = to_document(trace(plain(), torch.randn(1, *IMAGE)))
        read = from_document(document, tensors)
        assert read.get_parameter("0.weight").data_ptr() == tensors["0.weight"].data_ptr()


_JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 9),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", "N", "-1N", "inf", "nan", "...", "a.b", "Linear", "relu", "item", "same", "float16", "0"]),
    st.lists(st.integers(-2, 4), max_size=4),
    st.dictionaries(st.sampled_from(["r", "v"]), st.integers(0, 3), max_size=1),
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    keys = range(len(value)) if isinstance(value, list) else value if isinstance(value, dict) else ()
    return [path, *(place for key in keys for place in _places(value[key], (*path, key)))]


def _mutate(data: st.DataObject, document: dict[str, Any]) -> Any:
    place = data.draw(st.sampled_from(_places(document)[1:]))
    owner: Any = document
    for key in place[:-1]:
        owner = owner[key]
    what = data.draw(st.sampled_from(["replace", "delete", "insert", "swap"]))
    if what == "delete":
        del owner[place[-1]]
    elif what == "insert" and isinstance(owner, list):
        owner.insert(place[-1], data.draw(_JUNK))
    elif what == "swap" and isinstance(owner, list):
        other = data.draw(st.integers(0, len(owner) - 1))
        owner[place[-1]], owner[other] = owner[other], owner[place[-1]]
    else:
        owner[place[-1]] = data.draw(_JUNK)
    return document


_SUBJECTS = {
    name: to_document(trace(build().eval(), torch.randn(2, *IMAGE)))
    for name, build in {
        "plain": plain,
        "transformer": Transformer,
        "residual": lambda: Residual(blocks=1),
        "made": NETWORKS["made_in_forward"],
        "shared": Shared,
    }.items()
}


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_mutated_document_is_refused_or_read_as_it_says(data: st.DataObject) -> None:
    document, tensors = copy.deepcopy(_SUBJECTS[data.draw(st.sampled_from(sorted(_SUBJECTS)))])
    for _ in range(data.draw(st.integers(1, 3))):
        document = _mutate(data, document)
    try:
        read = from_document(json.loads(json.dumps(document)), tensors)
    except FormatError:
        return
    again, own = to_document(read)
    assert from_document(json.loads(_bytes(again)), own).nodes == read.nodes
