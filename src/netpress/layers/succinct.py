"""Layers that run from the coded form of their weight: Marino et al., Neurocomputing 520 (2023), "dot product on the
compressed form".

They stand in `netpress.artifact.coded_layers`, since reading a file puts them in; here they are where layers are looked for.
"""

from netpress.artifact.coded_layers import SuccinctConv1d, SuccinctConv2d, SuccinctLayer, SuccinctLinear

__all__ = ["SuccinctConv1d", "SuccinctConv2d", "SuccinctLayer", "SuccinctLinear"]
