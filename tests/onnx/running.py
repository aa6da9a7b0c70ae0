"""A traced network beside its ONNX model in ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnxruntime
import torch
from torch import nn

import onnx
from netpress.graph import GraphNetwork, to_document, trace
from netpress.onnx import write
from netpress.program import Program


def model_of(network: GraphNetwork) -> bytes:
    document, tensors = to_document(network)
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    before = {name: array.copy() for name, array in arrays.items()}
    model = b"".join(write(Program(document), arrays))
    assert all(np.array_equal(array, before[name], equal_nan=True) for name, array in arrays.items())
    return model


def session_of(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def assert_agrees(network: nn.Module, x: torch.Tensor, within: float = 1e-5) -> onnx.ModelProto:
    """The model passes the checker and gives what the traced network gives, for one sample and for three."""
    traced = trace(network.eval(), x[:2])
    model = model_of(traced)
    read = onnx.load_from_string(model)
    onnx.checker.check_model(read, full_check=True)
    session = session_of(model)
    for count in (1, 3):
        with torch.no_grad():
            wanted = traced(x[:count]).numpy()
        found = session.run(["output"], {"input": x[:count].numpy()})[0]
        assert found.shape == wanted.shape
        assert found.dtype == wanted.dtype
        np.testing.assert_allclose(found, wanted, rtol=within, atol=within)
    assert np.isfinite(wanted.astype(np.float64)).any()
    assert not np.array_equal(wanted[0], wanted[1]), "a model that ignores its input would pass, too"
    return read
