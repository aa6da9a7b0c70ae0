"""Networks as straight-line programs: tracing, cutting, counting, and their document form."""

from netpress.graph.count import Counts, LayerCount, count
from netpress.graph.cuts import Cut, find_cut, legal_cuts, split
from netpress.graph.document import expected_tensors, from_document, to_document
from netpress.graph.fold import fold_norms
from netpress.graph.network import GraphNetwork
from netpress.graph.rewrite import insert_behind, without_identities
from netpress.graph.trace import trace
from netpress.program.nodes import Node
from netpress.program.values import Batch, Ref

__all__ = [
    "Batch",
    "Counts",
    "Cut",
    "GraphNetwork",
    "LayerCount",
    "Node",
    "Ref",
    "count",
    "expected_tensors",
    "find_cut",
    "fold_norms",
    "from_document",
    "insert_behind",
    "legal_cuts",
    "split",
    "to_document",
    "trace",
    "without_identities",
]
