"""Networks as straight-line programs over a closed list of operators: what a file says of one. Nothing here needs torch."""

from netpress.program.document import Program
from netpress.program.leaves import Leaf, TensorSpec
from netpress.program.nodes import Node
from netpress.program.values import Batch, Ref

__all__ = ["Batch", "Leaf", "Node", "Program", "Ref", "TensorSpec"]
