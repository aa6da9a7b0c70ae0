"""From any ``nn.Module`` to a `GraphNetwork`: run it twice on real tensors, with two batch sizes, and write down what
it calls.

Python is not analysed: whatever control flow the module has, it is specialised to the example. Calls are seen through
``torch.overrides.TorchFunctionMode``; leaf modules are recorded as wholes, by an instance-level ``forward`` on a deep
copy, so that nothing global is patched and the given network is not touched. Two runs of the same program must record
the same calls. An integer that is the same in both is a constant; one that grows with the batch becomes `Batch`;
anything else that differs is refused. At last the traced network is run and compared with what the module gave.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from netpress.errors import TraceError
from netpress.graph.assemble import assemble
from netpress.graph.network import GraphNetwork
from netpress.graph.recorder import Recorder
from netpress.graph.unify import unify

BATCH_SIZES = (2, 3)
TOLERANCE = 1e-6  # of the largest output; the same kernels run in the same order, so outputs are nearly always equal


def trace(network: nn.Module, example: Tensor) -> GraphNetwork:
    """A copy of ``network`` as a straight-line program over the closed list of operators.

    The network is traced in eval mode. Operators that depend on the mode (dropout, batch normalisation) follow the
    result's own ``training`` flag, which starts as the network's was. Python branches on ``self.training`` keep their
    eval side.

    Args:
        network: Any module of one tensor in and one tensor out. Untouched: neither its tensors, nor its flags, nor the
            state of random number generators change.
        example: A batch (N, ...), N >= 1. Only shape, type and device matter; its values are run.

    Raises:
        UnsupportedOperatorError: A call outside the closed list; the text names it and the module that made it.
        TraceError: The network fails on the example, does not take and give one tensor, branches on values of the
            input or on the size of the batch, or the traced network would not give the same outputs.
    """
    if not isinstance(example, Tensor) or example.dim() < 1 or example.shape[0] < 1:
        raise TraceError("the example must be a batch of at least one sample", got=_describe(example))
    cuda = [example.device] if example.device.type == "cuda" else []
    with torch.inference_mode(False), torch.no_grad(), torch.random.fork_rng(devices=cuda):
        twin = _deepcopy(network)
        training = {name: module.training for name, module in twin.named_modules()}
        twin.eval()
        batches = [_tile(example, size) for size in BATCH_SIZES]
        runs = [Recorder.record(twin, batch) for batch in batches]
        nodes, constants = unify(runs[0], runs[1], BATCH_SIZES)
        traced = assemble(
            nodes,
            twin,
            constants,
            input_shape=example.shape[1:],
            output_shape=runs[0].output.shape[1:],
            input_dtype=example.dtype,
        )
        traced.eval()
        for batch, run in zip(batches, runs, strict=True):
            _compare(traced, batch, run.output)
    _restore_training(traced, training)
    return traced


def _deepcopy(network: nn.Module) -> nn.Module:
    if not isinstance(network, nn.Module):
        raise TraceError("only an nn.Module can be traced", got=type(network).__name__)
    if isinstance(network, torch.jit.ScriptModule):
        raise TraceError("a TorchScript module cannot be traced", remedy="trace the module it was scripted from")
    # computed tensors kept as attributes (pruning masks applied, say) cannot be copied by copy; forward makes them anew
    computed = {
        id(value): value.detach().clone()
        for module in network.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    try:
        return copy.deepcopy(network, computed)
    except Exception as error:  # whatever the network's own classes raise
        raise TraceError("the network cannot be copied", got=f"{type(error).__name__}: {error}") from error


def _tile(example: Tensor, size: int) -> Tensor:
    rows = torch.arange(size, device=example.device) % example.shape[0]
    return example.detach()[rows]


def _compare(traced: GraphNetwork, batch: Tensor, expected: Tensor) -> None:
    try:
        found = traced(batch.clone())
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise TraceError("the traced network does not run", got=f"{type(error).__name__}: {error}") from error
    if found.shape == expected.shape and found.dtype == expected.dtype:
        if torch.equal(found, expected):
            return
        gap = torch.nan_to_num(found.double()) - torch.nan_to_num(expected.double())
        scale = max(1.0, float(torch.nan_to_num(expected.double()).abs().max()))
        same_nans = torch.equal(found.isnan(), expected.isnan())
        if same_nans and float(gap.abs().max()) <= TOLERANCE * scale:
            return
        got = f"a difference of up to {float(gap.abs().max()):.3g}"
    else:
        got = f"{tuple(found.shape)} {found.dtype} instead of {tuple(expected.shape)} {expected.dtype}"
    raise TraceError(
        "the traced network does not give the network's outputs",
        got=got,
        remedy="look for in-place changes of a tensor of which another view is used later, and for random numbers",
    )


def _restore_training(traced: GraphNetwork, training: Mapping[str, bool]) -> None:
    for name, module in traced.named_modules():
        module.training = training.get(name, training[""])


def _describe(example: Any) -> str:
    return f"shape {tuple(example.shape)}" if isinstance(example, Tensor) else type(example).__name__
