"""Programs as ONNX models, written by hand: numpy alone is needed, neither torch nor the package ``onnx``."""

from netpress.onnx.model import INPUT, OUTPUT, write
from netpress.onnx.wire import IR_VERSION, OPSET

__all__ = ["INPUT", "IR_VERSION", "OPSET", "OUTPUT", "write"]
