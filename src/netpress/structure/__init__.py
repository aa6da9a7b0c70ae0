"""Channels: which are tied, what they cost, and cutting them out of a network.

atoms, labels          numbered channels, and where in a tensor they lie
flow                   labels for every value of a traced network: ``modules`` and ``functions`` hold a rule an operator
channels               what came of it: groups of channels that can be removed
costs                  parameters and MACs as exact functions of how many are kept
slicing                smaller tensors, or zeros in their places
"""

from netpress.structure.channels import ChannelGroup, Channels, Keep, Place
from netpress.structure.costs import Costs
from netpress.structure.slicing import mask_network, slice_network

__all__ = ["ChannelGroup", "Channels", "Costs", "Keep", "Place", "mask_network", "slice_network"]
