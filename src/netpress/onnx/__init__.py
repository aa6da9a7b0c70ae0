"""Programs as ONNX models, written by hand: numpy alone is needed, neither torch nor the package ``onnx``."""

from netpress.onnx.model import write
from netpress.onnx.wire import IR_VERSION, OPSET

__all__ = ["IR_VERSION", "OPSET", "write"]
