"""How channels pass operators place by place, and those that sum over places: sums and products tie channels."""

from __future__ import annotations

from collections.abc import Sequence

from netpress.graph import Node, Ref
from netpress.structure.atoms import Labels
from netpress.structure.flow import Arrays, Flow
from netpress.structure.modules import group_normalised
from netpress.structure.rules import arguments, axes_of, rule, where, windowed_axes, without

# ---------------------------------------------------------------- place by place


@rule(
    "neg", "abs", "exp", "log", "sqrt", "rsqrt", "reciprocal", "sin", "cos", "sign", "erf", "sigmoid", "tanh", "relu", "relu6",
    "silu", "mish", "hardswish", "hardsigmoid", "detach", "logical_not", "logsigmoid", "gelu", "leaky_relu", "elu", "softplus",
    "hardtanh", "clamp", "dropout", "dropout1d", "dropout2d", "to", "fake_quantize",
)  # fmt: skip
def _same(flow: Flow, node: Node, index: int) -> Arrays:
    return flow.of(node.inputs[0])


@rule("dynamic_quantize")
def _on_own_range(flow: Flow, node: Node, index: int) -> Arrays:
    source = node.inputs[0]
    if not flow.zeros[source]:  # zeros are in every range, so that taking them out changes none
        flow.freeze(
            flow.of(source), f"{where(node)} measures its range over places that are not 0 where channels are missing"
        )
    return flow.of(source)


@rule(
    "add", "sub", "mul", "div", "pow", "floor_divide", "gt", "ge", "lt", "le", "eq", "ne", "minimum", "maximum", "where",
    "masked_fill",
)  # fmt: skip
def _fold(flow: Flow, node: Node, index: int) -> Arrays:
    operands = [(flow.of(source), flow.shape(source)) for source in node.inputs]
    return flow.fold(operands, len(flow.shape(index)), f"{where(node)} meets a fixed tensor")


@rule("prelu")
def _prelu(flow: Flow, node: Node, index: int) -> Arrays:
    a = arguments(node)
    arrays = flow.of(a["input"].index)
    return arrays if flow.shape(a["weight"].index) == (1,) else _per_channel(flow, node, arrays, (a["weight"],))


@rule("batch_norm")
def _batch_norm(flow: Flow, node: Node, index: int) -> Arrays:
    a = arguments(node)
    vectors = [a[name] for name in ("running_mean", "running_var", "weight", "bias") if a[name] is not None]
    arrays = flow.of(a["input"].index)
    if a["running_mean"] is None:
        rank = len(flow.shape(index))
        arrays = flow.freeze_along(arrays, [0, *range(2, rank)], f"{where(node)} standardises it", stays=True)
    return _per_channel(flow, node, arrays, vectors)


@rule("group_norm")
def _group_norm(flow: Flow, node: Node, index: int) -> Arrays:
    a = arguments(node)
    arrays, atoms = group_normalised(flow, a["input"].index, a["num_groups"], where(node))
    _meet_vectors(flow, node, atoms, [a[name] for name in ("weight", "bias") if a[name] is not None])
    return arrays


def _per_channel(flow: Flow, node: Node, arrays: Arrays, vectors: Sequence[Ref]) -> Arrays:
    atoms, _ = flow.vector(arrays, 1)
    _meet_vectors(flow, node, atoms, vectors)
    return arrays


def _meet_vectors(flow: Flow, node: Node, atoms: Labels | None, vectors: Sequence[Ref]) -> None:
    """Vectors with one number a channel: tied to the channels, or frozen where those are fixed."""
    for ref in vectors:
        own, _ = flow.vector(flow.of(ref.index), 0)
        if atoms is None and own is not None:
            flow.atoms.freeze(own, f"{where(node)} is given fixed channels")
        elif atoms is not None and own is None:
            flow.atoms.freeze(atoms, f"{where(node)} has a fixed vector")
        elif atoms is not None and own is not None:
            flow.atoms.unite(atoms, own)


# ---------------------------------------------------------------- what sums over places


@rule("mean", "sum", "amax", "amin", "var")
def _reduce(flow: Flow, node: Node, index: int) -> Arrays:
    a = arguments(node)
    source = a["input"].index
    axes = axes_of(a["dim"], len(flow.shape(source)))
    kept = flow.freeze_along(flow.of(source), axes, f"{where(node)} over it")
    return kept if a["keepdim"] else [without(labels, axes) for labels in kept]


@rule("max_over")
def _max_over(flow: Flow, node: Node, index: int) -> list[Arrays]:
    made = _reduce(flow, node, index)
    return [made, made]


@rule("softmax", "log_softmax")
def _softmax(flow: Flow, node: Node, index: int) -> Arrays:
    a = arguments(node)
    axes = axes_of(a["dim"], len(flow.shape(index)))
    return flow.freeze_along(flow.of(a["input"].index), axes, f"{where(node)} is a softmax over it", stays=True)


@rule("layer_norm")
def _layer_norm(flow: Flow, node: Node, index: int) -> Arrays:
    a = arguments(node)
    for name in ("weight", "bias"):
        if a[name] is not None:
            flow.freeze(flow.of(a[name].index), f"{where(node)} normalises over it")
    rank = len(flow.shape(index))
    axes = range(rank - len(a["normalized_shape"]), rank)
    return flow.freeze_along(flow.of(a["input"].index), axes, f"{where(node)} normalises over it", stays=True)


@rule(
    "max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d",
    "adaptive_max_pool1d", "adaptive_max_pool2d", "interpolate",
)  # fmt: skip
def _spatial(flow: Flow, node: Node, index: int) -> Arrays:
    source = node.inputs[0]
    axes = windowed_axes(node.op, len(flow.shape(source)))
    return flow.freeze_along(flow.of(source), axes, f"{where(node)} pools or scales it")
