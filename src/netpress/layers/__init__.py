"""Modules that reduction puts into a network: projections, the ways back, and input-output maps; and layers in coded form.

Projections take features (N, C, H, W) and give flat features (N, ``out_features``); each has ``feature_shape``,
``ranks``, ``out_features`` and ``lift()``. All work under ``torch.device("meta")``, for counting without memory.
"""

from netpress.layers.autoencoder import ConvDecoder, ConvEncoder
from netpress.layers.bottleneck import Bottleneck
from netpress.layers.fnn import FNN, fold_normalisation
from netpress.layers.linear_projection import LinearLift, LinearProjection
from netpress.layers.mixer import MixerBlock, MixerProjection
from netpress.layers.pce import HermiteMap
from netpress.layers.reduction_layer import ReductionLayer
from netpress.layers.succinct import SuccinctConv1d, SuccinctConv2d, SuccinctLinear
from netpress.layers.tucker import TuckerLift, TuckerProjection

__all__ = [
    "FNN",
    "Bottleneck",
    "ConvDecoder",
    "ConvEncoder",
    "HermiteMap",
    "LinearLift",
    "LinearProjection",
    "MixerBlock",
    "MixerProjection",
    "ReductionLayer",
    "SuccinctConv1d",
    "SuccinctConv2d",
    "SuccinctLinear",
    "TuckerLift",
    "TuckerProjection",
    "fold_normalisation",
]
